//! Measures how the mesh scales: the four services over a real nats-server, with workers whose bootstraps are simulated
//! by a timer.

pub(crate) mod fairness;
mod load;
mod plot;
mod services;
mod timed;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hermesh_mesh::{
    SigningKey,
    bus::BusHandle,
    nats_server::{NatsServer, NatsServerOptions},
};
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{machine, statistics::Summary};
use load::Tenant;
use services::{Role, Service};
use timed::{LOOKUPS, STAGES, Timed};

const TENANTS: usize = 8;
/// Limits of `--check`: least efficiency up to a number of workers, and largest overhead.
const EFFICIENCY: [(usize, f64); 2] = [(8, 0.9), (64, 0.8)];
const OVERHEAD: f64 = 0.05;

/// Result of a measurement.
pub(crate) struct Measured {
    /// The text to print.
    pub(crate) text: String,
    /// The failed checks.
    pub(crate) shortfalls: Vec<String>,
}

/// `hermesh-bench scaling`
#[derive(Args)]
pub(crate) struct Scaling {
    /// Numbers of workers, in ascending order; each worker has one core.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32, 64])]
    workers: Vec<usize>,
    /// Simulated time of one bootstrap, in milliseconds; 7.3 was measured on one core for the MNIST MLP.
    #[arg(long, default_value_t = 7.3, value_name = "MS")]
    bootstrap: f64,
    /// Number of jobs per worker in one measurement of throughput.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Number of measurements for each number of workers.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Fail if efficiency is below 0.9 with up to 8 workers or below 0.8 with up to 64, or overhead
    /// above 5 % of the bootstraps.
    #[arg(long)]
    check: bool,
    /// SVG file to draw the table to. [default: none]
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measurements with one number of workers.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    workers: usize,
    jobs_per_second: Summary,
    /// Throughput per worker, compared with the smallest number of workers.
    efficiency: f64,
    /// The same, compared with bootstraps alone.
    of_compute: f64,
    /// Seconds of one job when no other job is in progress.
    latency: Summary,
    /// Seconds of the bootstraps alone: all shards, one per worker at a time.
    least_latency: f64,
    /// Processor time of everything but bootstraps (services, broker, client), per second of
    /// bootstraps.
    overhead: f64,
}

#[derive(Serialize)]
struct Report {
    bootstrap_seconds: f64,
    lookups_per_job: usize,
    processor: Option<String>,
    rows: Vec<Row>,
}

/// Measures. Returns the table or JSON document, and the failed checks.
pub(crate) fn run(options: &Scaling) -> Result<Measured> {
    ensure!(options.bootstrap > 0.0, "expected a positive time for --bootstrap");
    ensure!(!options.workers.is_empty() && !options.workers.contains(&0), "expected workers");
    let meaningful = !options.check || options.workers[0] == 1;
    ensure!(meaningful, "expected --workers to begin with 1, which --check compares with");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    if let Some(path) = &options.plot {
        plot::draw(&report.rows, path)?;
    }
    let text = match options.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.to_string(),
    };
    let shortfalls = if options.check { shortfalls(&report.rows) } else { Vec::new() };
    Ok(Measured { text, shortfalls })
}

fn shortfalls(rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows {
        let least = EFFICIENCY.into_iter().find(|(most, _)| row.workers <= *most);
        if let Some((_, least)) = least
            && row.efficiency < least
        {
            found.push(format!("efficiency below {least} with {} workers", row.workers));
        }
        if row.overhead > OVERHEAD {
            found.push(format!("overhead above {OVERHEAD} with {} workers", row.workers));
        }
    }
    found
}

/// A broker, and all services except the workers.
struct Mesh {
    // In the order in which they are dropped.
    _services: Vec<Service>,
    bus: BusHandle,
    engine: Timed,
    identity: SigningKey,
    server: NatsServer,
    _directory: TempDir,
}

impl Mesh {
    /// Starts them, with bootstraps of the given milliseconds.
    async fn start(bootstrap: f64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let server = NatsServer::start(NatsServerOptions::new(directory.path())).await?;
        let mut mesh = Self {
            _services: Vec::new(),
            bus: services::connect(&server.url()).await?,
            engine: Timed { lookup: Duration::from_secs_f64(bootstrap / 1000.0) },
            identity: SigningKey::generate(),
            server,
            _directory: directory,
        };
        for role in [Role::KeyManagement, Role::Preprocessing, Role::Aggregation, Role::Aggregation]
        {
            let service = mesh.service(role)?;
            mesh._services.push(service);
        }
        Ok(mesh)
    }

    fn service(&self, role: Role) -> Result<Service> {
        Service::start(role, self.engine, &self.server.url(), &self.identity)
    }

    async fn tenant(&self, name: &str) -> Result<Tenant> {
        Tenant::register(&self.bus, name, &self.identity).await
    }
}

async fn measure(options: &Scaling) -> Result<Report> {
    let mesh = Mesh::start(options.bootstrap).await?;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        tenants.push(Arc::new(mesh.tenant(&format!("tenant-{number}")).await?));
    }
    let compute = LOOKUPS as f64 * options.bootstrap / 1000.0;
    let mut rows: Vec<Row> = Vec::new();
    for &workers in &options.workers {
        let _workers: Vec<Service> =
            (0..workers).map(|_| mesh.service(Role::Evaluation)).collect::<Result<_>>()?;
        // Warm-up: every worker loads every tenant's key, and all connections are used.
        load::run(&tenants, TENANTS.max(workers / 4), TENANTS).await?;
        let (mut rates, mut latencies, mut overheads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.repetitions {
            latencies.extend(load::run(&tenants[..1], 3, 1).await?);
            let (jobs, window) = (options.jobs * workers, workers.div_ceil(2) + 2);
            let cpu = cpu_seconds(&mesh.server)?;
            let started = Instant::now();
            load::run(&tenants, jobs, window).await?;
            rates.push(jobs as f64 / started.elapsed().as_secs_f64());
            overheads.push((cpu_seconds(&mesh.server)? - cpu) / (jobs as f64 * compute));
        }
        let summary = |values: &[f64]| Summary::of(values).context("no measurement");
        let jobs_per_second = summary(&rates)?;
        let per_worker = jobs_per_second.median / workers as f64;
        let first = rows
            .first()
            .map_or(per_worker, |row: &Row| row.jobs_per_second.median / row.workers as f64);
        rows.push(Row {
            workers,
            jobs_per_second,
            efficiency: per_worker / first,
            of_compute: per_worker * compute,
            latency: summary(&latencies)?,
            least_latency: least_latency(workers, options.bootstrap / 1000.0),
            overhead: summary(&overheads)?.median,
        });
    }
    Ok(Report {
        bootstrap_seconds: options.bootstrap / 1000.0,
        lookups_per_job: LOOKUPS,
        processor: machine::processor(),
        rows,
    })
}

fn least_latency(workers: usize, bootstrap: f64) -> f64 {
    let per_shard = hermesh_preprocessing::Options::default().lookups_per_shard;
    let rounds = |values: &usize| values.div_ceil(per_shard).div_ceil(workers);
    let rounds: usize = STAGES.iter().map(rounds).sum();
    (rounds * per_shard) as f64 * bootstrap
}

fn cpu_seconds(server: &NatsServer) -> Result<f64> {
    let both = [std::process::id(), server.pid()].map(machine::cpu_seconds);
    both.into_iter().sum::<Option<f64>>().context("expected /proc/<pid>/stat; only Linux has it")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} bootstraps a job, {:.1} ms each, one core a worker\n",
            self.lookups_per_job,
            self.bootstrap_seconds * 1000.0
        )?;
        writeln!(
            f,
            "| workers | jobs/s (min–max) | efficiency | of compute | latency alone, s | compute alone, s | overhead |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let rate = row.jobs_per_second;
            writeln!(
                f,
                "| {} | {:.2} ({:.2}–{:.2}) | {:.0} % | {:.0} % | {:.3} | {:.3} | {:.1} % |",
                row.workers,
                rate.median,
                rate.min,
                rate.max,
                100.0 * row.efficiency,
                100.0 * row.of_compute,
                row.latency.median,
                row.least_latency,
                100.0 * row.overhead
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_short_is_named() {
        let of = |value| Summary::of(&[value]).expect("one value");
        let row = |workers, efficiency, overhead| Row {
            workers,
            jobs_per_second: of(1.0),
            efficiency,
            of_compute: efficiency,
            latency: of(1.0),
            least_latency: 1.0,
            overhead,
        };
        assert!(
            shortfalls(&[row(1, 1.0, 0.04), row(8, 0.91, 0.04), row(64, 0.81, 0.04)]).is_empty()
        );
        assert_eq!(
            shortfalls(&[row(8, 0.89, 0.0), row(16, 0.79, 0.0), row(64, 0.9, 0.06)]).len(),
            3
        );
    }

    #[test]
    fn compute_alone_takes_whole_rounds() {
        // 8 and 4 shards.
        assert!((least_latency(1, 1.0) - 192.0).abs() < 1e-9);
        assert!((least_latency(3, 1.0) - 80.0).abs() < 1e-9);
        assert!((least_latency(64, 1.0) - 32.0).abs() < 1e-9);
    }
}
