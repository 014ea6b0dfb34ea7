//! The results and their comparison.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::{
    workload::{Letter, Way},
    world::World,
};
use crate::{machine, statistics::Summary};

/// Limits of `--check`: most milliseconds added, and least share of the throughput left.
const ADDED: f64 = 1.0;
const LEFT: f64 = 0.95;

/// Measurements of one kind of connection in one round.
#[derive(Default)]
pub(super) struct Turn {
    heard_latency: Quantiles,
    queue_latency: Quantiles,
    heard: Rate,
    queue: Rate,
}

/// Milliseconds.
#[derive(Default, Clone, Copy)]
struct Quantiles {
    median: f64,
    p99: f64,
}

#[derive(Default, Clone, Copy)]
struct Rate {
    per_second: f64,
    cpu: [f64; Spent::OF.len()],
}

impl Turn {
    pub(super) async fn latency(
        &mut self,
        way: &mut Way,
        letter: &Letter,
        samples: usize,
    ) -> Result<()> {
        self.heard_latency = Quantiles::of(way.heard_latency(letter, samples).await?);
        self.queue_latency = Quantiles::of(way.queue_latency(letter, samples).await?);
        Ok(())
    }

    pub(super) async fn throughput(
        &mut self,
        way: &mut Way,
        letter: &Letter,
        messages: usize,
        world: &World,
    ) -> Result<()> {
        let spent = Spent::now(world);
        let per_second = way.queue_rate(letter, messages).await?;
        self.queue = Rate { per_second, cpu: spent.per_message(world, messages) };
        let spent = Spent::now(world);
        let per_second = way.heard_rate(letter, messages).await?;
        self.heard = Rate { per_second, cpu: spent.per_message(world, messages) };
        Ok(())
    }
}

impl Quantiles {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        Self { median: at(50), p99: at(99) }
    }
}

/// Processor time so far, in seconds.
struct Spent([f64; Self::OF.len()]);

impl Spent {
    /// The processes measured.
    const OF: [&str; 3] = ["workloads", "server", "sidecars"];

    fn now(world: &World) -> Self {
        let of = |process| machine::cpu_seconds(process).unwrap_or_default();
        let sidecars = world.sidecars().map(of).sum();
        Self([of(std::process::id()), of(world.server()), sidecars])
    }

    /// Microseconds since then.
    fn per_message(&self, world: &World, messages: usize) -> [f64; Self::OF.len()] {
        let now = Self::now(world);
        std::array::from_fn(|of| (now.0[of] - self.0[of]) * 1e6 / messages as f64)
    }
}

#[derive(Serialize)]
pub(super) struct Report {
    processor: Option<String>,
    cores: usize,
    size: usize,
    repetitions: usize,
    latency: [Latency; 2],
    throughput: [Throughput; 2],
}

/// In milliseconds.
#[derive(Serialize)]
struct Latency {
    of: &'static str,
    direct: Summary,
    sidecars: Summary,
    added: Summary,
    direct_p99: Summary,
    sidecars_p99: Summary,
    added_p99: Summary,
}

#[derive(Serialize)]
struct Throughput {
    of: &'static str,
    /// Messages per second.
    direct: Summary,
    sidecars: Summary,
    ratio: Summary,
    /// Microseconds of processor time per message, of workloads, server and sidecars.
    direct_cpu: [f64; Spent::OF.len()],
    sidecars_cpu: [f64; Spent::OF.len()],
}

type Rounds<'a> = &'a [[Turn; 2]];

impl Report {
    /// `None` if nothing was measured.
    pub(super) fn of(size: usize, rounds: Rounds<'_>) -> Option<Self> {
        Some(Self {
            processor: machine::processor(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            size,
            repetitions: rounds.len(),
            latency: [
                Latency::of("subscription", rounds, |turn| turn.heard_latency)?,
                Latency::of("queue", rounds, |turn| turn.queue_latency)?,
            ],
            throughput: [
                Throughput::of("queue", rounds, |turn| turn.queue)?,
                Throughput::of("subscription", rounds, |turn| turn.heard)?,
            ],
        })
    }

    pub(super) fn shortfalls(&self) -> Vec<String> {
        let mut found = Vec::new();
        for Latency { of, added, .. } in &self.latency {
            if added.median > ADDED {
                found.push(format!("{of}: sidecars add {:.2} ms, at most {ADDED}", added.median));
            }
        }
        let Throughput { of, ratio, .. } = &self.throughput[0];
        if ratio.median < LEFT {
            let left = 100.0 * ratio.median;
            found
                .push(format!("{of}: sidecars leave {left:.1} % of the throughput, at least 95 %"));
        }
        found
    }
}

impl Latency {
    fn of(of: &'static str, rounds: Rounds<'_>, what: fn(&Turn) -> Quantiles) -> Option<Self> {
        let each = |value: &dyn Fn(&[Turn; 2]) -> f64| {
            Summary::of(&rounds.iter().map(value).collect::<Vec<_>>())
        };
        let way = |way: usize, quantile: fn(Quantiles) -> f64| {
            each(&move |turns| quantile(what(&turns[way])))
        };
        let added = |quantile: fn(Quantiles) -> f64| {
            each(&move |turns| quantile(what(&turns[1])) - quantile(what(&turns[0])))
        };
        let (median, p99) = (|quantiles: Quantiles| quantiles.median, |q: Quantiles| q.p99);
        Some(Self {
            of,
            direct: way(0, median)?,
            sidecars: way(1, median)?,
            added: added(median)?,
            direct_p99: way(0, p99)?,
            sidecars_p99: way(1, p99)?,
            added_p99: added(p99)?,
        })
    }
}

impl Throughput {
    fn of(of: &'static str, rounds: Rounds<'_>, what: fn(&Turn) -> Rate) -> Option<Self> {
        let rates = |way: usize| -> Vec<f64> {
            rounds.iter().map(|turns| what(&turns[way]).per_second).collect()
        };
        let cpu = |way: usize| {
            std::array::from_fn(|of| {
                let all = rounds.iter().map(|turns| what(&turns[way]).cpu[of]);
                Summary::of(&all.collect::<Vec<_>>()).map_or(0.0, |summary| summary.median)
            })
        };
        let (direct, sidecars) = (rates(0), rates(1));
        Some(Self {
            of,
            direct: Summary::of(&direct)?,
            sidecars: Summary::of(&sidecars)?,
            ratio: Summary::of_ratios(&sidecars, &direct)?,
            direct_cpu: cpu(0),
            sidecars_cpu: cpu(1),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("an unknown processor");
        let Self { cores, size, repetitions, .. } = self;
        writeln!(
            f,
            "messages of {size} bytes, {repetitions} repetitions, {cores} cores of {processor}\n"
        )?;
        writeln!(f, "| latency, ms | direct | sidecars | added |\n|---|---|---|---|")?;
        for latency in &self.latency {
            let Latency { of, direct, sidecars, added, .. } = latency;
            writeln!(f, "| {of}, median |{}", cells([direct, sidecars, added], 2))?;
            let Latency { direct_p99, sidecars_p99, added_p99, .. } = latency;
            let cells = cells([direct_p99, sidecars_p99, added_p99], 2);
            writeln!(f, "| {of}, 99th percentile |{cells}")?;
        }
        writeln!(f, "\n| messages/s | direct | sidecars | ratio |\n|---|---|---|---|")?;
        for Throughput { of, direct, sidecars, ratio, .. } in &self.throughput {
            writeln!(f, "| {of} |{}{}", cells([direct, sidecars], 0), cells([ratio], 3))?;
        }
        writeln!(f, "\n| processor time a message, µs | {} |", Spent::OF.join(" | "))?;
        writeln!(f, "|---|---|---|---|")?;
        for Throughput { of, direct_cpu, sidecars_cpu, .. } in &self.throughput {
            for (way, cpu) in [("direct", direct_cpu), ("sidecars", sidecars_cpu)] {
                let [workloads, server, sidecars] = cpu;
                writeln!(f, "| {of}, {way} | {workloads:.0} | {server:.0} | {sidecars:.0} |")?;
            }
        }
        Ok(())
    }
}

/// Medians with their ranges.
fn cells<const N: usize>(of: [&Summary; N], digits: usize) -> String {
    of.map(|Summary { median, min, max }| {
        format!(" {median:.digits$} ({min:.digits$}–{max:.digits$}) |")
    })
    .concat()
}
