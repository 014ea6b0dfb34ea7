//! Attacks by other clients, with a stub instead of the engine: each attack is carried out, and the
//! victim's job still gets its answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use hermesh_mesh::{
    Bytes, Digest, Error, JobId, SigningKey, TenantId,
    bus::BusHandle,
    client::Pending,
    objects::{self, Bucket},
    topology,
    wire::{
        Answer, Computed, Context, FactsQuery, Failure, FailureCode, Job, Priority, Receipt,
        Refused, RegisterModel, RevokeKey, UploadEvaluationKey, Wire, accepted,
    },
};
use hermesh_tests::{
    bus::{DyingBus, Moment},
    mesh::{LIMIT, Mesh, PER_SHARD, Tenant, scenario},
    stub::{self, Model, Stub},
};

const A_MOMENT: Duration = Duration::from_secs(1);

async fn a_moment() {
    tokio::time::sleep(A_MOMENT).await;
}

async fn code(pending: Pending) -> FailureCode {
    match pending.outcome(|_| {}).await {
        Err(Error::Failed(failure)) => failure.code,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn context(mesh: &Mesh, name: &str, of: &Tenant, within: Duration) -> Context {
    Context {
        job: JobId::random(),
        tenant: name.parse().expect("a valid name"),
        model: of.model,
        key: of.key,
        input: Digest([0; 32]),
        deadline: mesh.clock.now().plus(within),
        priority: Priority::default(),
        trace: None,
    }
}

/// A job of acme whose tasks wait for evaluation, and the means to finish it.
struct Victim {
    mesh: Mesh,
    stub: Arc<Stub>,
    model: Model,
    acme: Tenant,
    pending: Pending,
    _keys: hermesh_key_management::Handle,
    _aggregation: hermesh_aggregation::Handle,
}

impl Victim {
    async fn start() -> Self {
        let (mesh, keys) = Mesh::start().await;
        let preprocessing = mesh.preprocessing(mesh.handle()).await;
        let aggregation = mesh.aggregation(mesh.handle()).await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let pending = acme.submit(model.input(1)).await;
        a_moment().await;
        // A replica without any state takes over.
        preprocessing.kill();
        std::mem::forget(mesh.preprocessing(mesh.handle()).await);
        let (_keys, _aggregation) = (keys, aggregation);
        Self { mesh, stub: Arc::default(), model, acme, pending, _keys, _aggregation }
    }

    async fn gets_the_answer(self) {
        a_moment().await;
        let _evaluation = self.mesh.evaluation(self.mesh.handle(), &self.stub).await;
        let answer = self.pending.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, self.model.answer(&self.model.input(1)));
        assert_eq!(self.stub.evaluated(), (self.model.shards(PER_SHARD), 1));
    }
}

#[test]
fn a_message_that_is_given_up_does_not_end_the_job_it_names() {
    scenario(|| async {
        let victim = Victim::start().await;
        let nobody = SigningKey::generate();
        let forged = Job::new(victim.pending.context().clone(), "x".into(), &nobody);
        let mut message = forged.encode("x");
        message.subject = "hermesh.job.nobody".into();
        victim.mesh.handle().publish(message).await.expect("publishes");
        let mut message = forged.encode("x").with_id("another");
        message.headers.insert("Hermesh-Signature", "zz").expect("valid");
        victim.mesh.handle().publish(message).await.expect("publishes");
        victim.gets_the_answer().await;
    });
}

#[test]
fn a_forged_job_does_not_end_the_one_whose_name_it_bears() {
    scenario(|| async {
        let victim = Victim::start().await;
        let nobody = SigningKey::generate();
        let forged = Job::new(victim.pending.context().clone(), "x".into(), &nobody);
        let forged = victim.acme.client.submit_job(forged).await.expect("submits");
        // The sender is told.
        assert_eq!(code(forged).await, FailureCode::BadSignature);
        victim.gets_the_answer().await;
    });
}

/// The copy has the victim's own signature. The damage is in parts that the signature does not cover.
#[test]
fn a_damaged_copy_does_not_end_the_job_it_was_copied_from() {
    scenario(|| async {
        let victim = Victim::start().await;
        let (context, input) = (victim.pending.context().clone(), victim.model.input(1));
        let copied = Job::new(context, input.into(), &victim.acme.signing).encode("client");
        let mut damaged = [(); 4].map(|()| copied.clone());
        damaged[0].headers.insert("ce-type", "hermesh.other").expect("valid");
        damaged[1].subject = "hermesh.job.umbra".into();
        damaged[2].headers.insert("traceparent", "zz").expect("valid");
        damaged[3].body = "other".into();
        for (number, message) in damaged.into_iter().enumerate() {
            let message = message.with_id(format!("copy {number}"));
            victim.mesh.handle().publish(message).await.expect("publishes");
        }
        victim.gets_the_answer().await;
    });
}

#[test]
fn another_tenants_failure_under_the_same_name_is_its_own() {
    scenario(|| async {
        let victim = Victim::start().await;
        let umbra = victim.mesh.tenant("umbra", &victim.model).await;
        let job = victim.pending.context().job;
        let bad = Context { job, ..context(&victim.mesh, "umbra", &umbra, LIMIT) };
        let bad = Job::new(bad, "bad".into(), &umbra.signing);
        let bad = umbra.client.submit_job(bad).await.expect("submits");
        assert_eq!(code(bad).await, FailureCode::Malformed);
        victim.gets_the_answer().await;
    });
}

/// Without sidecars, an attacker who can publish to an answer's subject can occupy its only place. Then the
/// job fails: its outcome cannot be stored, and a failure that names the right job is accepted. The
/// attacker cannot pass off other data as the answer.
#[test]
fn a_forged_outcome_is_never_taken_for_the_answer() {
    for forgery in 0..3 {
        scenario(|| async {
            let victim = Victim::start().await;
            let context = victim.pending.context().clone();
            let receipt = Receipt::new(&context, b"evil", [0; 16], &SigningKey::generate());
            let tenant = context.tenant.clone();
            let mut forged =
                Answer { tenant, receipt, trace: None, body: "evil".into() }.encode("x");
            let subject = forged.subject.clone();
            match forgery {
                0 => {}
                1 => forged.headers.insert("Hermesh-Nonce", "zz").expect("valid"),
                _ => {
                    let other = Context { job: JobId::random(), ..context };
                    forged = Failure::new(&other, FailureCode::Internal, "x").encode("x");
                    forged.subject = subject;
                }
            }
            victim.mesh.handle().emit(forged).await.expect("emits");
            let outcome = victim.pending.outcome(|_| {}).await;
            assert!(outcome.is_err(), "{outcome:?}");
        });
    }
}

#[test]
fn the_unauthenticated_leave_nothing_but_refusals() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let model = Model::new(1, 4);
        let acme = mesh.tenant("acme", &model).await;
        let nobody = SigningKey::generate();
        for name in ["nobody", "acme"].repeat(50) {
            let forged = Job::new(context(&mesh, name, &acme, LIMIT), Bytes::new(), &nobody);
            mesh.handle().publish(forged.encode("x")).await.expect("publishes");
        }
        a_moment().await;
        for queue in [topology::JOBS, topology::ANSWERS, "admitted", "open"] {
            assert_eq!(mesh.bus.depth(queue), 0, "{queue}");
        }
    });
}

#[test]
fn a_job_is_never_run_twice_whichever_replica_sees_it() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let first = mesh.preprocessing(mesh.handle()).await;
        let _services =
            (mesh.aggregation(mesh.handle()).await, mesh.evaluation(mesh.handle(), &stub).await);
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let context = context(&mesh, "acme", &acme, Duration::from_secs(20 * 3600));
        let job = Job::new(context.clone(), model.input(1).into(), &acme.signing);
        let pending = acme.client.submit_job(job.clone()).await.expect("submits");
        let answer = pending.outcome(|_| {}).await.expect("an answer");

        first.kill();
        let _second = mesh.preprocessing(mesh.handle()).await;
        tokio::time::sleep(Duration::from_secs(5 * 3600)).await;
        // The same submission sent again finds its answer, even with another message id.
        let again = job.encode("x").with_id("again");
        mesh.handle().publish(again).await.expect("publishes");
        let pending = acme.client.submit_job(job.clone()).await.expect("submits");
        assert_eq!(pending.outcome(|_| {}).await, Ok(answer));
        // Another submission with its job id is refused.
        let other = Job::new(context, model.input(2).into(), &acme.signing);
        let other = acme.client.submit_job(other).await.expect("submits");
        assert_eq!(code(other).await, FailureCode::Replay);
        assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
        // After its deadline it is refused as late, even if the mesh has forgotten it.
        tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
        mesh.handle().publish(job.encode("x").with_id("late")).await.expect("publishes");
        a_moment().await;
        assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
    });
}

#[test]
fn two_inputs_under_one_name_are_never_mixed() {
    for publishes in 0..2 {
        scenario(|| async {
            let stub = Arc::new(Stub::default());
            let (mesh, _keys) = Mesh::start().await;
            let handle = mesh.handle();
            let bus = DyingBus::new(handle, "hermesh.task.>", publishes, Moment::After);
            let bus = Arc::new(bus);
            let first = mesh.preprocessing(bus.clone() as BusHandle).await;
            let model = Model::new(1, 8);
            let acme = mesh.tenant("acme", &model).await;
            let one = acme.submit(model.input(1)).await;
            bus.died().await;
            first.kill();
            let _second = mesh.preprocessing(mesh.handle()).await;
            let two = Job::new(one.context().clone(), model.input(2).into(), &acme.signing);
            let two = acme.client.submit_job(two).await.expect("submits");
            let _services = (
                mesh.aggregation(mesh.handle()).await,
                mesh.evaluation(mesh.handle(), &stub).await,
            );
            let (one, two) = tokio::join!(one.outcome(|_| {}), code(two));
            assert_eq!(one.expect("an answer").body, model.answer(&model.input(1)));
            assert_eq!(two, FailureCode::Replay);
        });
    }
}

/// A key that takes as long to load as the test decides.
struct SlowKey {
    started: tokio::sync::mpsc::UnboundedSender<()>,
    go: Mutex<mpsc::Receiver<()>>,
    used: AtomicUsize,
}

impl hermesh_evaluation::Compute for SlowKey {
    type Key = ();
    type Model = ();

    fn key(&self, _: &[u8]) -> Result<((), usize), Refused> {
        self.started.send(()).expect("the test waits");
        // An error means that the test has dropped the sender, and lets all loads proceed.
        let _ = self.go.lock().expect("not poisoned").recv();
        Ok(((), 1))
    }

    fn model(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    fn evaluate(&self, (): &(), (): &(), shard: &[u8]) -> Result<Computed<Vec<u8>>, Refused> {
        self.used.fetch_add(1, Ordering::SeqCst);
        Ok(Computed { value: shard.to_vec(), times: Vec::new() })
    }
}

#[test]
fn a_key_revoked_while_it_is_loaded_is_not_used() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let (go, waiting) = mpsc::channel();
        let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
        let slow = Arc::new(SlowKey { started, go: waiting.into(), used: AtomicUsize::new(0) });
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let options =
            hermesh_evaluation::Options { threads: 1, in_flight: 2, ..Default::default() };
        let environment = mesh.environment("evaluation");
        let evaluation = hermesh_evaluation::start(options, environment, slow.clone()).await;
        let _evaluation = evaluation.expect("starts");
        let model = Model::new(1, 40);
        let acme = mesh.tenant("acme", &model).await;
        let pending = acme.submit(model.input(1)).await;
        has_started.recv().await.expect("the key is being loaded");
        acme.client.revoke_key(acme.key).await.expect("revokes");
        drop(go);
        assert_eq!(code(pending).await, FailureCode::KeyRevoked);
        a_moment().await;
        assert_eq!(slow.used.load(Ordering::SeqCst), 0);
    });
}

/// An inspection that ends when the test decides.
struct SlowInspection(Mutex<mpsc::Receiver<()>>, tokio::sync::mpsc::UnboundedSender<()>);

impl hermesh_key_management::Inspect for SlowInspection {
    fn key(&self, bytes: &[u8]) -> Result<String, Refused> {
        if bytes.ends_with(b"slow") {
            self.1.send(()).expect("the test waits");
            let _ = self.0.lock().expect("not poisoned").recv();
        }
        Ok("p".into())
    }

    fn model(&self, _: &[u8]) -> Result<String, Refused> {
        Ok("p".into())
    }
}

#[test]
fn a_revocation_does_not_wait_for_somebody_elses_upload() {
    scenario(|| async {
        let (mesh, keys) = Mesh::start().await;
        keys.kill();
        let (go, waiting) = mpsc::channel();
        let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
        let keys = hermesh_key_management::start(
            hermesh_key_management::Options::default(),
            mesh.environment("key-management"),
            Arc::new(SlowInspection(waiting.into(), started)),
        );
        let _keys = keys.await.expect("starts");
        let model = Model::new(1, 4);
        let (acme, umbra) = (mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await);
        let upload = umbra.client.upload_key("slow".into());
        let revoke = async {
            has_started.recv().await.expect("the inspection has started");
            let revoked = acme.client.revoke_key(acme.key).await;
            drop(go);
            revoked
        };
        let (uploaded, revoked) = tokio::join!(upload, revoke);
        assert_eq!(revoked, Ok(()));
        assert!(uploaded.is_ok(), "{uploaded:?}");
    });
}

#[test]
fn one_tenants_key_is_not_anothers_to_take_or_withdraw() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let _services = (
            mesh.preprocessing(mesh.handle()).await,
            mesh.evaluation(mesh.handle(), &stub).await,
            mesh.aggregation(mesh.handle()).await,
        );
        let model = Model::new(1, 8);
        let umbra = mesh.tenant("umbra", &model).await;
        // The key's bytes are public: umbra uploads acme's before acme does, and revokes them later.
        let squatted = umbra.client.upload_key(stub::key("p", "acme").into()).await;
        let acme = mesh.tenant("acme", &model).await;
        assert_eq!(squatted, Ok(acme.key));
        umbra.client.revoke_key(acme.key).await.expect("revokes its own");
        let answer = acme.submit(model.input(1)).await.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, model.answer(&model.input(1)));
    });
}

#[test]
fn a_false_claim_costs_the_upload_and_nothing_else() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let acme = mesh.tenant("acme", &Model::new(1, 8)).await;
        let bus = mesh.handle();
        let tenant: TenantId = "acme".parse().expect("a valid name");
        let bucket = Bucket::Uploads(tenant.clone());
        let bytes = Bytes::from(stub::key("p", "fresh"));
        let key = objects::put(&*bus, &bucket, bytes.clone(), |_, _| {}).await.expect("stores");
        let model = RegisterModel::new(tenant.clone(), key, &acme.signing).encode("x");
        let claimed = bus.request(model, LIMIT).await.expect("answers");
        assert!(matches!(accepted(&claimed), Err(Error::Refused(_))));
        // Otherwise the upload could be claimed, and read, again and again.
        assert_eq!(objects::exists(&*bus, &bucket, key).await, Ok(false));
        objects::put(&*bus, &bucket, bytes, |_, _| {}).await.expect("stores again");
        let upload = UploadEvaluationKey::new(tenant, key, &acme.signing).encode("x");
        let reply = bus.request(upload, LIMIT).await.expect("answers");
        assert_eq!(accepted(&reply), Ok(()));
    });
}

#[test]
fn requests_are_taken_on_their_own_subjects_only() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let acme = mesh.tenant("acme", &Model::new(1, 8)).await;
        let tenant = || "acme".parse().expect("a valid name");
        let revoke = RevokeKey::new(tenant(), acme.key, &acme.signing).encode("x");
        let facts = FactsQuery { tenant: tenant(), key: acme.key, model: acme.model }.encode("x");
        for message in [revoke, facts] {
            for subject in ["hermesh.keys.tenant.umbra", "hermesh.keys.revoke.umbra"] {
                let mut message = message.clone();
                message.subject = subject.into();
                let reply = mesh.handle().request(message, LIMIT).await.expect("answers");
                let refused = accepted(&reply);
                assert!(matches!(&refused, Err(Error::Refused(_))), "{refused:?}");
            }
        }
    });
}
