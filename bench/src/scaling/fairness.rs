//! Measures how a flood of one tenant's jobs affects another tenant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hermesh_mesh::{Error, wire::FailureCode};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Measured, Mesh, load::Tenant, services::Role};
use crate::statistics::Summary;

/// Largest accepted ratio of the other tenant's latency with and without the flood.
const MOST: f64 = 2.0;
/// Time for the flood to build up.
const RISING: Duration = Duration::from_secs(5);

/// `hermesh-bench fairness`
#[derive(Args)]
pub(crate) struct Fairness {
    /// Number of workers, one core each.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Simulated time of one bootstrap, in milliseconds.
    #[arg(long, default_value_t = 7.3, value_name = "MS")]
    bootstrap: f64,
    /// Number of jobs of the quiet tenant in each measurement, one after the other.
    #[arg(long, default_value_t = 15)]
    jobs: usize,
    /// Number of jobs that the flooding tenant has in progress at any time. Refused jobs are submitted again at once.
    #[arg(long, default_value_t = 200)]
    flood: usize,
    /// Fail if the quiet tenant's jobs take more than twice as long as alone.
    #[arg(long)]
    check: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    workers: usize,
    /// Seconds per job of the quiet tenant, without other tenants.
    alone: Summary,
    /// Seconds per job of the quiet tenant during the flood.
    flooded: Summary,
    /// Ratio of the medians.
    ratio: f64,
    /// Answered and refused jobs of the flooding tenant in the same time.
    flood_answered: usize,
    flood_refused: usize,
}

/// Measures. Returns the text or JSON document, and the failed checks.
pub(crate) fn run(options: &Fairness) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    let failed = options.check && report.ratio > MOST;
    let shortfalls = if failed { vec![format!("ratio above {MOST}")] } else { Vec::new() };
    let text = match options.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => text(&report),
    };
    Ok(Measured { text, shortfalls })
}

fn text(report: &Report) -> String {
    let line = |name: &str, of: Summary| {
        format!("{name}: median {:.3} s ({:.3}–{:.3})\n", of.median, of.min, of.max)
    };
    format!(
        "one job at a time, {} workers\n{}{}ratio {:.2}; meanwhile the other had {} jobs answered and \
         {} refused\n",
        report.workers,
        line("alone", report.alone),
        line("while another tenant floods", report.flooded),
        report.ratio,
        report.flood_answered,
        report.flood_refused
    )
}

async fn measure(options: &Fairness) -> Result<Report> {
    let mesh = Mesh::start(options.bootstrap).await?;
    let _workers: Vec<_> =
        (0..options.workers).map(|_| mesh.service(Role::Evaluation)).collect::<Result<_>>()?;
    let quiet = Arc::new(mesh.tenant("quiet").await?);
    let flooding = Arc::new(mesh.tenant("flooding").await?);
    let one_by_one = async |tenant: &Tenant| {
        let mut seconds = Vec::new();
        for _ in 0..options.jobs {
            seconds.push(tenant.job().await?);
        }
        Summary::of(&seconds).context("no jobs")
    };
    // Keys and connections warm up.
    quiet.job().await?;
    flooding.job().await?;
    let alone = one_by_one(&quiet).await?;

    let mut flood = Flood::start(&flooding, options.flood);
    tokio::time::sleep(RISING).await;
    flood.reset();
    let flooded = tokio::select! {
        flooded = one_by_one(&quiet) => flooded?,
        error = flood.failed() => return Err(error.context("the flood failed")),
    };
    let [answered, refused] = flood.counts();
    ensure!(
        answered > 0 && refused > 0,
        "expected a flood that is answered and meets limits, got {answered} answers and {refused} \
         refusals; a larger --flood or more --jobs may help"
    );
    Ok(Report {
        workers: options.workers,
        alone,
        flooded,
        ratio: flooded.median / alone.median,
        flood_answered: answered,
        flood_refused: refused,
    })
}

/// Submits as many jobs of one tenant as possible, until dropped.
struct Flood {
    tasks: JoinSet<Error>,
    /// Number of answered and of refused jobs.
    counts: Arc<[AtomicUsize; 2]>,
}

impl Flood {
    fn start(tenant: &Arc<Tenant>, submissions: usize) -> Self {
        let mut flood = Self { tasks: JoinSet::new(), counts: Arc::default() };
        for _ in 0..submissions {
            let (counts, tenant) = (flood.counts.clone(), tenant.clone());
            flood.tasks.spawn(async move {
                loop {
                    let refused = match tenant.job().await {
                        Ok(_) => false,
                        Err(Error::Full { .. }) => true,
                        Err(Error::Failed(why)) if why.code == FailureCode::Overloaded => true,
                        Err(error) => return error,
                    };
                    counts[usize::from(refused)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        flood
    }

    fn reset(&self) {
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|which| self.counts[which].load(Ordering::Relaxed))
    }

    /// Waits until a submission ends with something other than an answer or a refusal.
    async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(error)) => error.into(),
            Some(Err(panic)) => panic.into(),
            // There is no flood.
            None => std::future::pending().await,
        }
    }
}
