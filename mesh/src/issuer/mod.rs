//! A small certificate issuer, for machines without cert-manager or SPIRE.
//!
//! A workload proves its identity once with a join token that was created for it, and later with
//! its current certificate. The name in a new certificate comes from that proof, never from the
//! request.

mod authority;
mod csr;
mod directory;
pub mod files;
mod issue;
mod keep;
mod token;

pub use authority::{Authority, Grant, Uses};
pub use csr::{KeyAndRequest, MAX_REQUEST};
pub use directory::{Directory, DirectoryError};
pub use issue::{
    Issued, Issuer, IssuerError, LONGEST, Lifetime, OWN, Proof, Request, SHORTEST, SKEW, grant,
};
pub use keep::{Files, KeepError, Keeper, Renewed};
pub use token::{MAX_HOSTS, Token, TokenError, Tokens};
