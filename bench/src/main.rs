//! `hermesh-bench` compares, in one run on one model and one machine, hermesh's pipeline with the
//! [`conventional`] one.
//!
//! This process is the client of both: it compiles, makes keys, encrypts and decrypts. Each
//! pipeline's server is a [`remote`] process of its own that sees public material only, so its peak
//! memory is its own, and what crosses the pipe to it is what would cross a network. The pipelines
//! take turns on one input after the other, so noise from the rest of the machine hits all alike.

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
    /// One pipeline's server, on standard input and output.
    #[command(hide = true)]
    Serve { kind: Kind, threads: NonZeroUsize },
    /// How the mesh scales over NATS: throughput and latency from one worker to many, whose bootstrap
    /// is a timed wait, so that a few cores can stand for many machines.
    Scaling(scaling::Scaling),
    /// What the bus on NATS costs, operation by operation.
    Bus(bus::BusCosts),
    /// What a flood of one tenant does to the latency of another, over NATS.
    Fairness(scaling::fairness::Fairness),
    /// What sidecars cost, compared with connections over mutual TLS straight to the server.
    Sidecar(sidecar::Sidecars),
    /// How much of the secret key scores and labels give away: the attack, and what work it leaves.
    #[command(subcommand)]
    Leak(leak::Leak),
    /// Answers of exact programs against whole-number arithmetic, on random and adversarial rows. Exits 1 where one
    /// differs.
    Exact(exact::Exact),
    /// One sidecar, until its input ends.
    #[command(hide = true)]
    OneSidecar { config: PathBuf },
}

#[derive(Args)]
struct Compare {
    #[command(flatten)]
    files: Files,
    /// Points of accuracy that hermesh's compiler may lose, as in `hermesh compile`.
    #[arg(long, value_name = "POINTS")]
    accuracy_budget: Option<f64>,
    /// How many inputs each pipeline answers, in turns.
    #[arg(long, value_name = "N", default_value = "5")]
    repetitions: NonZeroUsize,
    /// Threads of each server. [default: one per core]
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
