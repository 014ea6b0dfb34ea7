//! An example message of every type.

// Each test that includes this file uses only part of it.
#![allow(dead_code)]

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, Message, SigningKey, TenantId, UnixMillis,
    objects::Part,
    wire::{
        Accepted, Admitted, Answer, Arrived, AuditEntry, AuditKind, AuditLog, CancelJob, Cancelled,
        Context, Facts, FactsQuery, Failure, FailureCode, Job, Joined, KeyFacts, KeyList,
        KeyRecord, KeyRetires, KeyRevoked, KeyStatus, KeyVersion, Lane, ListKeys, ListModels,
        ListParts, ModelFacts, ModelList, ModelOffer, ModelRecord, ModelStatus, OpenJob,
        OperatorTime, PartList, Partial, Position, Priority, ReadAudit, Receipt, Refusal,
        RegisterModel, RegisterTenant, Replaces, RevokeKey, ServiceKey, Status, Task, TenantRecord,
        UploadEvaluationKey, Wire,
    },
};

const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const DEADLINE: UnixMillis = UnixMillis(1_700_000_600_000);
pub(crate) const KEY: Digest = Digest([4; 32]);
pub(crate) const MODEL: Digest = Digest([5; 32]);
const OLD: Digest = Digest([6; 32]);

pub(crate) fn tenant() -> TenantId {
    "acme".parse().expect("a valid name")
}

pub(crate) fn signing() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn service() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

pub(crate) fn context() -> Context {
    Context {
        job: JobId([3; 16]),
        tenant: tenant(),
        model: MODEL,
        key: KEY,
        input: Digest::of(b"input"),
        deadline: DEADLINE,
        priority: Priority::Normal,
        trace: Some(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("valid"),
        ),
    }
}

fn position() -> Position {
    Position {
        lane: Lane::Express,
        stage: 1,
        shard: 2,
        of: 3,
        lookups: 16,
        stage_lookups: 48,
        done_before: 128,
        total: 176,
    }
}

pub(crate) fn job() -> Job {
    Job::new(context(), "input".into(), &signing())
}

fn submission() -> Digest {
    Job::submission(job().context, job().signature)
}

/// Messages to and from tenants.
fn tenants_examples() -> Vec<Message> {
    let client = "client";
    let replaces = Replaces { key: OLD, overlap: Duration::from_secs(3600) };
    let refusal =
        Failure::refusing(&job().encode(client), submission(), FailureCode::Overloaded, "full")
            .expect("names the job");
    let key = KeyStatus {
        key: KEY,
        parameters: "tfhe-3x512-768/1".into(),
        version: 2,
        bytes: 18_000_000,
        created: AT,
        retires: None,
        revoked: None,
    };
    let (owner, parameters) = (tenant(), "tfhe-3x512-768/1".to_owned());
    let model = ModelStatus { model: MODEL, owner, parameters, bytes: 400_000, created: AT };
    vec![
        job().encode(client),
        CancelJob::new(tenant(), context().job, &signing()).encode(client),
        Status::new(&context(), 160, 176).encode("aggregation"),
        Answer {
            tenant: tenant(),
            receipt: Receipt::new(&context(), b"answer", [7; 16], &service()),
            trace: context().trace,
            body: "answer".into(),
        }
        .encode("aggregation"),
        Failure::new(&context(), FailureCode::Expired, "the deadline passed 1s ago")
            .encode("evaluation"),
        Failure { retry_after: Some(Duration::from_secs(7)), ..refusal }.encode("preprocessing"),
        RegisterTenant::new(tenant(), &signing()).encode(client),
        UploadEvaluationKey::new(tenant(), KEY, &signing()).encode(client),
        UploadEvaluationKey::rotation(tenant(), KEY, replaces, &signing()).encode(client),
        RevokeKey::new(tenant(), KEY, &signing()).encode(client),
        RegisterModel::new(tenant(), MODEL, &signing()).encode(client),
        ListKeys::new(tenant(), AT, &signing()).encode(client),
        ListModels::new(tenant(), AT, &signing()).encode(client),
        ListParts::new(tenant(), KEY, AT, &signing()).encode(client),
        ReadAudit::new(tenant(), AT, 100, &signing()).encode(client),
        Accepted.encode("key-management"),
        Refusal {
            code: FailureCode::UnknownKey,
            message: "evaluation key 0404 has not been uploaded".into(),
            retryable: false,
            retry_after: None,
        }
        .encode("key-management"),
        KeyList(vec![key]).encode("key-management"),
        ModelList(vec![model]).encode("key-management"),
        PartList(vec![Part { of: 3, part: 0 }, Part { of: 3, part: 1 }]).encode("key-management"),
        AuditLog(vec![audit()]).encode("key-management"),
    ]
}

fn audit() -> AuditEntry {
    AuditEntry { tenant: tenant(), at: AT, kind: AuditKind::KeyAccepted, object: Some(KEY) }
}

/// Messages between services.
fn services_examples() -> Vec<Message> {
    let (keys, begin) = ("key-management", "preprocessing");
    let parameters = || "tfhe-3x512-768/1".to_owned();
    let facts = Facts {
        tenant: Some(signing().verifying_key()),
        key: Some(KeyFacts {
            owner: tenant(),
            parameters: parameters(),
            revoked: false,
            retires: Some(DEADLINE),
        }),
        model: Some(ModelFacts { parameters: parameters() }),
    };
    let times = vec![OperatorTime { operator: "bootstrap".into(), seconds: 0.25, calls: 16 }];
    let partial = Partial {
        context: context(),
        position: position(),
        outputs: false,
        times,
        body: "partial".into(),
    };
    let open = OpenJob { context: context(), bytes: 5, lane: Lane::Express, admitted: AT };
    let key = KeyRecord {
        tenant: tenant(),
        key: KEY,
        parameters: parameters(),
        bytes: 18_000_000,
        version: 2,
        created: AT,
    };
    let version = KeyVersion { tenant: tenant(), parameters: parameters(), version: 2, key: KEY };
    let retires =
        KeyRetires { tenant: tenant(), key: OLD, successor: KEY, retires: DEADLINE, created: AT };
    let model = ModelRecord {
        model: MODEL,
        owner: tenant(),
        parameters: parameters(),
        bytes: 400_000,
        created: AT,
    };
    let admitted = Admitted { tenant: tenant(), job: context().job, submission: submission() };
    let cancelled = Cancelled { tenant: tenant(), job: context().job };
    let joined = Joined { tenant: tenant(), job: context().job, stage: 1 };
    vec![
        FactsQuery { tenant: tenant(), key: KEY, model: MODEL }.encode(begin),
        facts.encode(keys),
        admitted.encode(begin),
        cancelled.encode(begin),
        open.encode(begin),
        Task { context: context(), position: position(), body: "shard".into() }.encode(begin),
        partial.encode("evaluation"),
        Arrived { context: context(), position: position() }.encode("evaluation"),
        joined.encode("aggregation"),
        TenantRecord { tenant: tenant(), key: signing().verifying_key(), created: AT }.encode(keys),
        key.encode(keys),
        version.encode(keys),
        retires.encode(keys),
        KeyRevoked { tenant: tenant(), key: KEY, created: AT }.encode(keys),
        model.encode(keys),
        ModelOffer { tenant: tenant(), model: MODEL, created: AT }.encode(keys),
        audit().encode(keys),
        ServiceKey(service().verifying_key()).encode("aggregation"),
    ]
}

/// All examples.
pub(crate) fn all() -> Vec<Message> {
    [tenants_examples(), services_examples()].concat()
}
