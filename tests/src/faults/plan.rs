//! The plan of a schedule, drawn from its seed.

use std::time::Duration;

use hermesh_mesh::wire::Priority;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::fault::Faults;
use crate::stub::Model;

/// A deadline that faults cannot use up: a job that misses it counts as lost.
pub const AMPLE: Duration = Duration::from_secs(400);

/// A deliberate defect, which a test uses to show that the invariants find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Some shards are computed wrongly.
    WrongResults,
    /// Unique queues store any number of messages of a subject.
    SharedSubjects,
    /// Publishes under this prefix return success, and are not stored.
    Lost(&'static str),
    /// Reads under this prefix return nothing.
    Blind(&'static str),
}

/// A tenant of a schedule.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// The seed of its signing key.
    pub signing: [u8; 32],
    /// Its model.
    pub model: Model,
    /// When it revokes its key, if it does.
    pub revokes: Option<Duration>,
}

/// A job of a schedule.
#[derive(Debug, Clone)]
pub struct Job {
    /// The number of its tenant.
    pub tenant: usize,
    /// Its id.
    pub id: [u8; 16],
    /// The seed of its input; no two jobs of a schedule share it.
    pub input: u64,
    /// When it is submitted.
    pub at: Duration,
    /// The time until its deadline.
    pub within: Duration,
    /// Its priority.
    pub priority: Priority,
    /// How long after its submission it is cancelled, if it is.
    pub cancelled: Option<Duration>,
}

/// A schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The number of replicas of each service.
    pub replicas: [usize; 4],
    /// The faults.
    pub faults: Faults,
    /// For how long after an acknowledgement the broker may forget it.
    pub ack_lag: Duration,
}

impl Plan {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let tenants: Vec<Tenant> = (0..rng.random_range(1..=3)).map(|n| tenant(rng, n)).collect();
        let jobs = rng.random_range(1..=6);
        let jobs = (0..jobs).map(|n| job(rng, n, tenants.len())).collect();
        Self {
            seed,
            tenants,
            jobs,
            replicas: std::array::from_fn(|_| rng.random_range(1..=2)),
            faults: Faults::draw(rng),
            ack_lag: Duration::from_millis(*[0, 0, 100, 2_000].choose(rng).expect("some")),
        }
    }
}

fn tenant(rng: &mut StdRng, number: u32) -> Tenant {
    let revokes = rng.random_bool(0.1).then(|| Duration::from_millis(rng.random_range(0..20_000)));
    Tenant {
        name: format!("tenant-{number}"),
        signing: rng.random(),
        model: Model::new(rng.random_range(1..=3), rng.random_range(3..=12)),
        revokes,
    }
}

fn job(rng: &mut StdRng, number: u64, tenants: usize) -> Job {
    let within = match rng.random_range(0..8) {
        0 => Duration::from_millis(rng.random_range(100..20_000)),
        _ => AMPLE,
    };
    let cancelled = rng.random_bool(0.15).then(|| {
        let most = *[100, 2_000, 20_000].choose(rng).expect("some");
        Duration::from_millis(rng.random_range(0..most))
    });
    Job {
        tenant: rng.random_range(0..tenants),
        id: rng.random(),
        input: (rng.random::<u64>() & !0xff) | number,
        at: Duration::from_millis(rng.random_range(0..10_000)),
        within,
        priority: *Priority::ALL.choose(rng).expect("some"),
        cancelled,
    }
}
