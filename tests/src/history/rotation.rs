//! Replaces all certificates while jobs run, and counts dropped connections.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{cluster::Cluster, faults::calm, workload::Outcomes};

/// The results, from the first answer to the last.
#[derive(Debug)]
pub struct Rotations {
    /// How often every certificate was replaced.
    pub times: u32,
    /// The number of these certificates.
    pub certificates: usize,
    /// The longest time until all workloads used their new certificates.
    pub longest: Duration,
    /// Connections that ended at a sidecar, by reason. Must be none.
    pub ended: BTreeMap<String, u64>,
    /// New connections that nats-server accepted. Must be none.
    pub connected: u64,
}

impl Rotations {
    /// Whether no connection was dropped.
    pub fn harmless(&self) -> bool {
        self.ended.is_empty() && self.connected == 0
    }
}

/// Replaces every certificate this many times, spread over the jobs, then only watches until told to stop.
///
/// # Errors
/// A workload does not use its new certificate, the jobs end before the last rotation, or a process ends.
pub async fn rotate(
    cluster: &mut Cluster,
    times: u32,
    jobs: usize,
    outcomes: &Outcomes,
    stop: watch::Receiver<bool>,
) -> Result<Rotations> {
    reached(outcomes, 1, &stop).await;
    let (before, connections) = (cluster.figures().await?.ended, cluster.connections().await?);
    let mut longest = Duration::ZERO;
    for time in 1..=times {
        let share = (jobs * time as usize) / (times as usize + 1);
        reached(outcomes, share, &stop).await;
        let started = Instant::now();
        cluster.rotate().await?;
        longest = longest.max(started.elapsed());
        let over = outcomes.ended() >= jobs;
        ensure!(!over, "the jobs were over before rotation {time} of {times}: take more of them");
    }
    calm(cluster, stop).await?;
    let mut ended = cluster.figures().await?.ended;
    for (reason, times) in &mut ended {
        *times -= before.get(reason).copied().unwrap_or_default();
    }
    ended.retain(|_, times| *times > 0);
    Ok(Rotations {
        times,
        certificates: times as usize * (cluster.sidecars().len() + 1),
        longest,
        ended,
        connected: cluster.connections().await? - connections,
    })
}

/// Waits until this many jobs have ended, or for the stop.
async fn reached(outcomes: &Outcomes, jobs: usize, stop: &watch::Receiver<bool>) {
    while outcomes.ended() < jobs && !*stop.borrow() {
        sleep(Duration::from_millis(10)).await;
    }
}
