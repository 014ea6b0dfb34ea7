//! Measures the cost of sidecars: workloads that connect to nats-server directly over mutual TLS, and the same
//! workloads behind one sidecar each, in turns.

mod client;
mod report;
mod workload;
mod world;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::scaling::Measured;
use report::{Report, Turn};
use workload::{Letter, Way};
use world::World;

pub(crate) use world::one;

/// `hermesh-bench sidecar`
#[derive(Args)]
pub(crate) struct Sidecars {
    /// Size of a message's body, in bytes.
    #[arg(long, default_value_t = 16 << 10, value_name = "BYTES")]
    size: usize,
    /// Number of messages in one measurement of throughput.
    #[arg(long, default_value_t = 4000, value_name = "N")]
    messages: usize,
    /// Number of messages in one measurement of latency.
    #[arg(long, default_value_t = 500, value_name = "N")]
    samples: usize,
    /// Number of measurements of each kind, direct and through sidecars.
    #[arg(long, default_value_t = 7)]
    repetitions: usize,
    /// Fail if sidecars add more than 1 ms at the median or cost more than 5 % of a queue's throughput.
    #[arg(long)]
    check: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures. Returns the table or JSON document, and the failed checks.
pub(crate) fn run(options: &Sidecars) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    let text = match options.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.to_string(),
    };
    let shortfalls = if options.check { report.shortfalls() } else { Vec::new() };
    Ok(Measured { text, shortfalls })
}

async fn measure(options: &Sidecars) -> Result<Report> {
    let world = World::new().await?;
    let letter = Letter::new(options.size);
    let direct = Way::new("direct", world.direct().await?).await?;
    let sidecars = Way::new("sidecars", world.through_sidecars().await?).await?;
    let mut ways = [direct, sidecars];
    let mut rounds = Vec::new();
    // The first round only warms up connections, caches and files.
    for round in 0..=options.repetitions {
        let mut turns = [Turn::default(), Turn::default()];
        // The order alternates too.
        let order = [round % 2, 1 - round % 2];
        for way in order {
            turns[way].latency(&mut ways[way], &letter, options.samples).await?;
        }
        for way in order {
            turns[way].throughput(&mut ways[way], &letter, options.messages, &world).await?;
        }
        if round > 0 {
            rounds.push(turns);
        }
    }
    Report::of(options.size, &rounds).context("expected at least one repetition and sample")
}
