//! Options that several commands have, and how their values are read.

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
    /// Threads to compute on. [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Options of commands that read inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Data {
    /// Use only the first N rows. [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// Largest input file after decompression, and largest table in memory: bytes, or with a unit
    /// (kB, MB, GB, KiB, MiB, GiB).
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub max_data: u64,
}

impl Data {
    /// The same for the readers.
    pub fn limits(&self) -> Limits {
        Limits { bytes: self.max_data, rows: self.limit.map(NonZeroUsize::get) }
    }
}

/// Options of commands that encrypt rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Rows {
    /// What is done with a row whose answer would be wrong (a sum would leave its frame, or clamping would move an
    /// output further than the model states) or that leaves a declared domain: refuse it; clamp its features into the
    /// domain, and answer for the row so changed; or keep it as it is. [default: refuse]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub out_of_range: Option<WhatToDo>,
}

/// See [`Rows::out_of_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhatToDo {
    /// Nothing is encrypted.
    Refuse,
    /// Features are moved to the edge of the domain.
    Clamp,
    /// It is encrypted as it is, and its answer may be wrong.
    Keep,
}

impl Rows {
    /// The same for the compiler's library.
    pub fn policy(self) -> OutOfRange {
        match self.out_of_range {
            None | Some(WhatToDo::Refuse) => OutOfRange::Refuse,
            Some(WhatToDo::Clamp) => OutOfRange::Clamp,
            Some(WhatToDo::Keep) => OutOfRange::Keep,
        }
    }
}

/// Options of commands that speak to a mesh in other processes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Mesh {
    /// Address of the mesh. Plain NATS is spoken to this machine only, unless --insecure-plaintext: run
    /// it through the sidecar or a tunnel. [default: that of `tenant register`]
    #[arg(long, value_name = "nats://HOST:PORT", env = "HERMESH_MESH")]
    pub mesh: Option<MeshAddress>,
    /// Speak plain NATS to another machine, over a network that you trust: whoever is on it sees who
    /// asks what and when, and may cut in.
    #[arg(long)]
    pub insecure_plaintext: bool,
    /// Trust receipts signed with this key and no other; may be given several times.
    /// [default: those stored by `tenant register`]
    #[arg(long = "service-key", value_name = "HEX")]
    pub service_keys: Vec<VerifyingKey>,
}

/// Options of commands for members of a mesh.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Member {
    /// Directory made by keygen.
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// Which mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// How to report.
    #[command(flatten)]
    pub report: Report,
}

/// Options of commands that sign jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Terms {
    /// How long the answer is of use, from now: a number and s, m, h or d; at most 24h. What is not
    /// computed by then is dropped.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = deadline)]
    pub deadline: Duration,
    /// How much the job matters among your own: low, normal or high.
    #[arg(long, value_name = "PRIORITY", default_value = "normal")]
    pub priority: Priority,
}

/// Options of commands that decrypt answers.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Output {
    /// Also write the answers as .npy: labels as int64, scores as float64.
    #[arg(short = 'o', long = "output", value_name = "Y.npy")]
    pub file: Option<PathBuf>,
    /// Scores instead of labels. Of an approximate model they carry noise that depends on the secret
    /// key: what they tell is counted in revealed.json beside the keys, before they are shown, and
    /// refused past the bound of docs/scores.md, some hundred scores. Labels are counted too, and
    /// tell much only where two are nearly equal. Exact models tell nothing.
    #[arg(long)]
    pub scores: bool,
    /// Round the model's outputs to multiples of this before scores are made of them. Finer ones tell
    /// more about the secret key, and count for more. [default: what the model states: 4 standard
    /// deviations of the noise, or no rounding for exact models]
    #[arg(long, value_name = "STEP", requires = "scores", value_parser = step)]
    pub resolution: Option<f64>,
    /// Round scores only to half a standard deviation of the noise, with --private not at all. Such
    /// scores are for yourself: they count for more than others, and may use up a new key at once.
    #[arg(long, requires = "scores", conflicts_with = "resolution")]
    pub raw: bool,
    /// Only you see the output: nothing is counted or refused.
    #[arg(long)]
    pub private: bool,
    /// Add normal noise of so many standard deviations of the noise that is there, before rounding:
    /// scores count for less, and are so much coarser. 10 makes them some 10 times as coarse, and a
    /// key lasts for some 12,000 scores instead of some hundred.
    #[arg(long, value_name = "SIGMAS", conflicts_with = "private", value_parser = sigmas)]
    pub share_noise: Option<f64>,
}

/// Options of commands that report results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Report {
    /// Print one JSON document on standard output instead of text.
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

/// Times the standard deviation of what is there: below a tenth it would hide nothing.
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
