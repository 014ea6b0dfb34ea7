//! The issuer of certificates as a program, and the client that asks it for one. Who gets which
//! certificate is decided in [`hermesh_mesh::issuer`].

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

/// The longest body, either way.
const MAX_BODY: usize = 64 << 10;
/// Where certificates are asked for.
const CERTIFICATE: &str = "/v1/certificate";
/// Where the roots are.
const ROOTS: &str = "/v1/roots";
/// Whether certificates can be had.
const HEALTH: &str = "/healthz";

/// What a workload sends.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    csr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
}

/// Text that is wiped.
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
