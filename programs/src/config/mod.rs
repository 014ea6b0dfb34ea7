//! Configuration: one TOML file, environment variables over it, checked as a whole before anything
//! binds or connects.
//!
//! `toml` and serde rather than a configuration library: those convert types silently (2.7 becomes
//! 3), and lose the line that a mistake is in.

mod check;
mod load;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use check::{Problem, Range};
pub use load::{Environment, Error, Origin, load};

/// The configuration of one program; `O` are its service's options.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config<O> {
    /// The file with the key that signs receipts; aggregation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// How long work in hand may take at the end before it is handed back.
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
    /// The name that the broker shows for the connection; none: the program's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Servers that keep each stream.
    pub replicas: usize,
    /// How long one request to the broker may take.
    #[serde(rename = "request_timeout_seconds", with = "hermesh_mesh::seconds")]
    pub request_timeout: Duration,
    /// For how long a publish is repeated while the broker is away.
    #[serde(rename = "publish_patience_seconds", with = "hermesh_mesh::seconds")]
    pub publish_patience: Duration,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            name: None,
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
    /// Whether that may be another address than a loopback one.
    pub allow_remote: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), allow_remote: false }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level logged.
    pub level: Level,
    /// For people or for machines.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Text }
    }
}

/// How severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where traces go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector's base address; none: no traces are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}
