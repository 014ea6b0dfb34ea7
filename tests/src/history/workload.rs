//! The jobs of a history, and the check of their answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hermesh_mesh::{
    Bytes, Digest, Error, SigningKey, SystemClock,
    bus::BusHandle,
    client::Client,
    wire::{FailureCode, OpenJob},
};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::{PER_SHARD, role::identity, trust::tenant};
use crate::stub::{self, Model};

/// Longer than any history may take.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Jobs of one tenant in progress at the same time: below admission's quota.
const WINDOW: usize = 24;

/// Inputs, and the check of their answers.
pub trait Workload: Send + Sync + 'static {
    /// The evaluation key of a tenant, as bytes.
    fn key(&self, tenant: &str) -> Vec<u8>;

    /// The model, as bytes.
    fn model(&self) -> Vec<u8>;

    /// The input of one job, as bytes.
    fn input(&self, number: usize) -> Vec<u8>;

    /// Whether `answer` is right for that job's input.
    fn is_right(&self, number: usize, answer: &[u8]) -> bool;
}

/// Jobs of the stub: three stages of two shards each.
pub struct StubWorkload;

impl StubWorkload {
    fn model_of() -> Model {
        Model::new(3, 2 * PER_SHARD)
    }
}

impl Workload for StubWorkload {
    fn key(&self, tenant: &str) -> Vec<u8> {
        stub::key("p", tenant)
    }

    fn model(&self) -> Vec<u8> {
        Self::model_of().encode()
    }

    fn input(&self, number: usize) -> Vec<u8> {
        Self::model_of().input(number as u64)
    }

    fn is_right(&self, number: usize, answer: &[u8]) -> bool {
        Self::model_of().answer(&self.input(number)) == answer
    }
}

/// Counts of the jobs' outcomes.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Right answers.
    pub right: AtomicUsize,
    /// Wrong answers. Must be none.
    pub wrong: AtomicUsize,
    /// Jobs that failed or never ended. Must be none.
    pub lost: AtomicUsize,
    /// Submissions refused by quota, and repeated.
    pub refused: AtomicUsize,
}

impl Outcomes {
    /// Jobs that ended.
    pub fn ended(&self) -> usize {
        [&self.right, &self.wrong, &self.lost].iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

struct Tenant {
    client: Client,
    key: Digest,
    model: Digest,
    window: Semaphore,
}

/// Submits `jobs` jobs of tenants, each with its own bus, and checks every answer.
///
/// # Errors
/// A tenant could not be registered, or a job panicked.
pub async fn run(
    buses: Vec<BusHandle>,
    workload: Arc<dyn Workload>,
    jobs: usize,
    outcomes: Arc<Outcomes>,
) -> anyhow::Result<()> {
    let mut registered = Vec::new();
    for (number, bus) in buses.iter().enumerate() {
        registered.push(Arc::new(register(bus, &*workload, &tenant(number)).await?));
    }
    let tenants = registered.len();
    let mut running = JoinSet::new();
    for number in 0..jobs {
        let tenant = registered[number % tenants].clone();
        let (workload, outcomes) = (workload.clone(), outcomes.clone());
        if running.len() >= WINDOW * tenants {
            running.join_next().await.transpose()?;
        }
        running.spawn(async move {
            let _permit = tenant.window.acquire().await;
            let count = match answer(&tenant, &*workload, number, &outcomes).await {
                Ok(answer) if workload.is_right(number, &answer) => &outcomes.right,
                Ok(_) => &outcomes.wrong,
                Err(error) => {
                    tracing::error!(number, %error, "a job was lost");
                    &outcomes.lost
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    while running.join_next().await.transpose()?.is_some() {}
    Ok(())
}

/// Waits until no messages of jobs are left, or long enough for redeliveries and sweeps. Returns what is
/// left.
///
/// # Errors
/// Those of the bus.
pub async fn settled(bus: &BusHandle) -> Result<BTreeMap<&'static str, usize>, Error> {
    for _ in 0..90 {
        if left_behind(bus).await?.values().all(|left| *left == 0) {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    left_behind(bus).await
}

async fn left_behind(bus: &BusHandle) -> Result<BTreeMap<&'static str, usize>, Error> {
    let mut left = BTreeMap::new();
    for (what, filter) in [
        ("open jobs", OpenJob::filter(None)),
        ("express tasks", "hermesh.task.express.>".into()),
        ("tasks", "hermesh.task.normal.>".into()),
        ("bulk tasks", "hermesh.task.bulk.>".into()),
        ("partials", "hermesh.partial.>".into()),
        ("arrivals", "hermesh.arrived.>".into()),
        ("dead letters", "hermesh.dead.>".into()),
    ] {
        left.insert(what, bus.subjects(&filter).await?.len());
    }
    Ok(left)
}

async fn register(bus: &BusHandle, workload: &dyn Workload, name: &str) -> Result<Tenant, Error> {
    let client = Client::new(
        bus.clone(),
        Arc::new(SystemClock),
        name.parse()?,
        SigningKey::generate(),
        identity().verifying_key(),
    );
    loop {
        let ready = async {
            client.register().await?;
            let key = client.upload_key(workload.key(name).into()).await?;
            Ok((key, client.register_model(workload.model().into()).await?))
        };
        match ready.await {
            Ok((key, model)) => {
                let window = Semaphore::new(WINDOW);
                return Ok(Tenant { client: client.clone(), key, model, window });
            }
            Err::<_, Error>(error) if error.retryable() => sleep(Duration::from_millis(200)).await,
            Err(error) => return Err(error),
        }
    }
}

/// Submits one job until it is admitted, and waits for its answer.
async fn answer(
    tenant: &Tenant,
    workload: &dyn Workload,
    number: usize,
    outcomes: &Outcomes,
) -> Result<Bytes, Error> {
    loop {
        let input = workload.input(number).into();
        let submitted = tenant.client.submit(tenant.model, tenant.key, input, DEADLINE).await;
        let outcome = match submitted {
            Ok(pending) => pending.outcome(|_| {}).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(answer) => return Ok(answer.body),
            Err(Error::Failed(failure)) if failure.code == FailureCode::Overloaded => {
                outcomes.refused.fetch_add(1, Ordering::Relaxed);
                sleep(failure.retry_after.unwrap_or(Duration::from_secs(1))).await;
            }
            // The tenant's quota at the broker is used up for the moment.
            Err(Error::Full { .. }) => {
                outcomes.refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
