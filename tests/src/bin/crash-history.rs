//! `crash-history`: see `--help`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand};
use hermesh_mesh::{
    bus::BusHandle,
    nats_server::{NatsServer, NatsServerOptions},
};
use hermesh_tests::{
    history::{
        cluster::{Cluster, EVENTS},
        events::{self, Counts},
        faults,
        role::{self, Engine, Process},
        rotation::{self, Rotations},
        sidecars::{self, SidecarProcess},
        trust::{OBSERVER, tenant},
        workload::{self, Outcomes, StubWorkload, Workload},
    },
    real::RealWorkload,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Runs jobs on real processes and a real nats-server while services are killed (SIGKILL), stopped and
/// continued, and nats-server is killed and restarted, at random moments that a seed determines. Then
/// counts the jobs and shards that were lost, answered twice, wrong or computed again, and the messages
/// left behind. With sidecars, these are killed and stopped as well, and their rejections count as errors,
/// because no message is forged.
///
/// Exit code 0 if there was no error and every kind of fault occurred, else 1.
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
    /// Run one service of a history.
    #[command(hide = true)]
    Service(Process),
    /// Run one sidecar of a history.
    #[command(hide = true)]
    Sidecar(SidecarProcess),
}

#[derive(Args)]
struct History {
    /// Jobs of three stages each.
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// The seed that determines the moments of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of tenants that submit them.
    #[arg(long, default_value_t = 8)]
    tenants: usize,
    /// Real encryption instead of the stub; fewer jobs are enough then.
    #[arg(long)]
    real: bool,
    /// No faults, for comparison.
    #[arg(long)]
    calm: bool,
    /// Mutual TLS, and a sidecar between each service or tenant and nats-server.
    #[arg(long)]
    sidecars: bool,
    /// Instead of faults, replaces every certificate this many times while jobs run, and counts the
    /// connections dropped by that.
    #[arg(long, value_name = "TIMES", requires = "sidecars", conflicts_with = "calm")]
    rotate: Option<u32>,
    /// Seconds after which unfinished jobs count as lost.
    #[arg(long, default_value_t = 3000, value_name = "SECONDS")]
    patience: u64,
    /// Keep the events, the logs and the server's files here. [default: a temporary directory, which is
    /// kept after an error]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What is logged unless `HERMESH_LOG` is set: errors and the sidecars' rejections, without the failed
/// connections while a server or a sidecar is down.
const LOGGED: &str = "error,async_nats=off,hermesh_sidecar=warn";

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("HERMESH_LOG").unwrap_or_else(|_| LOGGED.into()))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Service(process)) => role::run(&process)?,
        Some(Command::Sidecar(process)) => sidecars::run(&process)?,
        None => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            return runtime.block_on(history(&cli.history));
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout)]
async fn history(options: &History) -> Result<ExitCode> {
    let temporary = tempfile::tempdir()?;
    let directory = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let verdict = run(options, &directory).await;
    if !matches!(verdict, Ok(true)) {
        if options.keep.is_none() {
            // Keep the files, so that the error can be examined.
            let _ = temporary.keep();
        }
        println!("events and logs are in {}", directory.display());
    }
    Ok(if verdict? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one history and returns whether it was without errors.
#[allow(clippy::print_stdout)]
async fn run(options: &History, directory: &Path) -> Result<bool> {
    let (engine, workload): (_, Arc<dyn Workload>) = match options.real {
        true => (Engine::Real, Arc::new(RealWorkload::new())),
        false => (Engine::Stub, Arc::new(StubWorkload)),
    };
    let (mut cluster, bus, tenants) = start(options, engine, directory).await?;
    // Keep all connections until the end: tenants that disconnected with their last job would be counted as
    // dropped.
    let _connected = tenants.clone();

    let outcomes = Arc::new(Outcomes::default());
    let started = Instant::now();
    let mut work = tokio::spawn(workload::run(tenants, workload, options.jobs, outcomes.clone()));
    let progress = tokio::spawn(progress(outcomes.clone(), options.jobs));
    let (stop, stopped) = watch::channel(false);
    let faults = async {
        let (mut counts, mut rotations) = (BTreeMap::new(), None);
        match options.rotate {
            Some(times) => {
                let jobs = options.jobs;
                let rotated = rotation::rotate(&mut cluster, times, jobs, &outcomes, stopped);
                rotations = Some(rotated.await?);
            }
            None if options.calm => faults::calm(&mut cluster, stopped).await?,
            None => counts = faults::rage(&mut cluster, options.seed, stopped).await?,
        }
        Ok((counts, rotations))
    };
    // An error ends both at once; jobs that do not end in time do not.
    let waiting = async {
        let done = match timeout(Duration::from_secs(options.patience), &mut work).await {
            Ok(done) => done?.map(|()| true)?,
            Err(_) => false,
        };
        let _ = stop.send(true);
        anyhow::Ok(done)
    };
    let ((counts, rotations), done) = tokio::try_join!(faults, waiting)?;
    let seconds = started.elapsed().as_secs_f64();
    if !done {
        println!("some jobs have not ended in time; they may still, now that nothing goes wrong");
        if let Ok(done) = timeout(Duration::from_secs(120), work).await {
            done??;
        }
    }
    progress.abort();
    let left = workload::settled(&bus).await?;
    let rejections = cluster.figures().await?.rejections;
    drop(cluster);
    println!("seed {}: {} jobs in {seconds:.0} s", options.seed, options.jobs);
    for (fault, times) in &counts {
        println!("  {times:>6} × {fault}");
    }
    let events = events::read(&directory.join(EVENTS))?;
    let mut well = report(options.jobs, &outcomes, events, &left);
    well &= counts.values().all(|times| *times > 0);
    if options.sidecars {
        println!("  refused by sidecars since each was started last: {rejections:?}");
        // A connection may be cut between a request and its reply. A reply on another connection is then
        // rejected, as nats-server would do. The requester lost its connection too, or repeats the request.
        let cut = |what: &String| !counts.is_empty() && what == "out unasked";
        well &= rejections.keys().all(cut);
    }
    if let Some(rotations) = rotations {
        println!("{}", told(&rotations));
        well &= rotations.harmless();
    }
    Ok(well)
}

/// Starts everything, and connects the observer and all tenants.
async fn start(
    options: &History,
    engine: Engine,
    directory: &Path,
) -> Result<(Cluster, BusHandle, Vec<BusHandle>)> {
    let program = std::env::current_exe()?;
    if !options.sidecars {
        let server = NatsServer::start(NatsServerOptions::new(directory.join("nats"))).await?;
        let cluster = Cluster::start(server, &program, engine, directory)?;
        let bus = role::connect(&cluster.server.url()).await;
        return Ok((cluster, bus.clone(), vec![bus; options.tenants]));
    }
    let cluster = Cluster::start_with_sidecars(&program, engine, directory, options.tenants);
    let cluster = cluster.await?;
    let connect = async |workload: &str| match cluster.sidecar_of(workload) {
        Some(sidecar) => Ok(role::connect_as(workload, &sidecar.url()).await),
        None => Err(anyhow!("{workload} has no sidecar")),
    };
    let bus = connect(OBSERVER).await?;
    let mut tenants = Vec::new();
    for number in 0..options.tenants {
        tenants.push(connect(&format!("tenant/{}", tenant(number))).await?);
    }
    Ok((cluster, bus, tenants))
}

fn told(rotations: &Rotations) -> String {
    let Rotations { times, certificates, longest, ended, connected } = rotations;
    format!(
        "  {times:>6} rotations of every certificate, {certificates} in all; the longest took {:.1} s\n  \
           {:>6} connections dropped at sidecars {ended:?}\n  \
           {connected:>6} connections made anew at nats-server",
        longest.as_secs_f64(),
        ended.values().sum::<u64>(),
    )
}

#[allow(clippy::print_stdout)]
async fn progress(outcomes: Arc<Outcomes>, total: usize) {
    let started = Instant::now();
    let mut every = tokio::time::interval(Duration::from_secs(10));
    loop {
        let seconds = (every.tick().await - started).as_secs_f64();
        println!("{seconds:>6.0} s: {} of {total} jobs ended", outcomes.ended());
    }
}

/// Prints the results of the jobs, and returns whether they are as required.
#[allow(clippy::print_stdout)]
fn report(
    jobs: usize,
    outcomes: &Outcomes,
    events: Counts,
    left: &BTreeMap<&'static str, usize>,
) -> bool {
    let [right, wrong, refused] =
        [&outcomes.right, &outcomes.wrong, &outcomes.refused].map(|n| n.load(Ordering::Relaxed));
    let lost = jobs - right - wrong;
    let Counts { shards, evaluations, delivered_again, recomputed, answered_twice, .. } = events;
    println!("  {right:>6} right");
    println!("  {lost:>6} lost");
    println!("  {wrong:>6} wrong");
    println!("  {answered_twice:>6} answered twice");
    println!("  {evaluations:>6} evaluations of {shards} shards, of which");
    println!("  {:>6} because the first died before it was stored", events.repeated_before_stored);
    println!("  {delivered_again:>6} finished shards delivered again, of which");
    println!("  {recomputed:>6} computed again");
    println!("  {refused:>6} submissions refused by quota, and repeated");
    println!("  left behind: {left:?}");
    lost + wrong + answered_twice + recomputed + left.values().sum::<usize>() == 0
}
