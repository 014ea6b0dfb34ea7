//! What a flood of one tenant does to another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Mesh, load::Tenant, services::Role};
use crate::statistics::Summary;

/// `hermesh-bench fairness`
#[derive(Args)]
pub(crate) struct Fairness {
    /// Workers of one core each.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How long one bootstrap takes, in milliseconds.
    #[arg(long, default_value_t = 7.3, value_name = "MS")]
    bootstrap: f64,
    /// Jobs of the quiet tenant in each measurement, one after the other.
    #[arg(long, default_value_t = 15)]
    jobs: usize,
    /// Submissions that the flooding tenant has under way at any moment; those refused are made again
    /// at once.
    #[arg(long, default_value_t = 200)]
    flood: usize,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    workers: usize,
    /// Seconds of a job of the quiet tenant, nobody else there.
    alone: Summary,
    /// The same while the other floods.
    flooded: Summary,
    /// Of the medians.
    ratio: f64,
    /// Jobs of the flooding tenant that were answered and refused meanwhile.
    flood_answered: usize,
    flood_refused: usize,
}

/// Measures, and returns text or the document.
pub(crate) fn run(options: &Fairness) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    if options.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    let line = |name: &str, of: Summary| {
        format!("{name}: median {:.3} s ({:.3}–{:.3})\n", of.median, of.min, of.max)
    };
    Ok(format!(
        "one job at a time, {} workers\n{}{}ratio {:.2}; meanwhile the other had {} jobs answered and \
         {} refused\n",
        report.workers,
        line("alone", report.alone),
        line("while another tenant floods", report.flooded),
        report.ratio,
        report.flood_answered,
        report.flood_refused
    ))
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

    let stop = Arc::new(AtomicBool::new(false));
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut flood = JoinSet::new();
    for _ in 0..options.flood {
        let (stop, counts, tenant) = (stop.clone(), counts.clone(), flooding.clone());
        flood.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let refused = tenant.job().await.is_err();
                counts[usize::from(refused)].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Until the flood is there.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let flooded = one_by_one(&quiet).await?;
    stop.store(true, Ordering::Relaxed);
    flood.abort_all();
    let [flood_answered, flood_refused] =
        [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed));
    let ratio = flooded.median / alone.median;
    let workers = options.workers;
    Ok(Report { workers, alone, flooded, ratio, flood_answered, flood_refused })
}
