//! What sidecars cost: workloads that speak to a nats-server over mutual TLS themselves, and the same
//! behind a sidecar each, in turns.

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
    /// Bytes of a message's body.
    #[arg(long, default_value_t = 16 << 10, value_name = "BYTES")]
    size: usize,
    /// Messages in one measurement of throughput.
    #[arg(long, default_value_t = 4000, value_name = "N")]
    messages: usize,
    /// Messages in one measurement of latency.
    #[arg(long, default_value_t = 500, value_name = "N")]
    samples: usize,
    /// Measurements of each kind, each way.
    #[arg(long, default_value_t = 7)]
    repetitions: usize,
    /// Fail if sidecars add more than 1 ms at the median or cost more than 5 % of a queue's throughput.
    #[arg(long)]
    check: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures; the table or the document, and whether it passes the check.
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
    // The first is for connections, caches and files to become warm.
    for round in 0..=options.repetitions {
        let mut turns = [Turn::default(), Turn::default()];
        // Who begins takes turns too.
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
