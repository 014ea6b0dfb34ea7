//! Jobs through the whole mesh, with a stub instead of the engine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error, JobId,
    client::Pending,
    topology,
    wire::{
        Admitted, Answer, Context, Failure, FailureCode, Job, Priority, Status, Wire, submission,
    },
};
use hermesh_tests::{
    mesh::{LIMIT, Mesh, PER_SHARD, Tenant, scenario},
    stub::{self, Model, Mood, Stub},
};

async fn answer(pending: Pending) -> Answer {
    pending.outcome(|_| {}).await.expect("an answer")
}

async fn failure(pending: Pending) -> Failure {
    match pending.outcome(|_| {}).await {
        Err(Error::Failed(failure)) => *failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// A mesh with one of each service.
async fn full(stub: &Arc<Stub>) -> (Mesh, Vec<Box<dyn std::any::Any>>) {
    let (mesh, keys) = Mesh::start().await;
    let services: Vec<Box<dyn std::any::Any>> = vec![
        Box::new(keys),
        Box::new(mesh.preprocessing(mesh.handle()).await),
        Box::new(mesh.evaluation(mesh.handle(), stub).await),
        Box::new(mesh.aggregation(mesh.handle()).await),
    ];
    (mesh, services)
}

async fn refused(tenant: &Tenant, model: Digest, key: Digest, input: Vec<u8>) -> FailureCode {
    let submitted = tenant.client.submit(model, key, input.into(), LIMIT);
    failure(submitted.await.expect("submits")).await.code
}

#[test]
fn a_job_is_answered_with_progress_and_a_receipt() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let model = Model::new(3, 18);
        let acme = mesh.tenant("acme", &model).await;
        let input = model.input(1);
        let pending = acme.submit(input.clone()).await;
        let context = pending.context().clone();
        let mut progress = Vec::new();
        let answer = pending.outcome(|s| progress.push((s.done, s.total))).await;
        let answer = answer.expect("an answer");

        assert_eq!(answer.body, model.answer(&input));
        let service = mesh.identity.verifying_key();
        assert_eq!(answer.receipt.verify(&service, &context, &answer.body), Ok(()));
        // All messages of a job belong to the trace that its client began.
        assert!(context.trace.is_some());
        assert_eq!(answer.trace, context.trace);
        assert_eq!(progress.first(), Some(&(0, 54)));
        assert!(progress.is_sorted(), "{progress:?}");
        assert!(progress.contains(&(54, 54)), "{progress:?}");
        assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));

        // Nothing is left behind.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let queues = [topology::JOBS, topology::ARRIVALS, "partials", "open"];
        for queue in queues.into_iter().chain(topology::TASKS) {
            assert_eq!(mesh.bus.depth(queue), 0, "{queue}");
        }
        let traffic = mesh.bus.traffic();
        let tasks = traffic.iter().find(|(class, _)| class == "hermesh.task");
        let sent = tasks.map(|(_, traffic)| traffic.messages);
        assert_eq!(sent, Some(model.shards(PER_SHARD) as u64));
    });
}

#[test]
fn a_model_without_lookups_is_only_packed() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let model = Model::new(0, 5);
        let acme = mesh.tenant("acme", &model).await;
        let input = model.input(1);
        let answer = answer(acme.submit(input.clone()).await).await;
        assert_eq!(answer.body, model.answer(&input));
        assert_eq!(stub.evaluated(), (0, 0));
    });
}

#[test]
fn many_jobs_of_two_tenants_on_replicas_are_each_answered_once() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let _more = (
            mesh.preprocessing(mesh.handle()).await,
            mesh.evaluation(mesh.handle(), &stub).await,
            mesh.aggregation(mesh.handle()).await,
            mesh.aggregation(mesh.handle()).await,
        );
        let mut outcomes = mesh.bus_answers().await;
        let model = Model::new(3, 10);
        let tenants = [mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await];
        let mut pending = Vec::new();
        for seed in 0..50 {
            let input = model.input(seed);
            let tenant = &tenants[seed as usize % 2];
            pending.push((input.clone(), tenant.submit(input).await));
        }
        for (input, pending) in pending {
            assert_eq!(answer(pending).await.body, model.answer(&input));
        }
        assert_eq!(stub.evaluated(), (50 * model.shards(PER_SHARD), 1));
        tokio::time::sleep(Duration::from_secs(60)).await;
        // Two replicas may both publish the end of a job; the first is stored.
        let mut ended = BTreeMap::new();
        while let Ok(Some(outcome)) =
            tokio::time::timeout(Duration::from_secs(1), outcomes.next()).await
        {
            ended.entry(outcome.subject.clone()).or_insert(outcome);
        }
        assert_eq!(ended.len(), 50);
        for (subject, first) in ended {
            assert_eq!(mesh.handle().last(&subject).await, Ok(Some(first)));
        }
    });
}

#[test]
fn what_admission_refuses_comes_back_as_a_typed_failure() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let model = Model::new(1, 4);
        let acme = mesh.tenant("acme", &model).await;
        let other = Model { parameters: "q".into(), ..model.clone() };
        let umbra = mesh.tenant("umbra", &other).await;
        let input = model.input(1);
        let unknown = Digest([0; 32]);
        for (model, key, input, code) in [
            (unknown, acme.key, input.clone(), FailureCode::UnknownModel),
            (acme.model, unknown, input.clone(), FailureCode::UnknownKey),
            (acme.model, umbra.key, input.clone(), FailureCode::UnknownKey),
            (umbra.model, acme.key, input.clone(), FailureCode::ParameterMismatch),
            (acme.model, acme.key, vec![0; (1 << 16) + 1], FailureCode::TooLarge),
            (acme.model, acme.key, vec![0; 33], FailureCode::Malformed),
        ] {
            assert_eq!(refused(&acme, model, key, input).await, code);
        }

        let revoked = acme.client.revoke_key(acme.key).await;
        revoked.expect("revokes");
        let code = refused(&acme, acme.model, acme.key, input.clone()).await;
        assert_eq!(code, FailureCode::KeyRevoked);

        // After all of these, the service still works.
        let input = other.input(3);
        let answer = answer(umbra.submit(input.clone()).await).await;
        assert_eq!(answer.body, other.answer(&input));
    });
}

#[test]
fn a_forged_job_is_refused() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let model = Model::new(1, 4);
        let acme = mesh.tenant("acme", &model).await;
        let umbra = mesh.tenant("umbra", &model).await;
        let context = Context {
            job: JobId::random(),
            tenant: "acme".parse().expect("valid"),
            model: acme.model,
            key: acme.key,
            input: Digest([0; 32]),
            deadline: mesh.clock.now().plus(LIMIT),
            priority: Priority::default(),
            trace: None,
        };
        let forged = Job::new(context, model.input(1).into(), &umbra.signing);
        let pending = acme.client.submit_job(forged).await.expect("submits");
        assert_eq!(failure(pending).await.code, FailureCode::BadSignature);

        // A malformed task is given up at once, and the tenant is told.
        let context =
            Context { job: JobId::random(), ..acme.submit(model.input(2)).await.context().clone() };
        let job = Job::new(context, model.input(3).into(), &acme.signing);
        let mut message = job.encode("test");
        message.headers.insert("Hermesh-Deadline", "zz").expect("valid");
        let Context { tenant, job: id, .. } = &job.context;
        let submission = submission(&message, Digest::of(&message.body));
        let subject = Failure::refusal_subject(tenant, *id, &submission);
        let mut events = mesh.handle().subscribe(&subject).await.expect("subscribes");
        mesh.handle().publish(message).await.expect("publishes");
        let failure = Failure::receive(&events.next().await.expect("an event"));
        let failure = failure.expect("a refusal");
        assert_eq!(failure.code, FailureCode::Malformed);
        assert_eq!(failure.refused, Some(submission));
        assert!(failure.message.contains("Hermesh-Deadline"), "{failure}");
        // The failure is not the outcome of the job that it names.
        let outcome = Answer::subject_of(&job.context.tenant, job.context.job);
        assert_eq!(mesh.handle().last(&outcome).await, Ok(None));
    });
}

#[test]
fn an_identifier_is_good_for_one_job() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _services) = full(&stub).await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let first = acme.submit(model.input(1)).await;
        let context = first.context().clone();
        // If two submissions race, either may come first.
        let admitted = Admitted::subject_of(&context.tenant, context.job);
        while !mesh.handle().exists(&admitted).await.expect("reads") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let second = Job::new(context.clone(), model.input(2).into(), &acme.signing);
        let submission = Job::submission(second.context.clone(), second.signature);
        let subject = Failure::refusal_subject(&context.tenant, context.job, &submission);
        let again = acme.client.submit_job(second).await.expect("submits");

        // The first submission continues; the second is refused and leaves the outcome untouched.
        assert_eq!(answer(first).await.body, model.answer(&model.input(1)));
        // The second is refused; it does not get the answer to the other input.
        assert_eq!(failure(again).await.code, FailureCode::Replay);
        let refusal = mesh.handle().last(&subject).await.expect("reads").expect("is kept");
        assert_eq!(Failure::receive(&refusal).expect("a refusal").code, FailureCode::Replay);
        assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
    });
}

#[test]
fn an_expired_job_is_reported_and_not_computed() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let _preprocessing = mesh.preprocessing(mesh.handle()).await;
        let _aggregation = mesh.aggregation(mesh.handle()).await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let limit = Duration::from_secs(10);
        let submitted = acme.client.submit(acme.model, acme.key, model.input(1).into(), limit);
        let pending = submitted.await.expect("submits");
        tokio::time::sleep(limit + Duration::from_secs(1)).await;
        let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
        assert_eq!(failure(pending).await.code, FailureCode::Expired);
        assert_eq!(stub.evaluated(), (0, 0));
        tokio::time::sleep(Duration::from_secs(1)).await;
        for queue in topology::TASKS {
            assert_eq!(mesh.bus.depth(queue), 0, "{queue}");
        }
    });
}

#[test]
fn a_key_revoked_while_its_job_runs_stops_the_job() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let _services = (
            mesh.preprocessing(mesh.handle()).await,
            mesh.aggregation(mesh.handle()).await,
            mesh.evaluation(mesh.handle(), &stub).await,
        );
        // Enough shards that the job is still running when the revocation arrives.
        let model = Model::new(3, 2000);
        let acme = mesh.tenant("acme", &model).await;
        let pending = acme.submit(model.input(1)).await;
        let status = Status::subject_of(&pending.context().tenant, pending.context().job);
        let mut events = mesh.handle().subscribe(&status).await.expect("subscribes");
        let revoke = async {
            loop {
                let event = events.next().await.expect("an event");
                if Status::decode(&event).is_ok_and(|status| status.done > 0) {
                    return acme.client.revoke_key(acme.key).await;
                }
            }
        };
        let (failure, revoked) = tokio::join!(failure(pending), revoke);
        assert_eq!(revoked, Ok(()));
        assert_eq!(failure.code, FailureCode::KeyRevoked);
        assert!(stub.evaluated().0 < model.shards(PER_SHARD));
    });
}

#[test]
fn a_computation_that_refuses_or_panics_fails_its_job_with_the_reason() {
    for (mood, code, reason) in [
        (Mood::Refusing, FailureCode::Computation, "does not like"),
        (Mood::Panicking, FailureCode::Undeliverable, "panicked"),
    ] {
        scenario(|| async {
            let stub = Arc::new(Stub::new(mood));
            let (mesh, _services) = full(&stub).await;
            let model = Model::new(1, 4);
            let acme = mesh.tenant("acme", &model).await;
            let failure = failure(acme.submit(model.input(1)).await).await;
            assert_eq!(failure.code, code);
            assert!(failure.message.contains(reason), "{failure}");
        });
    }
}

#[test]
fn registration_refuses_what_is_not_so() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let model = Model::new(1, 4);
        let acme = mesh.tenant("acme", &model).await;
        let code = |result: Result<_, Error>| match result {
            Err(Error::Refused(refusal)) => refusal.code,
            other => panic!("expected a refusal, got {other:?}"),
        };
        let rubbish = acme.client.upload_key("rubbish".into()).await;
        assert_eq!(code(rubbish), FailureCode::Malformed);
        let rubbish = acme.client.register_model("rubbish".into()).await;
        assert_eq!(code(rubbish), FailureCode::Malformed);
        let umbra = mesh.tenant("umbra", &model).await;
        let again = acme.client.upload_key(stub::key("p", "acme").into()).await;
        assert_eq!(again, Ok(acme.key));
        let foreign = umbra.client.revoke_key(acme.key).await;
        assert_eq!(code(foreign.map(|()| acme.key)), FailureCode::UnknownKey);
        let copied = umbra.client.upload_key(stub::key("p", "acme").into()).await;
        assert_eq!(copied, Ok(acme.key));
    });
}
