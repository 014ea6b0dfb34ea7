//! `hermesh-bench` compares hermesh's pipeline with the [`conventional`] one, in one run on one model and one machine.
//!
//! This process is the client of both: it compiles, makes keys, encrypts and decrypts. The server of each pipeline is a
//! separate [`remote`] process that sees only public material, so its peak memory is measured separately, and the bytes
//! on the pipe are those that would cross a network. The pipelines take turns on each input, so that background load
//! affects all pipelines equally.

mod bus;
mod compare;
mod conventional;
mod data;
mod exact;
mod hermesh;
mod leak;
mod machine;
mod remote;
mod report;
mod scaling;
mod sidecar;
mod statistics;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use hermesh_compiler::Options;

use data::Files;
use remote::Kind;

#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Subcommand)]
enum Command {
    /// Run one pipeline's server on standard input and output.
    #[command(hide = true)]
    Serve { kind: Kind, threads: NonZeroUsize },
    /// Measure how the mesh scales over NATS, from one worker to many. Bootstraps are simulated by a timer, so that a
    /// few cores can model many machines.
    Scaling(scaling::Scaling),
    /// Measure each operation of the bus on NATS.
    Bus(bus::BusCosts),
    /// Measure how a flood of one tenant's jobs affects the latency of another tenant, over NATS.
    Fairness(scaling::fairness::Fairness),
    /// Measure the cost of sidecars, compared with direct connections to nats-server over mutual TLS.
    Sidecar(sidecar::Sidecars),
    /// Attack the client key through shown scores and labels, and estimate the work that is left to find it.
    #[command(subcommand)]
    Leak(leak::Leak),
    /// Compare answers of exact programs with whole-number arithmetic on adversarial rows. Exits with 1 if one differs.
    Exact(exact::Exact),
    /// Run one sidecar until standard input ends.
    #[command(hide = true)]
    OneSidecar { config: PathBuf },
}

#[derive(Args)]
struct Compare {
    #[command(flatten)]
    files: Files,
    /// Largest loss of accuracy of hermesh's program, in percentage points, as in `hermesh compile`. [default: that of
    /// `hermesh compile`]
    #[arg(long, value_name = "POINTS")]
    accuracy_budget: Option<f64>,
    /// Number of inputs that each pipeline runs, in turns.
    #[arg(long, value_name = "N", default_value = "5")]
    repetitions: NonZeroUsize,
    /// Number of threads of each server. [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Also measure the conventional pipeline with operators fused: one bootstrap per neuron.
    #[arg(long)]
    fused: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let Cli { command, compare } = Cli::parse();
    match command {
        Some(Command::Serve { kind, threads }) => return remote::serve(kind, threads),
        Some(Command::Scaling(options)) => return conclude(&scaling::run(&options)?),
        Some(Command::Bus(options)) => return print(&bus::run(&options)?),
        Some(Command::Fairness(options)) => return conclude(&scaling::fairness::run(&options)?),
        Some(Command::Sidecar(options)) => return conclude(&sidecar::run(&options)?),
        Some(Command::Leak(leak)) => return print(&leak::run(&leak)?),
        Some(Command::Exact(options)) => {
            let (text, wrong) = exact::run(&options)?;
            print(&text)?;
            ensure!(wrong == 0, "{wrong} answers differ from whole-number arithmetic");
            return Ok(());
        }
        Some(Command::OneSidecar { config }) => return sidecar::one(&config),
        None => {}
    }
    let threads = match compare.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?,
    };
    let mut kinds = vec![Kind::Hermesh, Kind::Conventional];
    kinds.extend(compare.fused.then_some(Kind::Fused));
    let samples = data::read(&compare.files)?;
    let options = Options { accuracy_budget: compare.accuracy_budget, ..Options::default() };
    let report = compare::run(&samples, options, &kinds, compare.repetitions.get(), threads)?;
    let text = match compare.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.to_string(),
    };
    print(&text)
}

/// Prints the measurement, and fails if it does not pass its check.
fn conclude(measured: &scaling::Measured) -> Result<()> {
    print(&measured.text)?;
    ensure!(measured.shortfalls.is_empty(), "{}", measured.shortfalls.join("; "));
    Ok(())
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
