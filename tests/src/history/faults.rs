//! The faults and their times, all determined by a seed.

use std::{collections::BTreeMap, io, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::cluster::{Cluster, Process};

/// The names of all kinds; the last two occur only with sidecars.
pub const KINDS: [&str; 5] = [
    "service killed",
    "service stopped and continued",
    "nats-server killed and restarted",
    "sidecar killed",
    "sidecar stopped and continued",
];
/// How many of these do not need sidecars.
const WITHOUT_SIDECARS: usize = 3;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to a service or a sidecar, and a new process after a while.
    Kill {
        /// The process.
        process: Process,
        /// How long it is down.
        down: Duration,
    },
    /// SIGSTOP to a service or a sidecar, and SIGCONT after a while.
    Freeze {
        /// The process.
        process: Process,
        /// How long it is stopped.
        frozen: Duration,
    },
    /// SIGKILL to nats-server, and a restart on the same files.
    KillServer {
        /// How long it is down.
        down: Duration,
    },
}

impl Fault {
    /// Its kind, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { process: Process::Service(_), .. } => KINDS[0],
            Self::Freeze { process: Process::Service(_), .. } => KINDS[1],
            Self::KillServer { .. } => KINDS[2],
            Self::Kill { process: Process::Sidecar(_), .. } => KINDS[3],
            Self::Freeze { process: Process::Sidecar(_), .. } => KINDS[4],
        }
    }
}

/// An endless schedule of pauses and faults.
pub struct Schedule {
    random: StdRng,
    services: usize,
    sidecars: usize,
}

impl Schedule {
    /// The schedule of this seed.
    pub fn new(seed: u64, services: usize, sidecars: usize) -> Self {
        Self { random: StdRng::seed_from_u64(seed), services, sidecars }
    }
}

impl Iterator for Schedule {
    type Item = (Duration, Fault);

    fn next(&mut self) -> Option<Self::Item> {
        let mut millis =
            |range: std::ops::Range<u64>| Duration::from_millis(self.random.random_range(range));
        let pause = millis(50..1200);
        let (down, frozen, long) = (millis(0..1000), millis(50..3000), millis(16_000..20_000));
        // Services and sidecars are equally likely, however many there are of each.
        let process = match self.sidecars > 0 && self.random.random_bool(0.5) {
            true => Process::Sidecar(self.random.random_range(0..self.sidecars)),
            false => Process::Service(self.random.random_range(0..self.services)),
        };
        let fault = match self.random.random_range(0..100) {
            0..55 => Fault::Kill { process, down },
            55..82 => Fault::Freeze { process, frozen },
            // Longer than a delivery's `ack_wait`: its deliveries go to other processes before it
            // continues.
            82..86 => Fault::Freeze { process, frozen: long },
            _ => Fault::KillServer { down },
        };
        Some((pause, fault))
    }
}

/// A fault to undo, and when.
type Undo = (tokio::time::Instant, Fault);

/// Only watches the processes until told to stop.
///
/// # Errors
/// A process ended by itself.
pub async fn calm(
    cluster: &mut Cluster,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => cluster.check()?,
        }
    }
}

/// Injects faults until told to stop, and undoes all of them before it returns. Returns how many of each
/// kind there were, zeros included.
///
/// # Errors
/// A process could not be started or signalled, or ended by itself.
pub async fn rage(
    cluster: &mut Cluster,
    seed: u64,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> io::Result<BTreeMap<&'static str, usize>> {
    let (services, sidecars) = (cluster.services(), cluster.sidecars().len());
    let kinds = if sidecars > 0 { &KINDS[..] } else { &KINDS[..WITHOUT_SIDECARS] };
    let mut counts = kinds.iter().map(|kind| (*kind, 0)).collect::<BTreeMap<_, _>>();
    let mut pending: Vec<Undo> = Vec::new();
    for (pause, fault) in Schedule::new(seed, services, sidecars) {
        let at = tokio::time::Instant::now() + pause;
        loop {
            pending.sort_by_key(|(at, _)| *at);
            let next = pending.first().map_or(at, |(undo, _)| at.min(*undo));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {
                    for (_, fault) in pending {
                        undo(cluster, fault).await?;
                    }
                    return Ok(counts);
                }
                () = tokio::time::sleep_until(next) => {}
            }
            if next == at {
                break;
            }
            let (_, fault) = pending.remove(0);
            undo(cluster, fault).await?;
        }
        cluster.check()?;
        if let Some(until) = inflict(cluster, fault, &pending)? {
            *counts.entry(fault.name()).or_default() += 1;
            pending.push((tokio::time::Instant::now() + until, fault));
        }
    }
    Ok(counts)
}

/// Injects a fault, unless its process is down or stopped already. Returns its duration.
fn inflict(cluster: &mut Cluster, fault: Fault, pending: &[Undo]) -> io::Result<Option<Duration>> {
    let victim = |fault: &Fault| match fault {
        Fault::Kill { process, .. } | Fault::Freeze { process, .. } => Some(*process),
        Fault::KillServer { .. } => None,
    };
    if pending.iter().any(|(_, other)| victim(other) == victim(&fault)) {
        return Ok(None);
    }
    Ok(Some(match fault {
        Fault::Kill { process, down } => {
            cluster.kill(process)?;
            down
        }
        Fault::Freeze { process, frozen } => {
            cluster.freeze(process, true)?;
            frozen
        }
        Fault::KillServer { down } => {
            cluster.server.kill();
            down
        }
    }))
}

async fn undo(cluster: &mut Cluster, fault: Fault) -> io::Result<()> {
    match fault {
        Fault::Kill { process, .. } => cluster.revive(process),
        Fault::Freeze { process, .. } => cluster.freeze(process, false),
        Fault::KillServer { .. } => cluster.server.restart().await.map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_schedule() {
        let take = |seed| Schedule::new(seed, 10, 5).take(100).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
