//! Commands about the policy of a mesh.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hermesh_mesh::policy::Verb;

use super::shared::{Report, size};

/// `hermesh policy`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Policy {
    /// Print the policy that comes with hermesh: the beginning of your own.
    Default,
    /// Look for mistakes in a policy, and show who may do anything.
    Check(PolicyCheck),
    /// Say whether an identity may do something, and which line decides.
    Explain(PolicyExplain),
    /// Print the configuration of a nats-server that enforces the policy: mutual TLS 1.3, one user for
    /// each identity.
    Render(PolicyRender),
}

/// `hermesh policy check`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct PolicyCheck {
    /// The policy. [default: the one that comes with hermesh]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh policy explain`
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    override_usage = "hermesh policy explain [FILE] <SUBJECT> --identity <IDENTITY> --verb <VERB>"
)]
pub struct PolicyExplain {
    /// The policy. [default: the one that comes with hermesh]
    // Or the subject, where the file is left out: clap has no optional argument before another.
    #[arg(value_name = "FILE")]
    pub file_or_subject: String,
    /// With what: a subject, or a filter of subjects; for pull and declare a queue, for http a path.
    #[arg(value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Who: KIND/NAME, tenant/acme say, or the whole SPIFFE ID.
    #[arg(long, value_name = "IDENTITY")]
    pub identity: String,
    /// What to do: publish, subscribe, serve, pull, read, purge, declare or http.
    #[arg(long, value_name = "VERB")]
    pub verb: Verb,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

impl PolicyExplain {
    /// The policy, if it is not the default, and the subject.
    pub fn file_and_subject(&self) -> (Option<&Path>, &str) {
        match &self.subject {
            Some(subject) => (Some(Path::new(&self.file_or_subject)), subject),
            None => (None, &self.file_or_subject),
        }
    }
}

/// `hermesh policy render`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct PolicyRender {
    /// The policy. [default: the one that comes with hermesh]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where nats-server listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4223")]
    pub listen: SocketAddr,
    /// Its certificate and those between it and a root, in PEM.
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The roots of the trust domain, in PEM.
    #[arg(long, value_name = "FILE")]
    pub roots: PathBuf,
    /// Where it keeps its streams.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Where it logs. [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Port of the loopback address where it shows its state, to whoever asks. [default: none]
    #[arg(long, value_name = "PORT")]
    pub monitoring: Option<u16>,
    /// The largest message: bytes, or with a unit (kB, MB, KiB, MiB).
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    pub max_payload: u64,
    /// Let TLS come before everything else; for nats-server 2.10 and later.
    #[arg(long)]
    pub handshake_first: bool,
    /// Write each message to the disk before it is acknowledged; for nats-server 2.10 and later.
    #[arg(long)]
    pub sync_always: bool,
}
