//! Commands about the policy of a mesh.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hermesh_mesh::policy::Verb;

use super::shared::{Report, size};

/// `hermesh policy`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Policy {
    /// Print the default policy, as a starting point for your own.
    Default,
    /// Check a policy for mistakes, and list the identities that it admits.
    Check(PolicyCheck),
    /// Print whether an identity may do something, and which line of the policy decides.
    Explain(PolicyExplain),
    /// Print a nats-server configuration that enforces the policy, with mutual TLS 1.3 and one user per identity.
    Render(PolicyRender),
}

/// `hermesh policy check`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct PolicyCheck {
    /// The policy. [default: the policy that `hermesh policy default` prints]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh policy explain`
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    override_usage = "hermesh policy explain [FILE] <SUBJECT> --identity <IDENTITY> --verb <VERB>"
)]
pub struct PolicyExplain {
    /// The policy. [default: the policy that `hermesh policy default` prints]
    // The subject, if the file is left out: clap has no optional argument before another.
    #[arg(value_name = "FILE")]
    pub file_or_subject: String,
    /// Subject or subject filter; for pull and declare a queue, for http a path.
    #[arg(value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Identity: KIND/NAME, such as tenant/acme, or a whole SPIFFE ID.
    #[arg(long, value_name = "IDENTITY")]
    pub identity: String,
    /// Action: publish, subscribe, serve, pull, read, purge, declare or http.
    #[arg(long, value_name = "VERB")]
    pub verb: Verb,
    /// Report format.
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
    /// The policy. [default: the policy that `hermesh policy default` prints]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Address that nats-server listens on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4223")]
    pub listen: SocketAddr,
    /// Certificate of nats-server followed by its intermediate certificates, in PEM.
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Private key of nats-server, in PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Root certificates of the trust domain, in PEM.
    #[arg(long, value_name = "FILE")]
    pub roots: PathBuf,
    /// Directory where nats-server keeps its streams.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Log file of nats-server. [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Port of nats-server's monitoring pages, on the loopback address and without authentication. [default: none]
    #[arg(long, value_name = "PORT")]
    pub monitoring: Option<u16>,
    /// Largest message: bytes, or with a unit (kB, MB, KiB, MiB).
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    pub max_payload: u64,
    /// Start every connection with the TLS handshake, before nats-server's INFO line; needs nats-server 2.10 or later.
    #[arg(long)]
    pub handshake_first: bool,
    /// Write each message to disk before acknowledging it; needs nats-server 2.10 or later.
    #[arg(long)]
    pub sync_always: bool,
}
