//! Tenants: they register, submit, cancel and revoke, and retry until they succeed.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error, JobId, SigningKey, TenantId,
    bus::BusHandle,
    client::Client,
    wire::{CancelJob, Context, FailureCode, Job, Wire as _, accepted},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    bus::FaultyBus,
    plan::{self, Plan},
    process::World,
    simulation::Process,
};
use crate::stub;

/// How long a client waits before it retries.
const RETRY: Duration = Duration::from_millis(500);

/// What a client reported about its job.
#[derive(Debug)]
pub struct Told {
    /// The number of the job.
    pub job: usize,
    /// The outcome that the client returned.
    pub outcome: Result<Vec<u8>, Error>,
    /// When it stopped waiting.
    pub at: Duration,
    /// When it would have stopped waiting.
    pub patience: Duration,
    /// Whether its cancellation was accepted.
    pub cancelled: bool,
}

/// A tenant that has registered.
struct Tenant {
    client: Client,
    bus: BusHandle,
    signing: SigningKey,
    name: TenantId,
    key: Digest,
    model: Digest,
}

/// Retries for as long as the error is retryable.
async fn insist<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match attempt().await {
            Err(error) if error.retryable() => sleep(RETRY).await,
            other => return other,
        }
    }
}

/// Runs one tenant: it registers and submits its jobs. Adds their results to `told`.
pub async fn run(
    world: Rc<World>,
    plan: Rc<Plan>,
    number: usize,
    told: Rc<std::cell::RefCell<Vec<Told>>>,
) {
    let tenant = match register(&world, &plan.tenants[number]).await {
        Ok(tenant) => Rc::new(tenant),
        Err(error) => {
            let detail = format!("{}: {error}", plan.tenants[number].name);
            world.simulation.history().violated("an allowed tenant can register", detail);
            return;
        }
    };
    let ready = Instant::now();
    let mut tasks = Vec::new();
    for (index, job) in plan.jobs.iter().enumerate().filter(|(_, job)| job.tenant == number) {
        let (world, tenant, plan) = (world.clone(), tenant.clone(), plan.clone());
        let (at, told) = (ready + job.at, told.clone());
        tasks.push(tokio::task::spawn_local(async move {
            sleep_until(at).await;
            let outcome = submit(&world, &tenant, &plan, index).await;
            told.borrow_mut().push(outcome);
        }));
    }
    if let Some(at) = plan.tenants[number].revokes {
        sleep_until(ready + at).await;
        if let Err(error) = insist(async || tenant.client.revoke_key(tenant.key).await).await {
            world.simulation.history().violated("a tenant can revoke its key", error.to_string());
        }
    }
    for task in tasks {
        task.await.expect("does not panic");
    }
}

async fn register(world: &World, tenant: &plan::Tenant) -> Result<Tenant, Error> {
    let process = Process::new(&tenant.name, false);
    let bus: BusHandle = Arc::new(FaultyBus::new(world.simulation.clone(), process));
    let signing = SigningKey::from_bytes(&tenant.signing);
    let name: TenantId = tenant.name.parse()?;
    let client = Client::new(
        bus.clone(),
        world.clock.clone(),
        name.clone(),
        signing.clone(),
        world.identity.verifying_key(),
    );
    insist(async || client.register().await).await?;
    let bytes = stub::key(&tenant.model.parameters, &tenant.name);
    let key = insist(async || client.upload_key(bytes.clone().into()).await).await?;
    let bytes = tenant.model.encode();
    let model = insist(async || client.register_model(bytes.clone().into()).await).await?;
    Ok(Tenant { client, bus, signing, name, key, model })
}

async fn submit(world: &World, tenant: &Tenant, plan: &Plan, index: usize) -> Told {
    let job = &plan.jobs[index];
    let input = plan.tenants[job.tenant].model.input(job.input);
    let context = Context {
        job: JobId(job.id),
        tenant: tenant.name.clone(),
        model: tenant.model,
        key: tenant.key,
        input: Digest::of(&input),
        deadline: world.clock.now().plus(job.within),
        priority: job.priority,
        trace: None,
    };
    let signed = Job::new(context, input.into(), &tenant.signing);
    let submitted = insist(async || tenant.client.submit_job(signed.clone()).await).await;
    let patience = world.simulation.now() + job.within;
    let cancelling = async {
        let Some(after) = job.cancelled else { return false };
        sleep(after).await;
        cancel(world, tenant, JobId(job.id)).await
    };
    let waiting = async {
        let answer = submitted?.outcome(|_| {}).await?;
        Ok(answer.body.to_vec())
    };
    let waiting = async {
        let outcome = waiting.await;
        (outcome, world.simulation.now())
    };
    let ((outcome, at), cancelled) = tokio::join!(waiting, cancelling);
    Told { job: index, outcome, at, patience, cancelled }
}

/// Whether the cancellation was accepted.
async fn cancel(world: &World, tenant: &Tenant, job: JobId) -> bool {
    let order = CancelJob::new(tenant.name.clone(), job, &tenant.signing).encode("client");
    let wait = Duration::from_secs(10);
    let cancelled =
        insist(async || accepted(&tenant.bus.request(order.clone(), wait).await?)).await;
    match cancelled {
        Ok(()) => true,
        // It came too late, or the job was not known yet.
        Err(Error::Refused(refusal))
            if matches!(refusal.code, FailureCode::Ended | FailureCode::Cancelled) =>
        {
            false
        }
        Err(error) => {
            world.simulation.history().violated("a tenant can cancel its job", error.to_string());
            false
        }
    }
}
