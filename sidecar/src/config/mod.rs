//! The configuration of a sidecar: plain data, checked before anything binds or connects.

mod check;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use hermesh_mesh::config::{self, Variables};
pub use hermesh_mesh::config::{Environment, Error, Format, Level, Log, Origin, Problem};
use serde::{Deserialize, Serialize};

pub use crate::proxy::Handshake;

/// The file with every option, its default, unit and meaning.
pub const DOCUMENTED: &str = include_str!("../../config/sidecar.toml");

/// The environment variables that are options. The service may share the sidecar's environment; it ignores
/// variables with this prefix.
const VARIABLES: Variables = Variables { prefix: "HERMESH_SIDECAR_", others: &[] };

/// The configuration: defaults, overridden by the file, overridden by the environment.
///
/// # Errors
/// The first option that cannot be parsed, or all options that are out of range.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, Error> {
    config::load(&Config::default(), file, environment, VARIABLES, check::problems)
}

/// The configuration of a sidecar.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The policy file.
    pub policy: PathBuf,
    /// How long open connections may continue during shutdown before they are cut.
    #[serde(rename = "drain_seconds", with = "hermesh_mesh::seconds")]
    pub drain: Duration,
    /// The workload's certificate.
    pub identity: Identity,
    /// The broker.
    pub upstream: Upstream,
    /// Where the service connects.
    pub listen: Listen,
    /// The service's health and metrics, for other workloads.
    pub http: Http,
    /// The sidecar's own health and metrics, for probes.
    pub health: Health,
    /// Logs.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: "policy.toml".into(),
            drain: Duration::from_secs(5),
            identity: Identity::default(),
            upstream: Upstream::default(),
            listen: Listen::default(),
            http: Http::default(),
            health: Health::default(),
            log: Log::default(),
        }
    }
}

/// Where the workload's certificate comes from. The table is flat because `kind`, which says which of its
/// options apply, may come from the environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The source of the certificate.
    pub kind: Kind,
    /// The workload that the certificate must name, in the policy's trust domain. None: any workload,
    /// except with the issuer, which needs a name to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Files: the chain, leaf first.
    pub certificate: PathBuf,
    /// Files: the leaf's private key.
    pub key: PathBuf,
    /// Files and issuer: the roots of the trust domain.
    pub roots: PathBuf,
    /// Issuer: its address, `https://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Issuer: the file with the token that lets the workload join. None: it has joined before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
    /// Issuer: where key and certificate are kept.
    pub directory: PathBuf,
    /// Workload API: its socket. None: the value of `SPIFFE_ENDPOINT_SOCKET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            kind: Kind::Files,
            workload: None,
            certificate: "certificate.pem".into(),
            key: "key.pem".into(),
            roots: "roots.pem".into(),
            address: None,
            token: None,
            directory: "identity".into(),
            socket: None,
        }
    }
}

/// The sources of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Files that another program keeps up to date.
    Files,
    /// hermesh's own issuer.
    Issuer,
    /// A SPIFFE Workload API.
    WorkloadApi,
}

/// How to reach the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The servers, `tls://host:port`, separated by commas; see [`Self::addresses`].
    pub servers: String,
    /// When TLS begins.
    pub handshake: Handshake,
    /// The workload, in our trust domain, that the server's certificate must name.
    pub identity: String,
    /// How long connecting may take, TLS included.
    #[serde(rename = "connect_timeout_seconds", with = "hermesh_mesh::seconds")]
    pub connect_timeout: Duration,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            servers: "tls://127.0.0.1:4223".into(),
            handshake: Handshake::AfterInfo,
            identity: "broker/nats".into(),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl Upstream {
    /// The servers as `host:port`, in the order in which they are written.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.servers.split(',').map(|server| {
            let server = server.trim();
            server.strip_prefix(TLS).unwrap_or(server)
        })
    }
}

/// The scheme of a server's address.
const TLS: &str = "tls://";

/// Where the service connects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// A loopback address; port 0 is any free one.
    pub address: SocketAddr,
    /// A Unix socket, used instead of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: local(4222), socket: None }
    }
}

/// The service's health and metrics, for workloads that the policy allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where they are served, over mutual TLS. None: they are not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where the service serves them; a loopback address.
    pub service: SocketAddr,
    /// How long the service may take to answer.
    #[serde(rename = "answer_timeout_seconds", with = "hermesh_mesh::seconds")]
    pub answer_timeout: Duration,
    /// The maximum number of simultaneous connections.
    pub max_connections: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: None,
            service: local(9401),
            answer_timeout: Duration::from_secs(10),
            max_connections: 64,
        }
    }
}

/// The sidecar's own health and metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// A loopback address; port 0 is any free one.
    pub listen: SocketAddr,
}

impl Default for Health {
    fn default() -> Self {
        Self { listen: local(9501) }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
