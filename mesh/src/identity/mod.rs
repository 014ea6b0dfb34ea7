//! Who is who: what a tenant or a service signs by hand, and the certificates of workloads.

mod certificate;
mod credentials;
mod signing;
mod spiffe_id;

pub use certificate::{CertificateError, Chain, Peer, Purpose, Trust};
pub use credentials::Credentials;
pub use signing::{Signature, SigningKey, Transcript, VerifyingKey};
pub use spiffe_id::{SpiffeId, inbox};
