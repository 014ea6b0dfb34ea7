//! Limits, quotas, priorities, cancellation and deadlines, with a stub instead of the engine.

use std::{sync::Arc, time::Duration};

use hermesh_mesh::{
    Error, SigningKey,
    bus::{Bus, BusHandle},
    client::Pending,
    wire::{CancelJob, Failure, FailureCode, Lane, Priority, Task, Wire, accepted},
};
use hermesh_tests::{
    mesh::{LIMIT, Mesh, Tenant, scenario},
    stub::{Model, Stub},
};

async fn failure(pending: Pending) -> Failure {
    match pending.outcome(|_| {}).await {
        Err(Error::Failed(failure)) => *failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// A mesh without evaluation, so that jobs stay open.
async fn waiting() -> (Mesh, impl Sized) {
    let (mesh, keys) = Mesh::start().await;
    let services =
        (keys, mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
    (mesh, services)
}

async fn submit(mesh: &Mesh, tenant: &Tenant, input: Vec<u8>, priority: Priority) -> Pending {
    let job = tenant.job(mesh, input, priority);
    tenant.client.submit_job(job).await.expect("submits")
}

async fn lane(mesh: &Mesh, pending: &Pending) -> Vec<Lane> {
    let (tenant, job) = (&pending.context().tenant, pending.context().job);
    let mut lanes = Vec::new();
    for lane in Lane::ALL {
        let tasks = mesh.bus.subjects(&Task::job_filter(*lane, tenant, job)).await.expect("lists");
        lanes.extend(tasks.first().map(|_| *lane));
    }
    lanes
}

#[test]
fn a_tenant_over_its_limit_is_told_when_to_come_back_and_others_are_not_affected() {
    scenario(|| async {
        let (mesh, _services) = waiting().await;
        let model = Model::new(1, 4);
        let (acme, umbra) = (mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await);
        let limit = hermesh_preprocessing::Options::default().max_open_jobs;
        for seed in 0..limit as u64 {
            submit(&mesh, &acme, model.input(seed), Priority::High).await;
        }
        a_moment().await;
        let refused = failure(acme.submit(model.input(1000)).await).await;
        assert_eq!(refused.code, FailureCode::Overloaded);
        let after = refused.retry_after.expect("says when");
        assert!(Duration::from_secs(1) <= after && after <= LIMIT, "{after:?}");
        let other = umbra.submit(model.input(1)).await;
        a_moment().await;
        assert_eq!(lane(&mesh, &other).await, [Lane::Express]);

        // Ended jobs free their places.
        let stub = Arc::new(Stub::default());
        let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let input = model.input(2000);
        let answer = acme.submit(input.clone()).await.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, model.answer(&input));
    });
}

#[test]
fn a_flood_leaves_anothers_jobs_in_the_express_lane_and_low_priority_waits() {
    scenario(|| async {
        let (mesh, _services) = waiting().await;
        let model = Model::new(1, 4);
        let (acme, umbra) = (mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await);
        let low = submit(&mesh, &acme, model.input(99), Priority::Low).await;
        a_moment().await;
        let mut flood = Vec::new();
        for seed in 0..30 {
            flood.push(acme.submit(model.input(seed)).await);
            a_moment().await;
        }
        let other = umbra.submit(model.input(1)).await;
        a_moment().await;
        assert_eq!(lane(&mesh, &low).await, [Lane::Bulk]);
        assert_eq!(lane(&mesh, &other).await, [Lane::Express]);
        for pending in &flood {
            assert_eq!(lane(&mesh, pending).await, [Lane::Normal]);
        }
        let jobs = [low.context().job, other.context().job];
        // In the order of the results, one shard each: answers are made several at a time.
        let mut results = mesh.handle().subscribe("hermesh.partial.>").await.expect("subscribes");
        let stub = Arc::new(Stub::default());
        let _evaluation = mesh.evaluation_of(mesh.handle(), &stub, 1).await;
        let mut order = Vec::new();
        for _ in 0..32 {
            let message = results.next().await.expect("a result");
            order.push(message.headers.get("Hermesh-Job").expect("named").to_owned());
        }
        assert_eq!(order[0], jobs[1].to_string());
        assert_eq!(order[31], jobs[0].to_string());
    });
}

async fn cancel(mesh: &Mesh, order: &CancelJob) -> Result<(), FailureCode> {
    let reply = mesh.handle().request(order.encode("test"), LIMIT).await.expect("answers");
    match accepted(&reply) {
        Ok(()) => Ok(()),
        Err(Error::Refused(refusal)) => Err(refusal.code),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_job_is_cancelled_by_its_tenant_wherever_it_is_and_while_it_has_not_ended() {
    scenario(|| async {
        let (mesh, services) = waiting().await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let order = |pending: &Pending, key: &SigningKey| {
            CancelJob::new(pending.context().tenant.clone(), pending.context().job, key)
        };
        // A running job: it leaves the open jobs, and workers skip its tasks.
        let running = acme.submit(model.input(1)).await;
        a_moment().await;
        assert_eq!(lane(&mesh, &running).await, [Lane::Normal]);
        let stranger = order(&running, &SigningKey::generate());
        assert_eq!(cancel(&mesh, &stranger).await, Err(FailureCode::BadSignature));
        let order_running = order(&running, &acme.signing);
        assert_eq!(cancel(&mesh, &order_running).await, Ok(()));
        a_moment().await;
        assert_eq!((mesh.bus.depth("open"), mesh.bus.depth("partials")), (0, 0));
        assert_eq!(failure(running).await.code, FailureCode::Cancelled);
        // A client that missed the reply may repeat the request.
        assert_eq!(cancel(&mesh, &order_running).await, Ok(()));

        // A queued job: admission does not begin it.
        let job = acme.job(&mesh, model.input(2), Priority::Normal);
        let early = CancelJob::new(acme.name.clone(), job.context.job, &acme.signing);
        assert_eq!(cancel(&mesh, &early).await, Ok(()));
        let queued = acme.client.submit_job(job).await.expect("submits");
        a_moment().await;
        assert_eq!(lane(&mesh, &queued).await, []);
        assert_eq!(failure(queued).await.code, FailureCode::Cancelled);

        // A job that has ended.
        let stub = Arc::new(Stub::default());
        let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
        let ended = acme.submit(model.input(3)).await;
        let late = order(&ended, &acme.signing);
        ended.outcome(|_| {}).await.expect("an answer");
        assert_eq!(cancel(&mesh, &late).await, Err(FailureCode::Ended));
        drop(services);
    });
}

#[test]
fn a_deadline_that_passes_unnoticed_is_reported_by_the_sweep() {
    scenario(|| async {
        let (mesh, _services) = waiting().await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let limit = Duration::from_secs(20);
        let submitted = acme.client.submit(acme.model, acme.key, model.input(1).into(), limit);
        let pending = submitted.await.expect("submits");
        let subject = hermesh_mesh::wire::Answer::subject_of(&acme.name, pending.context().job);
        tokio::time::sleep(limit + Duration::from_secs(12)).await;
        let bus: BusHandle = mesh.handle();
        let outcome = bus.last(&subject).await.expect("reads").expect("has ended");
        let failure = Failure::receive(&outcome).expect("a failure");
        assert_eq!(failure.code, FailureCode::Expired);
        assert_eq!(mesh.bus.depth("open"), 0);
    });
}
