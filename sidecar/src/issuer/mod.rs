//! The issuer of certificates as a program, and its client. [`hermesh_mesh::issuer`] decides which workload
//! gets which certificate.

mod attempts;
mod client;
mod command;
mod http;
mod server;
mod tls;

pub use client::{Answer, Ask, CertificateAuthority, Client, ClientError};
pub use command::{Cli, Command, Error, main, run};
pub use server::{Bound, Options, bind};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The maximum size of a body, in either direction.
const MAX_BODY: usize = 64 << 10;
/// The path for requesting a certificate.
const CERTIFICATE: &str = "/v1/certificate";
/// The path of the roots.
const ROOTS: &str = "/v1/roots";
/// The path that tells whether the issuer can issue certificates.
const HEALTH: &str = "/healthz";

/// The body of a request for a certificate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    csr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
}

/// Text that is wiped from memory when dropped.
struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}
