//! The command line, as a definition only: what each command does is in a module of its own.

mod policy;
mod remote;
mod shared;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hermesh_engine::ParameterSet;
use hermesh_mesh::{JobId, TenantId};

pub use policy::{Policy, PolicyCheck, PolicyExplain, PolicyRender};
pub use remote::{
    Cancel, Fetch, Key, KeyAudit, KeyList, KeyRevoke, KeyRotate, KeyUpload, Model, ModelList,
    ModelRegister, Status, Submit, Tenant, TenantRegister, TenantShow, Up, Watch,
};
pub use shared::{Compute, Data, Member, Mesh, Output, Report, Rows, Terms, WhatToDo};

/// Machine-learning inference on encrypted inputs.
///
/// The inputs are encrypted, and the answers decrypted, on this machine; whoever computes sees
/// neither. Inputs (X) and labels (Y) are .npy, .csv or IDX files, gzip-compressed or not,
/// recognised by content. The passphrase of a secret key comes from a prompt or from
/// HERMESH_PASSPHRASE.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "hermesh", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Show everything at once: a bundled model answers for encrypted handwritten digits.
    Demo(Demo),
    /// Turn an ONNX model into a program for encrypted inputs.
    Compile(Compile),
    /// Write the client's half of a model, which has none of its weights.
    Export(Export),
    /// Say what a hermesh file (model, key, job or answer) contains.
    Inspect(Inspect),
    /// Make the secret key of a client and the public evaluation key that goes with it.
    Keygen(Keygen),
    /// Encrypt inputs into a job.
    Encrypt(Encrypt),
    /// Compute on a job, with public material only.
    Evaluate(Evaluate),
    /// Decrypt an answer.
    Decrypt(Decrypt),
    /// Encrypt inputs, have a mesh compute, decrypt the answers.
    Infer(Box<Infer>),
    /// Measure accuracy, latency and sizes on data, encrypted and plain.
    Eval(Eval),
    /// Say what one inference costs before it runs.
    Quote(Quote),
    /// Measure how many bootstraps this machine does in a second, under each parameter set.
    Bench(Bench),
    /// Run a mesh on this machine: nats-server and the services, each a process of its own.
    Up(Up),
    /// Make yourself known to a mesh, and see what is remembered of it.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Upload, change, list and revoke evaluation keys on a mesh.
    #[command(subcommand)]
    Key(Key),
    /// Register and list models on a mesh.
    #[command(subcommand)]
    Model(Model),
    /// Check and explain who may do what in a mesh, and have nats-server enforce it.
    #[command(subcommand)]
    Policy(Policy),
    /// Send encrypted inputs to a mesh as a job.
    Submit(Box<Submit>),
    /// Say how far a job is, or list the jobs of the outbox.
    Status(Status),
    /// Follow a job, or all that have not ended, until they end.
    Watch(Watch),
    /// Fetch the answer of a job, verify its receipt, and decrypt it.
    Result(Box<Fetch>),
    /// Stop a job.
    Cancel(Cancel),
}

/// `hermesh demo`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Demo {
    /// Number of held-out digits to run.
    #[arg(long, value_name = "N", default_value = "10")]
    pub samples: NonZeroUsize,
    /// Chooses which of the held-out digits are run (never used for keys or encryption).
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
}

/// `hermesh compile`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Compile {
    /// The ONNX model.
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Typical inputs; value ranges and noise are measured on them. Of a model of several inputs, the
    /// rows of all side by side.
    #[arg(long, value_name = "X")]
    pub calibration: PathBuf,
    /// Labels of the calibration inputs, for accuracy in the report.
    #[arg(long, value_name = "Y")]
    pub labels: Option<PathBuf>,
    /// How noise is treated. [default: approximate; exact for trees]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Accuracy that may be lost, in percentage points (without --labels: agreement with the plain
    /// model). The cheapest program that keeps to it is taken; it is an error if none does.
    /// [default: a small one, and the best program if none keeps to it]
    #[arg(long, value_name = "POINTS", value_parser = shared::points)]
    pub accuracy_budget: Option<f64>,
    /// What the features may be: LOW..HIGH for all of them, or one for each with commas in between. Rows outside are
    /// refused before they are encrypted. [default: that of the ONNX file's metadata, hermesh.domain; 0..255 if the
    /// calibration file has bytes; else what the calibration rows span, which rows may leave as long as their answers
    /// hold]
    #[arg(long, value_name = "LOW..HIGH", allow_hyphen_values = true)]
    pub domain: Option<String>,
    /// What holds for every row. [default: bounded where it costs no dearer parameter set, else checked]
    #[arg(long, value_enum)]
    pub guarantee: Option<Guarantee>,
    /// Largest probability that noise changes any value of an exact program's run.
    #[arg(long, value_enum, default_value_t = FailureProbability::TwoToMinus128)]
    pub failure_probability: FailureProbability,
    /// What the client compares the features of trees with before it encrypts. Other models take no
    /// notice.
    #[arg(long, value_enum, default_value_t = Grid::Quantiles)]
    pub grid: Grid,
    /// Where to write the compiled model.
    #[arg(short, long, value_name = "MODEL.hmx")]
    pub output: PathBuf,
    /// Do not measure this machine for an estimate of the latency, which takes a few seconds.
    #[arg(long)]
    pub no_measure: bool,
    /// How much to read.
    #[command(flatten)]
    pub data: Data,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// How a program treats noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Fast: values carry a small error, as in CKKS; the report says how much accuracy it costs.
    Approximate,
    /// Answers equal the integer reference model bit for bit.
    Exact,
}

/// Why no sum of a program leaves the frame that it was scaled for, and becomes another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guarantee {
    /// For every row of the domain, by interval arithmetic. It is an error if no parameter set bears that.
    Bounded,
    /// The client follows each row through the model before it encrypts it, or refuses it.
    Checked,
}

/// What features of trees are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Grid {
    /// Points that follow from the calibration inputs and say nothing of the model's thresholds. A
    /// threshold is moved to the nearest point; the report says what that costs.
    Quantiles,
    /// The model's own thresholds: exact on every input, but it reveals them to the clients.
    Thresholds,
}

/// Probability that an exact program's run is wrong anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailureProbability {
    /// The default.
    #[value(name = "2^-128")]
    TwoToMinus128,
    /// Cheaper; still one run in 18 billion billion.
    #[value(name = "2^-64")]
    TwoToMinus64,
}

/// `hermesh export`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Export {
    /// The compiled model, whole.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Where to write the half with which clients encrypt rows and read answers.
    #[arg(short, long, value_name = "CLIENT.hmx")]
    pub output: PathBuf,
    /// Also of a model whose sums are only checked: without the model, the client then cannot tell which rows would be
    /// answered wrongly.
    #[arg(long)]
    pub unchecked: bool,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh inspect`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Inspect {
    /// A compiled model, an evaluation key, a job or an answer.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The compiled model that a job or an answer is for.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: Option<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh keygen`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Keygen {
    /// The compiled model; the keys serve every model with the same parameter set.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Directory for client.key (secret, mode 600, under a passphrase) and evaluation.key
    /// (public); created if missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name under which a mesh will know the owner of these keys: a-z, 0-9 and -.
    /// [default: made from the signing key]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<TenantId>,
    /// Replace keys that are already there; what only they decrypt is lost.
    #[arg(long)]
    pub force: bool,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh encrypt`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Encrypt {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// The inputs: one row or a batch of rows; of a model of several inputs, the rows of all side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: PathBuf,
    /// Where to write the job.
    #[arg(short, long, value_name = "JOB.ct")]
    pub output: PathBuf,
    /// Also sign it, and write JOB.headers beside it: the NATS subject and headers, one a line, with
    /// which any NATS client can publish JOB.ct as the body. The outbox keeps the job, so that
    /// `result` knows it; `submit` does not send it.
    #[arg(long)]
    pub sign: bool,
    /// With --sign, what is signed.
    #[command(flatten)]
    pub terms: Terms,
    /// Rows that would be answered wrongly.
    #[command(flatten)]
    pub rows: Rows,
    /// How much to read.
    #[command(flatten)]
    pub data: Data,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh evaluate`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Evaluate {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// The public evaluation key made by keygen.
    #[arg(long, value_name = "DIR/evaluation.key")]
    pub evaluation_key: PathBuf,
    /// The job made by encrypt.
    #[arg(long, value_name = "JOB.ct")]
    pub input: PathBuf,
    /// Where to write the encrypted answer.
    #[arg(short, long, value_name = "ANSWER.ct")]
    pub output: PathBuf,
    /// Compute that many times, with the key expanded once, to measure how long it takes: the time
    /// that is reported is the median.
    #[arg(long, value_name = "N", default_value = "1")]
    pub repetitions: NonZeroUsize,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh decrypt`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Decrypt {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// The answer, of `evaluate`, of `result --answer`, or fetched by another program.
    #[arg(long, value_name = "ANSWER.ct")]
    pub input: PathBuf,
    /// The job that it answers, if another program has fetched it: should it not decrypt, the job's
    /// input is never sent again. Answers that `result` wrote are known.
    #[arg(long, value_name = "JOB")]
    pub job: Option<JobId>,
    /// What to make of the answers.
    #[command(flatten)]
    pub output: Output,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh infer`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Infer {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// The inputs: one row or a batch of rows; of a model of several inputs, the rows of all side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: PathBuf,
    /// Rows that would be answered wrongly.
    #[command(flatten)]
    pub rows: Rows,
    /// How much to read.
    #[command(flatten)]
    pub data: Data,
    /// What to make of the answers.
    #[command(flatten)]
    pub output: Output,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// Whose keys, and which mesh, if not one in this process.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh eval`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Eval {
    /// The compiled model; the keys are made for this run and forgotten after it.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// The inputs, a row each; of a model of several inputs, the rows of all side by side.
    #[arg(long, value_name = "X")]
    pub inputs: PathBuf,
    /// What the model should say of them: a label for each row; of a model that predicts numbers, the
    /// numbers, in as many columns as it has outputs. [default: compared with the plain model only]
    #[arg(long, value_name = "Y")]
    pub labels: Option<PathBuf>,
    /// Encrypt nothing: only the model in floating point and the simulation of the noise, which takes
    /// a small part of the time.
    #[arg(long)]
    pub simulate_only: bool,
    /// Rows that would be answered wrongly.
    #[command(flatten)]
    pub rows: Rows,
    /// How much to read.
    #[command(flatten)]
    pub data: Data,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh quote`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Quote {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh bench`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Bench {
    /// Measure this set; may be given several times. [default: all of the catalogue]
    #[arg(long, value_name = "NAME", value_parser = shared::parameter_set)]
    pub parameter_set: Vec<&'static ParameterSet>,
    /// Measure the set of this compiled model, and say what it means for the model: its latency, stage
    /// by stage.
    #[arg(long, value_name = "MODEL.hmx", conflicts_with = "parameter_set")]
    pub model: Option<PathBuf>,
    /// How long to measure each set, in seconds: half of it on one thread and half on all. Making
    /// the keys and, under large sets, finishing what was begun comes on top, some seconds each.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = shared::seconds)]
    pub seconds: Duration,
    /// Where to compute.
    #[command(flatten)]
    pub compute: Compute,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}
