//! `crash-history`: see `--help`.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use hermesh_tests::{
    history::{
        cluster::Cluster,
        events, faults,
        role::{self, Engine, Process},
        workload::{self, Outcomes, StubWorkload, Workload},
    },
    real::RealWorkload,
};
use tokio::{sync::watch, time::Instant};

/// Runs jobs on real processes and a real nats-server while services are killed (SIGKILL), stopped
/// and continued, and nats-server is killed and restarted, at random moments that follow from a seed;
/// then counts what was lost, answered twice, wrong, computed again, or left behind.
///
/// Exit code 0 if nothing was, else 1.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    history: History,
}

#[derive(Subcommand)]
enum Command {
    /// One service of a history.
    #[command(hide = true)]
    Service(Process),
}

#[derive(Args)]
struct History {
    /// Jobs of three stages each.
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// What the moments of the faults follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tenants that submit them.
    #[arg(long, default_value_t = 8)]
    tenants: usize,
    /// Real encryption in place of the stub; fewer jobs are enough then.
    #[arg(long)]
    real: bool,
    /// No faults, for comparison.
    #[arg(long)]
    calm: bool,
    /// Seconds after which jobs that have not ended count as lost.
    #[arg(long, default_value_t = 3000, value_name = "SECONDS")]
    patience: u64,
    /// Keep the logs and the server's files here. [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("HERMESH_LOG").unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    if let Some(Command::Service(process)) = cli.command {
        role::run(&process)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(history(&cli.history))
}

#[allow(clippy::print_stdout)]
async fn history(options: &History) -> Result<ExitCode> {
    let temporary = tempfile::tempdir()?;
    let directory = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let logs = directory.join("logs");
    std::fs::create_dir_all(&logs).context("cannot create the directory of the logs")?;
    let server = NatsServer::start(NatsServerOptions::new(directory.join("nats"))).await?;
    let url = server.url();
    let (engine, workload): (_, Arc<dyn Workload>) = match options.real {
        true => (Engine::Real, Arc::new(RealWorkload::new())),
        false => (Engine::Stub, Arc::new(StubWorkload)),
    };
    let mut cluster = Cluster::start(server, &std::env::current_exe()?, engine, &logs)?;
    let bus = role::connect(&url).await;

    let outcomes = Arc::new(Outcomes::default());
    let (stop, stopped) = watch::channel(false);
    let started = Instant::now();
    let jobs = (options.jobs, options.tenants);
    let work = tokio::spawn(workload::run(bus.clone(), workload, jobs, outcomes.clone()));
    let watching = outcomes.clone();
    let total = options.jobs;
    let patience = Duration::from_secs(options.patience);
    let clock = tokio::spawn(async move {
        while watching.ended() < total && started.elapsed() < patience && !stop.is_closed() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if started.elapsed().as_millis() % 10_000 < 100 {
                println!(
                    "{:>6.0} s: {} of {total} jobs ended",
                    started.elapsed().as_secs_f64(),
                    watching.ended()
                );
            }
        }
        let _ = stop.send(true);
    });
    let counts = if options.calm {
        let mut stopped = stopped;
        let _ = stopped.wait_for(|stop| *stop).await;
        Default::default()
    } else {
        faults::rage(&mut cluster, options.seed, stopped).await?
    };
    clock.await?;
    let seconds = started.elapsed().as_secs_f64();
    // What did not end in time may still, now that nothing goes wrong any more.
    if tokio::time::timeout(Duration::from_secs(120), work).await.is_err() {
        println!("some jobs have not ended two minutes after the last fault");
    }
    let left = workload::settled(&bus).await?;
    drop(cluster);
    let events = events::read(&logs)?;

    let [right, wrong, refused] =
        [&outcomes.right, &outcomes.wrong, &outcomes.refused].map(|n| n.load(Ordering::Relaxed));
    let lost = options.jobs - right - wrong;
    println!("seed {}: {} jobs in {seconds:.0} s, {right} right", options.seed, options.jobs);
    for (fault, times) in &counts {
        println!("  {times:>6} × {fault}");
    }
    println!("  {lost:>6} lost");
    println!("  {wrong:>6} wrong");
    println!("  {:>6} answered twice", events.answered_twice);
    println!("  {:>6} shards computed again after their result was stored", events.recomputed);
    println!(
        "  {:>6} shards of {} computed again because the first attempt died before it was stored",
        events.repeated_before_stored, events.shards
    );
    println!("  {refused:>6} submissions refused for want of room, and made again");
    println!("  left behind: {left:?}");
    let left: usize = left.values().sum();
    let bad = lost + wrong + events.answered_twice + events.recomputed + left;
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
