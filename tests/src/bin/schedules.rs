//! Runs seeded fault schedules against the whole mesh in memory, and checks invariants.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use hermesh_tests::faults::{
    fault::Kind,
    history::{History, Violation},
    plan::{Plan, Sabotage},
    run::run,
};

/// Runs seeded schedules of drop, delay, duplicate, reorder, crash and broker restart against all services
/// in memory, on a paused clock, and checks that no job is lost, answered twice or wrong. The exit code is
/// 1 if an invariant is violated.
#[derive(Debug, Parser)]
#[command(name = "schedules")]
struct Options {
    /// The seeds to run, the last one excluded.
    #[arg(long, value_name = "FIRST..END", default_value = "0..10000", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Run this seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print the history of each schedule.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many schedules run at the same time; by default the number of cores.
    #[arg(long)]
    threads: Option<usize>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let parse = || {
        let (first, end) = text.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    parse().ok_or_else(|| format!("expected two numbers like 0..10000, got {text:?}"))
}

/// The totals of all schedules so far.
#[derive(Default)]
struct Total {
    jobs: u64,
    events: u64,
    crashes: u64,
    redeliveries: u64,
    evaluated: u64,
    repeated: u64,
    faults: BTreeMap<Kind, u64>,
    ends: BTreeMap<String, u64>,
    bad: BTreeMap<u64, Vec<Violation>>,
}

impl Total {
    fn add(&mut self, plan: &Plan, history: &History) {
        self.jobs += plan.jobs.len() as u64;
        self.events += history.events.len() as u64;
        self.crashes += history.crashes;
        self.redeliveries += history.redeliveries;
        self.evaluated += history.evaluated;
        self.repeated += history.repeated;
        for (kind, times) in &history.faults {
            *self.faults.entry(*kind).or_default() += times;
        }
        for (_, message) in history.ends.values() {
            let end = message.headers.get("Hermesh-Code").unwrap_or("answered");
            *self.ends.entry(end.to_owned()).or_default() += 1;
        }
        if !history.violations.is_empty() {
            self.bad.insert(plan.seed, history.violations.clone());
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} jobs, {} events", self.jobs, self.events)?;
        for (end, times) in &self.ends {
            writeln!(out, "{times:>10} {end}")?;
        }
        writeln!(out, "faults")?;
        for (kind, times) in &self.faults {
            writeln!(out, "{times:>10} {kind:?}")?;
        }
        writeln!(out, "{:>10} processes died", self.crashes)?;
        writeln!(out, "{:>10} redeliveries", self.redeliveries)?;
        writeln!(out, "{:>10} shards evaluated, of which", self.evaluated)?;
        writeln!(out, "{:>10} again before a result was stored", self.repeated)
    }
}

fn report(out: &mut impl Write, seed: u64, violations: &[Violation]) -> io::Result<()> {
    for Violation { invariant, detail } in violations {
        writeln!(out, "seed {seed}: {invariant}: {detail}")?;
    }
    writeln!(
        out,
        "    cargo run --release -p hermesh-tests --bin schedules -- --seed {seed} --trace"
    )
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let seeds = options.seed.map_or(options.seeds, |seed| seed..seed + 1);
    let threads = options.threads.or_else(|| thread::available_parallelism().ok().map(Into::into));
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    let started = Instant::now();
    let out = &mut io::stdout();
    thread::scope(|scope| {
        for _ in 0..threads.unwrap_or(1).max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (plan, history) = run(seed, Sabotage::None);
                    let out = &mut io::stdout().lock();
                    if options.trace {
                        let _ = writeln!(out, "{plan:#?}");
                        for event in &history.events {
                            let _ = writeln!(out, "{event}");
                        }
                    }
                    if !history.violations.is_empty() {
                        let _ = report(out, seed, &history.violations);
                    }
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(&plan, &history);
                    let done = seed + 1 - seeds.start;
                    if done.is_multiple_of(1_000) {
                        let _ = writeln!(out, "{done} schedules, {:.0?}", started.elapsed());
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let schedules = seeds.end.saturating_sub(seeds.start);
    writeln!(out, "{schedules} schedules in {:.1} s", started.elapsed().as_secs_f64())?;
    total.print(out)?;
    writeln!(out, "{} schedules break an invariant", total.bad.len())?;
    Ok(if total.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
