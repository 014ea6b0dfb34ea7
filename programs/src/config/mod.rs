//! The parts that all programs' configurations share; see [`hermesh_mesh::config`].

mod check;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use hermesh_mesh::config::{self, Variables};
pub use hermesh_mesh::config::{Environment, Error, Format, Level, Log, Origin, Problem, Range};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The environment variables that are options.
const VARIABLES: Variables = Variables {
    prefix: "HERMESH_",
    others: &["HERMESH_LOG", "HERMESH_MESH", "HERMESH_PASSPHRASE", "HERMESH_SIDECAR_"],
};

/// The configuration: `defaults`, overridden by the file, overridden by the environment. `signs` says
/// whether the program needs an identity; `ranges` are those of its service's options.
///
/// # Errors
/// The first option that cannot be parsed, or all options that are out of range.
pub fn load<O>(
    defaults: &Config<O>,
    file: Option<&Path>,
    environment: &Environment,
    ranges: &[Range],
    signs: bool,
) -> Result<Config<O>, Error>
where
    O: Serialize + DeserializeOwned + Default,
{
    config::load(defaults, file, environment, VARIABLES, |config, table| {
        check::problems(config, table, ranges, signs)
    })
}

/// The configuration of one program; `O` are its service's options.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config<O> {
    /// The file with the receipt signing key; aggregation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// How long work in hand may continue during shutdown before it is returned to the queues.
    #[serde(rename = "drain_seconds", with = "hermesh_mesh::seconds")]
    pub drain: Duration,
    /// The broker.
    pub nats: Nats,
    /// Health and metrics.
    pub http: Http,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub otlp: Otlp,
    /// The service's own options.
    pub service: O,
}

impl<O: Default> Default for Config<O> {
    fn default() -> Self {
        Self {
            identity: None,
            drain: Duration::from_secs(20),
            nats: Nats::default(),
            http: Http::default(),
            log: Log::default(),
            otlp: Otlp::default(),
            service: O::default(),
        }
    }
}

/// How to reach the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Its address, or those of its servers, separated by commas.
    pub url: String,
    /// The name that the broker shows for the connection. None: the program's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The inbox for replies to this program. None: the inbox of its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbox: Option<String>,
    /// The number of servers that store each stream.
    pub replicas: usize,
    /// How long one request to the broker may take.
    #[serde(rename = "request_timeout_seconds", with = "hermesh_mesh::seconds")]
    pub request_timeout: Duration,
    /// How long to repeat a publish while the broker is unreachable.
    #[serde(rename = "publish_patience_seconds", with = "hermesh_mesh::seconds")]
    pub publish_patience: Duration,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            name: None,
            inbox: None,
            replicas: 1,
            request_timeout: Duration::from_secs(5),
            publish_patience: Duration::from_secs(30),
        }
    }
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address; port 0 is any free one.
    pub listen: SocketAddr,
    /// Whether the address may be other than loopback.
    pub allow_remote: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), allow_remote: false }
    }
}

/// The destination of traces.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector's base address. None: traces are not exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}
