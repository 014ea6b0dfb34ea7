//! Options of the commands that connect to a mesh in other processes.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use hermesh_mesh::{Digest, JobId, TenantId};

use super::shared::{Compute, Data, Member, Output, Report, Rows, Terms, duration};

/// `hermesh tenant`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Tenant {
    /// Register the tenant's name and signing key with a mesh, and store the mesh's address.
    ///
    /// The first registration stores the mesh's receipt signing keys in DIR/mesh.json and prints them: compare them
    /// with those that the operator publishes. From then on, answers signed with other keys are refused.
    Register(TenantRegister),
    /// Show what is stored: the tenant, its mesh, and the trusted receipt signing keys.
    Show(TenantShow),
}

/// `hermesh tenant register`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct TenantRegister {
    /// Trust the receipt signing keys that the mesh states now, instead of the stored ones. [default: refuse if they
    /// differ]
    #[arg(long)]
    pub accept_new_keys: bool,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh tenant show`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct TenantShow {
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh key`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Key {
    /// Upload DIR/evaluation.key; an interrupted upload continues where it stopped.
    Upload(KeyUpload),
    /// Make new keys, upload the evaluation key in place of the current one, and use them from then on.
    ///
    /// The mesh admits jobs under both evaluation keys until the overlap ends. The old client key stays in DIR/old, to
    /// decrypt the answers that are still outstanding. If the command is interrupted, run it again.
    Rotate(KeyRotate),
    /// List the tenant's evaluation keys.
    List(KeyList),
    /// Revoke an evaluation key, immediately and permanently.
    Revoke(KeyRevoke),
    /// Show the audit log of the tenant's keys and models.
    Audit(KeyAudit),
}

/// `hermesh key upload`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyUpload {
    /// The evaluation key that the upload replaces: its SHA-256, 64 hexadecimal digits. [default: none]
    #[arg(long, value_name = "DIGEST")]
    pub replaces: Option<Digest>,
    /// Time for which new jobs may still use the replaced key: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "replaces",
          value_parser = duration)]
    pub overlap: Duration,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key rotate`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyRotate {
    /// Time for which new jobs may still use the old key: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub overlap: Duration,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key list`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyList {
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key revoke`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyRevoke {
    /// SHA-256 of the evaluation key, 64 hexadecimal digits.
    #[arg(value_name = "DIGEST")]
    pub key: Digest,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key audit`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyAudit {
    /// Number of entries to show, newest first.
    #[arg(long, value_name = "N", default_value = "50")]
    pub limit: NonZeroU16,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh model`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Model {
    /// Upload the program of a compiled model; labels and ranges stay on this machine.
    Register(ModelRegister),
    /// List the models that the tenant has registered.
    List(ModelList),
}

/// `hermesh model register`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ModelRegister {
    /// The compiled model.
    #[arg(value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh model list`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ModelList {
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh submit`
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["input", "job", "pending"]))]
pub struct Submit {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx", required_unless_present = "pending")]
    pub model: Option<PathBuf>,
    /// The inputs: one row or a batch of rows. If the model has several inputs, each row holds all of them side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: Option<PathBuf>,
    /// The job made by encrypt.
    #[arg(long, value_name = "JOB.ct")]
    pub job: Option<PathBuf>,
    /// Send the jobs that an earlier submit wrote to the outbox and may not have sent.
    #[arg(long, conflicts_with_all = ["model", "wait"])]
    pub pending: bool,
    /// Wait for the answer, verify it and decrypt it. If the mesh is at capacity, wait and send the same input again,
    /// at most 20 times.
    #[arg(long)]
    pub wait: bool,
    /// Signing options.
    #[command(flatten)]
    pub terms: Terms,
    /// Input limits.
    #[command(flatten)]
    pub data: Data,
    /// Rows that would get wrong answers.
    #[command(flatten)]
    pub rows: Rows,
    /// Output, used with --wait.
    #[command(flatten)]
    pub output: Output,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh status`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Status {
    /// The job. [default: list the outbox, without contacting the mesh]
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh watch`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Watch {
    /// The job. [default: all jobs that were sent and have not ended]
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh result`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Fetch {
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// The compiled model. Without it, the answer is fetched and verified but not decrypted.
    #[arg(long, value_name = "MODEL.hmx", required_unless_present = "answer")]
    pub model: Option<PathBuf>,
    /// File to write the encrypted answer to, for `hermesh decrypt`. [default: not written]
    #[arg(long, value_name = "ANSWER.ct")]
    pub answer: Option<PathBuf>,
    /// Wait until the answer is there.
    #[arg(long)]
    pub wait: bool,
    /// Output.
    #[command(flatten)]
    pub output: Output,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh cancel`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Cancel {
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Keys and mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh up`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Up {
    /// Number of evaluation workers.
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroUsize,
    /// Port of the NATS server on 127.0.0.1; 0 for any free port.
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub port: u16,
    /// Directory for streams, logs (DIR/logs) and the receipt signing key. DIR/evaluation.toml, if present, configures
    /// the evaluation service; other services have a file each. [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Zero trust: every process has a certificate, connects through a sidecar with mutual TLS, and may do only what
    /// DIR/policy.toml allows. The root, the policy and the certificates are created; an existing policy is kept, and
    /// changes to it take effect while the mesh runs. Writes DIR/prometheus.yml, with which Prometheus collects the
    /// metrics.
    #[arg(long)]
    pub secure: bool,
    /// Tenant of a secure mesh; may be given several times. Each tenant gets a sidecar on this machine, on the ports
    /// after that of the NATS server; pass its address as --mesh to that tenant's commands. [default: the tenants that
    /// DIR/policy.toml admits]
    #[arg(long = "tenant", value_name = "NAME", requires = "secure")]
    pub tenants: Vec<TenantId>,
    /// Threads of all workers together.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}
