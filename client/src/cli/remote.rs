//! Commands that speak to a mesh in other processes.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use hermesh_mesh::{Digest, JobId, TenantId};

use super::shared::{Compute, Data, Member, Output, Report, Rows, Terms, duration};

/// `hermesh tenant`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Tenant {
    /// Bind the tenant's name to its signing key, and remember the mesh.
    ///
    /// The keys that the mesh signs receipts with are stored in DIR/mesh.json the first time they are
    /// seen, and printed: compare them with what the operator says. Answers signed with others are
    /// refused from then on.
    Register(TenantRegister),
    /// Show what is remembered: the tenant, its mesh, whose receipts are trusted.
    Show(TenantShow),
}

/// `hermesh tenant register`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct TenantRegister {
    /// Trust the keys that the mesh states now, in the place of those stored before.
    #[arg(long)]
    pub accept_new_keys: bool,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh tenant show`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct TenantShow {
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh key`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Key {
    /// Upload DIR/evaluation.key. An upload that was cut off goes on where it stopped.
    Upload(KeyUpload),
    /// Make a new pair of keys, upload it in the place of the current one, and use it from then on.
    ///
    /// The mesh admits jobs under both keys until the overlap is over. The old secret key stays in
    /// DIR/old, for the answers that are still to come. Run it again if it was cut off.
    Rotate(KeyRotate),
    /// List the tenant's evaluation keys.
    List(KeyList),
    /// Withdraw an evaluation key at once and for good.
    Revoke(KeyRevoke),
    /// Show what was done to the tenant's keys and models.
    Audit(KeyAudit),
}

/// `hermesh key upload`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyUpload {
    /// The evaluation key that it takes the place of: its SHA-256.
    #[arg(long, value_name = "DIGEST")]
    pub replaces: Option<Digest>,
    /// For how long new jobs may still use the replaced key: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "replaces",
          value_parser = duration)]
    pub overlap: Duration,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key rotate`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyRotate {
    /// For how long new jobs may still use the old key: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub overlap: Duration,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key list`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyList {
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key revoke`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyRevoke {
    /// The evaluation key: its SHA-256, 64 hexadecimal digits.
    #[arg(value_name = "DIGEST")]
    pub key: Digest,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh key audit`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct KeyAudit {
    /// Show the newest N entries.
    #[arg(long, value_name = "N", default_value = "50")]
    pub limit: NonZeroU16,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh model`
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Model {
    /// Upload a compiled model's program, which services see; labels and ranges stay here.
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
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh model list`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ModelList {
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh submit`
///
/// Prints the job's id. The job is written to DIR/outbox before it is sent, and sent again from there,
/// as the same message, if that was cut off. The outbox holds up to 1000 jobs that have not ended; of
/// those that have, only the headers stay, of the newest 256. An input whose answer did not decrypt is
/// never sent again.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["input", "job", "pending"]))]
pub struct Submit {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx", required_unless_present = "pending")]
    pub model: Option<PathBuf>,
    /// The inputs: one row or a batch of rows; of a model of several inputs, the rows of all side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: Option<PathBuf>,
    /// A job made by encrypt.
    #[arg(long, value_name = "JOB.ct")]
    pub job: Option<PathBuf>,
    /// Send what an earlier submit wrote to the outbox and may not have sent.
    #[arg(long, conflicts_with_all = ["model", "wait"])]
    pub pending: bool,
    /// Wait for the answer and decrypt it. If the mesh has no room, wait for that as well, and send the
    /// same input again, at most 20 times.
    #[arg(long)]
    pub wait: bool,
    /// What is signed.
    #[command(flatten)]
    pub terms: Terms,
    /// How much to read.
    #[command(flatten)]
    pub data: Data,
    /// Rows that would be answered wrongly.
    #[command(flatten)]
    pub rows: Rows,
    /// With --wait, what to make of the answers.
    #[command(flatten)]
    pub output: Output,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh status`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Status {
    /// The job; without one, the outbox is listed, and nobody is asked.
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh watch`
///
/// Shows bars on a terminal, and lines elsewhere; with --json one document a line.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Watch {
    /// The job; without one, all that were sent and have not ended.
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh result`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Fetch {
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// The compiled model; without it, the answer is fetched and verified, but not decrypted.
    #[arg(long, value_name = "MODEL.hmx", required_unless_present = "answer")]
    pub model: Option<PathBuf>,
    /// Also write the answer as it came, encrypted, which `hermesh decrypt` reads.
    #[arg(long, value_name = "ANSWER.ct")]
    pub answer: Option<PathBuf>,
    /// Wait until there is an answer.
    #[arg(long)]
    pub wait: bool,
    /// What to make of the answers.
    #[command(flatten)]
    pub output: Output,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh cancel`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Cancel {
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Whose keys, which mesh.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh up`
///
/// Needs nats-server and the programs of hermesh-programs, beside this one or in the search path; with
/// --secure hermesh-sidecar too. A service that dies is started again. Ctrl-C or SIGTERM ends all of them in order.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Up {
    /// Evaluation workers.
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroUsize,
    /// Port of the NATS server on 127.0.0.1; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub port: u16,
    /// Where streams, logs (DIR/logs) and the key that signs receipts are kept. A file
    /// DIR/evaluation.toml configures the service of that name, likewise the others.
    /// [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Zero trust: whoever is in the mesh has a certificate and speaks through a sidecar, over mutual
    /// TLS, and may do what DIR/policy.toml says and nothing else. Root, policy and certificates are
    /// made; a policy that is there is kept, and followed when it changes. DIR/prometheus.yml has
    /// Prometheus collect the figures.
    #[arg(long)]
    pub secure: bool,
    /// A tenant of a secure mesh; may be given several times. Each gets a sidecar on this machine, on
    /// the ports after that of the NATS server: its address is the mesh for that tenant's commands.
    /// [default: those that DIR/policy.toml admits]
    #[arg(long = "tenant", value_name = "NAME", requires = "secure")]
    pub tenants: Vec<TenantId>,
    /// Threads to compute on, of all workers together.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}
