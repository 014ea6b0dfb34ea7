//! Identities: ed25519 signing keys of tenants and services, and certificates of workloads.

mod certificate;
mod credentials;
mod signing;
mod spiffe_id;

pub use certificate::{CertificateError, Chain, Peer, Purpose, Trust};
pub use credentials::Credentials;
pub use signing::{Signature, SigningKey, Transcript, VerifyingKey};
pub use spiffe_id::{SpiffeId, inbox};
