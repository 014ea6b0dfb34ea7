//! Options that several commands share, and the parsers of their values.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hermesh_compiler::OutOfRange;
use hermesh_engine::ParameterSet;
use hermesh_engine::parameters::CATALOGUE;
use hermesh_mesh::VerifyingKey;
use hermesh_mesh::wire::Priority;

use crate::connection::MeshAddress;
use crate::data::Limits;

/// Options of commands that compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Compute {
    /// Number of threads to compute on. [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Options of commands that read inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Data {
    /// Number of rows to read, from the first. [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// Largest input file after decompression, and largest array of inputs in memory: bytes, or with a unit (kB, MB,
    /// GB, KiB, MiB, GiB).
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub max_data: u64,
}

impl Data {
    /// Limits for the readers.
    pub fn limits(&self) -> Limits {
        Limits { bytes: self.max_data, rows: self.limit.map(NonZeroUsize::get) }
    }
}

/// Options of commands that encrypt rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Rows {
    /// Treatment of rows that leave the declared domain or would get a wrong answer (a sum would wrap around, or
    /// clamping would move an output by more than the model allows). [default: refuse]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub out_of_range: Option<WhatToDo>,
}

/// See [`Rows::out_of_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhatToDo {
    /// Stop without encrypting anything.
    Refuse,
    /// Move features to the edge of the domain; the answer is that of the changed row.
    Clamp,
    /// Encrypt the row unchanged; its answer may be wrong.
    Keep,
}

impl Rows {
    /// Policy for the compiler's library.
    pub fn policy(self) -> OutOfRange {
        match self.out_of_range {
            None | Some(WhatToDo::Refuse) => OutOfRange::Refuse,
            Some(WhatToDo::Clamp) => OutOfRange::Clamp,
            Some(WhatToDo::Keep) => OutOfRange::Keep,
        }
    }
}

/// Options of commands that connect to a mesh in other processes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Mesh {
    /// Address of the mesh. Another machine is refused without --insecure-plaintext, because the connection is plain
    /// NATS: connect through the sidecar or a tunnel instead. [default: the address stored by `tenant register`]
    #[arg(long, value_name = "nats://HOST:PORT", env = "HERMESH_MESH")]
    pub mesh: Option<MeshAddress>,
    /// Allow plain NATS to another machine, over a network that you trust: an attacker on it can see who sends which
    /// job when, and can alter messages.
    #[arg(long)]
    pub insecure_plaintext: bool,
    /// Receipt signing key to trust, in hexadecimal; may be given several times. Receipts signed with other keys are
    /// refused. [default: the keys stored by `tenant register`]
    #[arg(long = "service-key", value_name = "HEX")]
    pub service_keys: Vec<VerifyingKey>,
}

/// Options of commands for members of a mesh.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Member {
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// Mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// Report format.
    #[command(flatten)]
    pub report: Report,
}

/// Options of commands that sign jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Terms {
    /// Time from now after which the mesh drops the job: a number and s, m, h or d; at most 24h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = deadline)]
    pub deadline: Duration,
    /// Priority of the job among your own jobs: low, normal or high.
    #[arg(long, value_name = "PRIORITY", default_value = "normal")]
    pub priority: Priority,
}

/// Options of commands that decrypt answers.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Output {
    /// Also write the decrypted results as .npy: labels as int64, scores as float64.
    #[arg(short = 'o', long = "output", value_name = "Y.npy")]
    pub file: Option<PathBuf>,
    /// Print scores instead of labels. Scores of approximate models reveal a little about the client key; hermesh
    /// counts this in revealed.json next to the keys and refuses further scores past a limit, about 130 scores per key
    /// (docs/scores.md). Labels count much less; exact models reveal nothing.
    #[arg(long)]
    pub scores: bool,
    /// Round the model's outputs to multiples of STEP before scores are computed. Smaller steps reveal more about the
    /// client key and count for more. [default: 4 standard deviations of the noise; no rounding for exact models]
    #[arg(long, value_name = "STEP", requires = "scores", value_parser = step)]
    pub resolution: Option<f64>,
    /// Round scores only to half a standard deviation of the noise, and not at all with --private. Such scores count
    /// for several bits each.
    #[arg(long, requires = "scores", conflicts_with = "resolution")]
    pub raw: bool,
    /// Declare that only you see the output; nothing is counted or refused.
    #[arg(long)]
    pub private: bool,
    /// Before rounding, add normal noise of SIGMAS times the standard deviation of the noise already present. Scores
    /// become coarser and count for less: with 10, about 10 times coarser, and a key lasts for about 12,500 scores
    /// instead of 130. [default: none]
    #[arg(long, value_name = "SIGMAS", conflicts_with = "private", value_parser = sigmas)]
    pub share_noise: Option<f64>,
}

/// Options of commands that report results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Report {
    /// Print one JSON document to standard output instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Percentage points.
pub(super) fn points(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
        _ => Err("expected percentage points from 0 to 100, such as 0.5".to_owned()),
    }
}

fn step(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(step) if step.is_normal() && step > 0.0 => Ok(step),
        _ => Err("expected a positive number, such as 0.01".to_owned()),
    }
}

/// A multiple of the standard deviation of the noise already present. Less than a tenth would hide nothing.
fn sigmas(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (0.1..=1e6).contains(&times) => Ok(times),
        _ => Err("expected a number from 0.1 to 1000000, such as 10".to_owned()),
    }
}

/// A set of the catalogue.
pub(super) fn parameter_set(name: &str) -> Result<&'static ParameterSet, String> {
    ParameterSet::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = CATALOGUE.iter().map(|set| set.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Seconds, with or without a fraction; at most an hour.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3_600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds from 0 to 3600, such as 2 or 0.5".to_owned()),
    }
}

/// Bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => Some(1),
        "kB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|&size| size > 0)
        .ok_or_else(|| "expected a size such as 500MB or 2GiB".to_owned())
}

/// Time, with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(seconds)
        .and_then(|(number, seconds)| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a time such as 90s, 10m, 24h or 2d".to_owned())
}

fn deadline(text: &str) -> Result<Duration, String> {
    let within = duration(text)?;
    if within.is_zero() || within > hermesh_mesh::topology::MAX_DEADLINE {
        return Err("expected a time from 1s to 24h".to_owned());
    }
    Ok(within)
}
