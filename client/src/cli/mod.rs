//! Definition of the command line with `clap`. The commands themselves are in `commands`.

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
/// Inputs are encrypted and answers decrypted on this machine. The services that compute see neither. Inputs (X) and
/// labels (Y) are .npy, .csv or IDX files, plain or gzip-compressed; the format is recognised by content. The
/// passphrase of the client key comes from a prompt or from HERMESH_PASSPHRASE.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "hermesh", version)]
pub struct Cli {
    /// Command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Run a bundled model on encrypted handwritten digits.
    Demo(Demo),
    /// Compile an ONNX model into a program for encrypted inputs.
    Compile(Compile),
    /// Write the client model: it encrypts rows and decrypts answers without the weights.
    Export(Export),
    /// Describe a hermesh file: a model, a key, a job or an answer.
    Inspect(Inspect),
    /// Make a secret client key and its public evaluation key.
    Keygen(Keygen),
    /// Encrypt inputs into a job.
    Encrypt(Encrypt),
    /// Compute the encrypted answer of a job from the job, the model and the evaluation key.
    Evaluate(Evaluate),
    /// Decrypt an answer.
    Decrypt(Decrypt),
    /// Encrypt inputs, have a mesh compute on them, and decrypt the answers.
    Infer(Box<Infer>),
    /// Measure accuracy, latency and sizes of a model on data, encrypted and plain.
    Eval(Eval),
    /// Estimate latency and sizes of one inference on this machine, without running it.
    Quote(Quote),
    /// Measure bootstraps per second on this machine under each parameter set.
    Bench(Bench),
    /// Run a mesh on this machine: nats-server and the services, one process each.
    ///
    /// Needs nats-server and the programs of hermesh-programs, in the directory of this program or in the search path;
    /// with --secure also hermesh-sidecar. A service that dies is restarted. Ctrl-C or SIGTERM stops all of them in
    /// order.
    Up(Up),
    /// Register a tenant with a mesh, and show what is stored about the mesh.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Upload, rotate, list and revoke evaluation keys on a mesh.
    #[command(subcommand)]
    Key(Key),
    /// Register and list models on a mesh.
    #[command(subcommand)]
    Model(Model),
    /// Check and explain the access policy of a mesh, and write the nats-server configuration that enforces it.
    #[command(subcommand)]
    Policy(Policy),
    /// Send encrypted inputs to a mesh as a job.
    ///
    /// Prints the job's id. The job is written to DIR/outbox before it is sent. If sending is interrupted, the same
    /// message is sent again from there. The outbox holds up to 1000 jobs that have not ended; of ended jobs it keeps
    /// the headers of the newest 256. An input whose answer did not decrypt is never sent again.
    Submit(Box<Submit>),
    /// Show the progress of a job, or list the jobs of the outbox.
    Status(Status),
    /// Follow a job, or all jobs that have not ended, until they end.
    ///
    /// Draws progress bars on a terminal and prints lines elsewhere; with --json, one document per line.
    Watch(Watch),
    /// Fetch the answer of a job, verify its receipt, and decrypt it.
    Result(Box<Fetch>),
    /// Stop a job.
    Cancel(Cancel),
}

/// `hermesh demo`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Demo {
    /// Number of test digits to run.
    #[arg(long, value_name = "N", default_value = "10")]
    pub samples: NonZeroUsize,
    /// Seed that selects the test digits. It is never used for keys or encryption.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
}

/// `hermesh compile`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Compile {
    /// The ONNX model.
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Typical inputs, on which value ranges and noise are measured. If the model has several inputs, each row holds
    /// all of them side by side.
    #[arg(long, value_name = "X")]
    pub calibration: PathBuf,
    /// Labels of the calibration inputs, with which the report states accuracy.
    #[arg(long, value_name = "Y")]
    pub labels: Option<PathBuf>,
    /// Treatment of noise. [default: approximate; exact for trees]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Largest loss of accuracy, in percentage points; without --labels, of agreement with the plain model. The
    /// cheapest program within the budget is chosen; compilation fails if there is none. [default: a small budget, or
    /// the most accurate program if none meets it]
    #[arg(long, value_name = "POINTS", value_parser = shared::points)]
    pub accuracy_budget: Option<f64>,
    /// Range of the features: one LOW..HIGH for all, or one per feature separated by commas. Rows outside it are
    /// refused before encryption. [default: hermesh.domain in the ONNX metadata; else 0..255 if the calibration file
    /// holds bytes; else the range of the calibration rows, outside which a row is accepted if its answer is still
    /// right]
    #[arg(long, value_name = "LOW..HIGH", allow_hyphen_values = true)]
    pub domain: Option<String>,
    /// Protection against sums that wrap around and decrypt to a wrong number. [default: bounded if that needs no
    /// larger parameter set, else checked]
    #[arg(long, value_enum)]
    pub guarantee: Option<Guarantee>,
    /// Largest probability that noise changes any value in one run of an exact program.
    #[arg(long, value_enum, default_value_t = FailureProbability::TwoToMinus128)]
    pub failure_probability: FailureProbability,
    /// Points that the client compares the features of tree models with before encryption. Ignored for other models.
    #[arg(long, value_enum, default_value_t = Grid::Quantiles)]
    pub grid: Grid,
    /// File to write the compiled model to.
    #[arg(short, long, value_name = "MODEL.hmx")]
    pub output: PathBuf,
    /// Skip the measurement of this machine that the latency estimate needs; it takes a few seconds.
    #[arg(long)]
    pub no_measure: bool,
    /// Input limits.
    #[command(flatten)]
    pub data: Data,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// Treatment of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Fast: values carry a small error, as in CKKS; the report states the loss of accuracy.
    Approximate,
    /// Answers equal the integer reference model bit for bit, except with the failure probability.
    Exact,
}

/// Protection against sums that leave the frame they were scaled for: they wrap around and decrypt to a wrong number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guarantee {
    /// Interval arithmetic proves that no row of the domain overflows. Compilation fails if no parameter set allows
    /// this.
    Bounded,
    /// The client evaluates each row in the clear before encryption, and refuses rows that would overflow.
    Checked,
}

/// Points that features of trees are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Grid {
    /// Quantiles of the calibration inputs, which do not reveal the model's thresholds. Each threshold is moved to the
    /// nearest point; the report states the effect.
    Quantiles,
    /// The model's own thresholds: exact on every input, but clients see them.
    Thresholds,
}

/// Probability that any value in one run of an exact program is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailureProbability {
    /// Default.
    #[value(name = "2^-128")]
    TwoToMinus128,
    /// Cheaper: one run in 1.8 · 10¹⁹.
    #[value(name = "2^-64")]
    TwoToMinus64,
}

/// `hermesh export`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Export {
    /// The compiled model, as written by compile.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// File to write the client model to.
    #[arg(short, long, value_name = "CLIENT.hmx")]
    pub output: PathBuf,
    /// Export a model compiled with guarantee `checked` too. Its clients cannot detect rows that would get wrong
    /// answers. [default: refuse such a model]
    #[arg(long)]
    pub unchecked: bool,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh inspect`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Inspect {
    /// A compiled model, a key, a job or an answer.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The compiled model of the job or answer; required for these.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: Option<PathBuf>,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh keygen`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Keygen {
    /// The compiled model. The keys work with every model that has the same parameter set.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Directory for client.key (secret, mode 600, encrypted with a passphrase) and evaluation.key (public). Created
    /// if missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tenant name of the owner of these keys on a mesh: a-z, 0-9 and -. [default: derived from the tenant signing
    /// key]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<TenantId>,
    /// Replace existing keys. Answers that only the old client key decrypts are lost. [default: refuse]
    #[arg(long)]
    pub force: bool,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
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
    /// The inputs: one row or a batch of rows. If the model has several inputs, each row holds all of them side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: PathBuf,
    /// File to write the job to.
    #[arg(short, long, value_name = "JOB.ct")]
    pub output: PathBuf,
    /// Also sign the job and write JOB.headers next to it: the NATS subject and headers, one per line, with which any
    /// NATS client can publish JOB.ct as the body. The outbox keeps the job so that `result` finds it; `submit` does
    /// not send it.
    #[arg(long)]
    pub sign: bool,
    /// Signing options, used with --sign.
    #[command(flatten)]
    pub terms: Terms,
    /// Rows that would get wrong answers.
    #[command(flatten)]
    pub rows: Rows,
    /// Input limits.
    #[command(flatten)]
    pub data: Data,
    /// Report format.
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
    /// File to write the encrypted answer to.
    #[arg(short, long, value_name = "ANSWER.ct")]
    pub output: PathBuf,
    /// Number of times to compute, to measure the time; the median is reported. The evaluation key is expanded once.
    #[arg(long, value_name = "N", default_value = "1")]
    pub repetitions: NonZeroUsize,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
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
    /// The answer, from `evaluate`, from `result --answer`, or fetched by another program.
    #[arg(long, value_name = "ANSWER.ct")]
    pub input: PathBuf,
    /// The job of an answer that another program fetched. If the answer does not decrypt, the input of this job is
    /// never sent again. For answers that `result` wrote, the job is known.
    #[arg(long, value_name = "JOB")]
    pub job: Option<JobId>,
    /// Output.
    #[command(flatten)]
    pub output: Output,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh infer`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Infer {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// The inputs: one row or a batch of rows. If the model has several inputs, each row holds all of them side by
    /// side.
    #[arg(long, value_name = "X")]
    pub input: PathBuf,
    /// Rows that would get wrong answers.
    #[command(flatten)]
    pub rows: Rows,
    /// Input limits.
    #[command(flatten)]
    pub data: Data,
    /// Output.
    #[command(flatten)]
    pub output: Output,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Keys and mesh; without a mesh, the services run in this process.
    #[command(flatten)]
    pub member: Member,
}

/// `hermesh eval`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Eval {
    /// The compiled model. Keys are made for this run and discarded after it.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// The inputs, one per row. If the model has several inputs, each row holds all of them side by side.
    #[arg(long, value_name = "X")]
    pub inputs: PathBuf,
    /// The true results: one label per row, or for a model that predicts numbers one column per output. [default: none,
    /// compare with the plain model only]
    #[arg(long, value_name = "Y")]
    pub labels: Option<PathBuf>,
    /// Do not encrypt: run the model in floating point and simulate the noise. Much faster.
    #[arg(long)]
    pub simulate_only: bool,
    /// Rows that would get wrong answers.
    #[command(flatten)]
    pub rows: Rows,
    /// Input limits.
    #[command(flatten)]
    pub data: Data,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh quote`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Quote {
    /// The compiled model.
    #[arg(long, value_name = "MODEL.hmx")]
    pub model: PathBuf,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// `hermesh bench`
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Bench {
    /// Parameter set to measure; may be given several times. [default: all sets of the catalogue]
    #[arg(long, value_name = "NAME", value_parser = shared::parameter_set)]
    pub parameter_set: Vec<&'static ParameterSet>,
    /// Measure the parameter set of this compiled model, and estimate the model's latency, stage by stage.
    #[arg(long, value_name = "MODEL.hmx", conflicts_with = "parameter_set")]
    pub model: Option<PathBuf>,
    /// Time to measure each set, in seconds: half of it on one thread, half on all. Key generation, and under large
    /// sets the last bootstraps, take a few seconds more.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = shared::seconds)]
    pub seconds: Duration,
    /// Threads.
    #[command(flatten)]
    pub compute: Compute,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}
