//! Key management across services, with a stub instead of the engine: no record is lost whenever it dies,
//! keys rotate without a pause, and a revocation is immediate and final.

use std::{sync::Arc, time::Duration};

use hermesh_mesh::{
    Bytes, Digest, Error, Message, SigningKey, TenantId, UnixMillis,
    bus::{Bus as _, BusHandle},
    client::Pending,
    objects::{self, Bucket, PART_BYTES, Part},
    topology,
    wire::{
        Accepted, AuditKind, AuditLog, Facts, FactsQuery, FailureCode, KeyList, KeyRecord,
        KeyRevoked, KeyStatus, ListKeys, ListModels, ListParts, ModelList, PartList, ReadAudit,
        Replaces, RevokeKey, UploadEvaluationKey, Wire, accepted, answer_to,
    },
};
use hermesh_tests::{
    bus::{DyingBus, Moment},
    mesh::{LIMIT, Mesh, Tenant, scenario},
    stub::{self, Model, Stub},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn key_management(mesh: &Mesh, bus: BusHandle) -> hermesh_key_management::Handle {
    let environment = mesh.environment_on("key-management", bus);
    let options = hermesh_key_management::Options::default();
    let handle = hermesh_key_management::start(options, environment, Arc::new(Stub::default()));
    handle.await.expect("starts")
}

async fn ask<T: Wire>(mesh: &Mesh, request: &impl Wire) -> Result<T, Error> {
    answer_to(&mesh.handle().request(request.encode("x"), LIMIT).await.expect("answers"))
}

fn name(name: &str) -> TenantId {
    name.parse().expect("a valid name")
}

async fn list(mesh: &Mesh, tenant: (&str, &Tenant)) -> Vec<KeyStatus> {
    let question = ListKeys::new(name(tenant.0), mesh.clock.now(), &tenant.1.signing);
    ask::<KeyList>(mesh, &question).await.expect("lists").0
}

async fn audit(mesh: &Mesh, tenant: (&str, &Tenant)) -> Vec<AuditKind> {
    let question = ReadAudit::new(name(tenant.0), mesh.clock.now(), 100, &tenant.1.signing);
    let log = ask::<AuditLog>(mesh, &question).await.expect("reads").0;
    assert!(log.is_sorted_by_key(|entry| entry.at));
    log.into_iter().map(|entry| entry.kind).collect()
}

/// Uploads the bytes of a second key of acme, without registering it.
async fn second_key(mesh: &Mesh) -> Digest {
    let bytes: Bytes = stub::key("p", "acme-2").into();
    let bucket = Bucket::Uploads(name("acme"));
    objects::put(&mesh.bus, &bucket, bytes, |_, _| {}).await.expect("stores")
}

/// Kills the service, and lets the bus notice.
async fn kill(service: hermesh_key_management::Handle) {
    service.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn refused_as(result: Result<(), Error>) -> FailureCode {
    match result {
        Err(Error::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn code(pending: Pending) -> FailureCode {
    match pending.outcome(|_| {}).await {
        Err(Error::Failed(failure)) => failure.code,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn killed_at_any_moment_it_leaves_what_the_next_one_finishes() {
    let rotation = |tenant: &Tenant, key| {
        let replaces = Replaces { key: tenant.key, overlap: HOUR };
        UploadEvaluationKey::rotation(name("acme"), key, replaces, &tenant.signing).encode("x")
    };
    let revocation =
        |tenant: &Tenant, _| RevokeKey::new(name("acme"), tenant.key, &tenant.signing).encode("x");
    type Request<'a> = &'a dyn Fn(&Tenant, Digest) -> Message;
    let requests: [Request<'_>; 2] = [&rotation, &revocation];
    for (is_revocation, request) in requests.into_iter().enumerate() {
        for (publishes, moment) in (0..8).flat_map(|n| [(n, Moment::Before), (n, Moment::After)]) {
            scenario(|| async {
                let (mesh, first) = Mesh::start().await;
                let acme = mesh.tenant("acme", &Model::new(1, 8)).await;
                kill(first).await;
                let bus = Arc::new(DyingBus::new(mesh.handle(), ">", publishes, moment));
                let dying = key_management(&mesh, bus.clone()).await;
                let key = second_key(&mesh).await;
                let message = request(&acme, key);
                let handle = mesh.handle();
                tokio::select! {
                    () = bus.died() => {}
                    // If the service publishes fewer messages than that, it does not die and replies.
                    reply = handle.request(message.clone(), LIMIT) => {
                        accepted(&reply.expect("answers")).expect("granted");
                    }
                }
                kill(dying).await;
                let _next = key_management(&mesh, mesh.handle()).await;
                let reply = mesh.handle().request(message, LIMIT).await.expect("answers");
                assert_eq!(accepted(&reply), Ok(()));
                let keys = list(&mesh, ("acme", &acme)).await;
                let audit = audit(&mesh, ("acme", &acme)).await;
                assert!(keys[0].key == acme.key && keys[0].version == 1);
                if is_revocation == 1 {
                    assert!(keys[0].revoked.is_some());
                    assert!(!kept(&mesh, acme.key).await);
                    assert_eq!(count(&audit, AuditKind::KeyRevoked), 1);
                } else {
                    assert!(keys[0].retires.is_some());
                    assert_eq!((keys[1].key, keys[1].version, keys.len()), (key, 2, 2));
                    assert!(kept(&mesh, acme.key).await && kept(&mesh, key).await);
                    assert_eq!(count(&audit, AuditKind::KeyAccepted), 2);
                    assert_eq!(count(&audit, AuditKind::KeyReplaced), 1);
                }
            });
        }
    }
}

async fn kept(mesh: &Mesh, key: Digest) -> bool {
    objects::exists(&mesh.bus, &Bucket::Keys, key).await.expect("looks")
}

fn count(audit: &[AuditKind], kind: AuditKind) -> usize {
    audit.iter().filter(|other| **other == kind).count()
}

#[test]
fn jobs_under_both_keys_run_while_a_rotation_overlaps() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let new = second_key(&mesh).await;
        let replaces = Replaces { key: acme.key, overlap: HOUR };
        let rotate = UploadEvaluationKey::rotation(name("acme"), new, replaces, &acme.signing);
        ask::<Accepted>(&mesh, &rotate).await.expect("rotates");
        let submit = async |key, seed, within| {
            let input = model.input(seed).into();
            acme.client.submit(acme.model, key, input, within).await.expect("submits")
        };
        // A job admitted under the old key, which runs after the overlap.
        let late = submit(acme.key, 3, 3 * HOUR).await;
        tokio::time::sleep(HOUR - Duration::from_secs(60)).await;
        let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
        assert_eq!(
            late.outcome(|_| {}).await.expect("an answer").body,
            model.answer(&model.input(3))
        );
        for (key, seed) in [(acme.key, 1), (new, 2)] {
            let answer = submit(key, seed, LIMIT).await.outcome(|_| {}).await.expect("an answer");
            assert_eq!(answer.body, model.answer(&model.input(seed)));
        }
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(code(submit(acme.key, 4, LIMIT).await).await, FailureCode::KeyRetired);
        let answer = submit(new, 5, LIMIT).await.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, model.answer(&model.input(5)));
    });
}

#[test]
fn a_job_admitted_before_its_key_retires_runs_to_its_end() {
    scenario(|| async {
        let stub = Arc::new(Stub::default());
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let input = model.input(1);
        let pending = acme.client.submit(acme.model, acme.key, input.clone().into(), 20 * HOUR);
        let pending = pending.await.expect("submits");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let new = second_key(&mesh).await;
        let replaces = Replaces { key: acme.key, overlap: Duration::ZERO };
        let rotate = UploadEvaluationKey::rotation(name("acme"), new, replaces, &acme.signing);
        ask::<Accepted>(&mesh, &rotate).await.expect("rotates");
        tokio::time::sleep(10 * HOUR).await;
        let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
        assert_eq!(pending.outcome(|_| {}).await.expect("an answer").body, model.answer(&input));
    });
}

#[test]
fn a_revocation_stands_against_a_record_that_is_written_late() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let _services = mesh.preprocessing(mesh.handle()).await;
        let model = Model::new(1, 8);
        let acme = mesh.tenant("acme", &model).await;
        acme.client.revoke_key(acme.key).await.expect("revokes");
        let revoked = KeyRevoked::subject_of(&name("acme"), acme.key);
        assert!(mesh.bus.exists(&revoked).await.expect("looks"));
        let record = KeyRecord {
            tenant: name("acme"),
            key: acme.key,
            parameters: "p".into(),
            bytes: 1,
            version: 9,
            created: UnixMillis(0),
        };
        let late = record.encode("late");
        mesh.bus.publish(late.clone()).await.expect("publishes");
        // Even if the first record were gone, and after any other queue has forgotten.
        tokio::time::sleep(3 * topology::MAX_DEADLINE).await;
        mesh.bus.purge(&late.subject).await.expect("purges");
        mesh.bus.publish(late).await.expect("publishes");
        let query = FactsQuery { tenant: name("acme"), key: acme.key, model: acme.model };
        let facts = ask::<Facts>(&mesh, &query).await.expect("answers");
        assert!(facts.key.is_some_and(|key| key.revoked));
        assert_eq!(code(acme.submit(model.input(1)).await).await, FailureCode::KeyRevoked);
        let again = acme.client.upload_key(stub::key("p", "acme").into()).await.map(drop);
        assert_eq!(refused_as(again), FailureCode::KeyRevoked);
        assert!(!kept(&mesh, acme.key).await);
    });
}

#[test]
fn an_upload_cut_off_at_half_goes_on_at_half() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let acme = mesh.tenant("acme", &Model::new(1, 8)).await;
        let key = Bytes::from(stub::key("p", &"k".repeat(20 << 20)));
        let parts = key.len().div_ceil(PART_BYTES);
        let half = parts as u32 / 2;
        let bus = DyingBus::new(mesh.handle(), "hermesh.upload.>", half, Moment::Before);
        let bucket = Bucket::Uploads(name("acme"));
        tokio::select! {
            _ = objects::put(&bus, &bucket, key.clone(), |_, _| {}) => panic!("was cut off"),
            () = bus.died() => {}
        }
        // Offered too early, the upload is refused and its parts stay.
        let offer = UploadEvaluationKey::new(name("acme"), Digest::of(&key), &acme.signing);
        let early = mesh.handle().request(offer.encode("x"), LIMIT).await.expect("answers");
        assert_eq!(refused_as(accepted(&early)), FailureCode::DigestMismatch);
        let mut sent = mesh.bus.subscribe("hermesh.upload.>").await.expect("subscribes");
        let mut progress = Vec::new();
        let offered = acme.client.offer_key(key.clone(), None, |done, of| {
            progress.push((done, of));
        });
        assert_eq!(offered.await, Ok(Digest::of(&key)));
        assert_eq!(progress[0], (half as usize * PART_BYTES, key.len()));
        assert_eq!(progress.last(), Some(&(key.len(), key.len())));
        let mut published = 0;
        while tokio::time::timeout(Duration::from_secs(1), sent.next()).await.is_ok() {
            published += 1;
        }
        assert_eq!(published, parts - half as usize);
        assert_eq!(list(&mesh, ("acme", &acme)).await[1].bytes, key.len() as u64);
    });
}

#[test]
fn a_tenant_is_told_of_its_own_parts_and_of_no_others() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let model = Model::new(1, 8);
        let (acme, umbra) = (mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await);
        let object = Digest([7; 32]);
        let (later, sooner) = (Part { of: 12, part: 3 }, Part { of: 12, part: 1 });
        for part in [later, sooner].map(|Part { of, part }| format!("{of}.{part}")) {
            let stored = Message::new(format!("hermesh.upload.acme.{object}.{part}"), "x");
            mesh.bus.publish(stored).await.expect("publishes");
        }
        // Subjects that name no parts of the upload.
        for other in
            [format!("{object}.12.12"), format!("{object}.+3.1"), format!("{}.1.0", acme.key)]
        {
            let stored = Message::new(format!("hermesh.upload.acme.{other}"), "x");
            mesh.bus.publish(stored).await.expect("publishes");
        }
        let now = mesh.clock.now();
        let list = async |tenant: &str, signing: &SigningKey| {
            let question = ListParts::new(name(tenant), object, now, signing);
            ask::<PartList>(&mesh, &question).await.map(|list| list.0)
        };
        assert_eq!(list("acme", &acme.signing).await, Ok(vec![sooner, later]));
        assert_eq!(list("umbra", &umbra.signing).await, Ok(vec![]));
        let forged = list("acme", &umbra.signing).await.map(drop);
        assert_eq!(refused_as(forged), FailureCode::BadSignature);
        let unknown = list("nobody", &umbra.signing).await.map(drop);
        assert_eq!(refused_as(unknown), FailureCode::UnknownTenant);
    });
}

#[test]
fn a_damaged_upload_starts_afresh() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let acme = mesh.tenant("acme", &Model::new(1, 8)).await;
        let good: Bytes = stub::key("p", "other").into();
        let digest = Digest::of(&good);
        for of in ["1", "2"] {
            let part = Message::new(format!("hermesh.upload.acme.{digest}.{of}.0"), "damaged");
            mesh.bus.publish(part).await.expect("publishes");
        }
        let damaged = acme.client.upload_key(good.clone()).await.map(drop);
        assert_eq!(refused_as(damaged), FailureCode::DigestMismatch);
        assert_eq!(acme.client.upload_key(good).await, Ok(digest));
    });
}

#[test]
fn listing_and_audit_show_a_tenant_its_own_affairs_and_nobody_elses() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let model = Model::new(1, 8);
        let (acme, umbra) = (mesh.tenant("acme", &model).await, mesh.tenant("umbra", &model).await);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let new = second_key(&mesh).await;
        let replaces = Replaces { key: acme.key, overlap: HOUR };
        let rotate = UploadEvaluationKey::rotation(name("acme"), new, replaces, &acme.signing);
        ask::<Accepted>(&mesh, &rotate).await.expect("rotates");
        tokio::time::sleep(Duration::from_secs(60)).await;
        acme.client.revoke_key(new).await.expect("revokes");
        // Umbra forges a revocation of acme's key.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let forged = RevokeKey::new(name("acme"), acme.key, &umbra.signing);
        assert!(ask::<Accepted>(&mesh, &forged).await.is_err());

        let keys = list(&mesh, ("acme", &acme)).await;
        let shown: Vec<_> = keys.iter().map(|key| (key.key, key.version)).collect();
        assert_eq!(shown, [(acme.key, 1), (new, 2)]);
        assert!(keys[0].retires.is_some() && keys[0].revoked.is_none());
        assert!(keys[1].retires.is_none() && keys[1].revoked.is_some());
        let models = ListModels::new(name("acme"), mesh.clock.now(), &acme.signing);
        let models = ask::<ModelList>(&mesh, &models).await.expect("lists").0;
        assert_eq!(models.iter().map(|model| model.model).collect::<Vec<_>>(), [acme.model]);
        let audit_of_acme = audit(&mesh, ("acme", &acme)).await;
        for kind in [
            AuditKind::TenantRegistered,
            AuditKind::ModelAccepted,
            AuditKind::KeyReplaced,
            AuditKind::KeyRevoked,
            AuditKind::SignatureRefused,
        ] {
            assert_eq!(count(&audit_of_acme, kind), 1, "{kind}");
        }
        assert_eq!(count(&audit_of_acme, AuditKind::KeyAccepted), 2);
        assert_eq!(audit_of_acme.len(), 7);

        assert_eq!(list(&mesh, ("umbra", &umbra)).await.len(), 1);
        assert_eq!(audit(&mesh, ("umbra", &umbra)).await.len(), 3);
        let curious = ListKeys::new(name("acme"), mesh.clock.now(), &umbra.signing);
        assert!(ask::<KeyList>(&mesh, &curious).await.is_err());
        let overheard = ListKeys::new(name("acme"), mesh.clock.now(), &acme.signing);
        tokio::time::sleep(Duration::from_secs(301)).await;
        let replayed = ask::<KeyList>(&mesh, &overheard).await.map(drop);
        assert_eq!(refused_as(replayed), FailureCode::Expired);
    });
}
