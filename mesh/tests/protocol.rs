//! `docs/protocol.md` says what the code does: its tables and examples are made here again, and must be
//! in it letter by letter.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use bytes::Bytes;
use hermesh_mesh::{
    Digest, JobId, Message, Signature, SigningKey, TenantId, UnixMillis,
    bus::{
        DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, Overflow, QueueOptions, Retention, memory::MemoryBus,
    },
    objects, topology,
    wire::{
        Accepted, Admitted, Answer, Arrived, AuditEntry, AuditKind, AuditLog, CancelJob, Cancelled,
        Context, Facts, FactsQuery, Failure, FailureCode, Job, Joined, KeyFacts, KeyList,
        KeyRecord, KeyRetires, KeyRevoked, KeyStatus, KeyVersion, Lane, ListKeys, ListModels,
        ModelFacts, ModelList, ModelOffer, ModelRecord, ModelStatus, OpenJob, OperatorTime,
        Partial, Position, Priority, ReadAudit, Receipt, Refusal, RegisterModel, RegisterTenant,
        Replaces, RevokeKey, ServiceKey, Status, Task, TenantRecord, UploadEvaluationKey, VERSION,
        Wire,
    },
};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics with what is to be written there.
fn expect_all(what: &str, parts: impl IntoIterator<Item = String>) {
    let document = document();
    let missing: Vec<String> =
        parts.into_iter().filter(|part| !document.contains(&**part)).collect();
    assert!(missing.is_empty(), "docs/protocol.md lacks these {what}:\n{}", missing.join("\n"));
}

/// All of the wire's source.
fn source() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire");
    let files = fs::read_dir(directory).expect("the source is there");
    let paths = files.map(|file| file.expect("can be listed").path());
    paths.map(|path| fs::read_to_string(path).expect("can be read")).collect()
}

fn queue_row(queue: &QueueOptions) -> String {
    let retention = match queue.retention {
        Retention::WorkQueue => "work",
        Retention::LastPerSubject => "last",
    };
    let unique = if queue.unique { "yes" } else { "no" };
    let full = match queue.overflow {
        Overflow::Refuse => "refuse",
        Overflow::DiscardOldest => "discard oldest",
    };
    let age = match queue.max_age.map(|age| age.as_secs()) {
        None => "for ever".to_owned(),
        Some(age) => format!("{} h {} min", age / 3600, age % 3600 / 60),
    };
    let also = queue.max_per_subject.map(|most| format!("{most} per subject")).unwrap_or_default();
    let QueueOptions { name, filter, max_messages, max_bytes, .. } = queue;
    let (mib, kib) = (max_bytes >> 20, queue.max_message_bytes >> 10);
    format!(
        "| `hermesh-{name}` | `{filter}` | {retention} | {unique} | {max_messages} | {mib} | {kib} | {age} | {full} | {also} |"
    )
}

#[test]
fn the_document_lists_every_queue() {
    expect_all("rows of streams", topology::queues().iter().map(queue_row));
}

#[test]
fn the_document_states_the_numbers() {
    for queue in topology::queues() {
        let same = (queue.ack_wait, queue.max_deliver, queue.dedup_window);
        assert_eq!(same, (Duration::from_secs(15), 10, Duration::from_secs(120)));
    }
    assert_eq!((VERSION, objects::PART_BYTES), (1, 262_144));
    let description = "hermesh queue; unique=false max_deliver=10 ack_wait_ms=15000";
    let window = "ack_wait 15 s, at most 10 deliveries, duplicate_window 120 s";
    expect_all(
        "numbers",
        [window, description, "262144 bytes", "Hermesh-Version: 1"].map(String::from),
    );
}

#[test]
fn the_document_lists_every_failure_code() {
    let row = |code: &FailureCode| {
        let retryable = if code.retryable() { "yes" } else { "no" };
        format!("| `{}` | {retryable} |", code.as_str())
    };
    expect_all("rows of codes", FailureCode::ALL.iter().map(row));
}

#[test]
fn the_document_lists_every_name() {
    let source = source();
    let literals = source.split('"').skip(1).step_by(2).chain(source.split('"').step_by(2));
    let headers: BTreeSet<&str> = literals
        .filter(|text| text.starts_with("Hermesh-") && !text.ends_with('-'))
        .filter(|text| !text.contains(char::is_whitespace))
        .chain([DEAD_REASON, DEAD_QUEUE, DEAD_SUBJECT])
        .collect();
    assert!(headers.len() > 40, "{headers:?}");
    expect_all("headers", headers.iter().map(|name| format!("| `{name}` |")));
    let lanes = Lane::ALL.iter().map(|lane| lane.as_str());
    let priorities = Priority::ALL.iter().map(|priority| priority.as_str());
    let kinds = AuditKind::ALL.iter().map(|kind| kind.as_str());
    let names = lanes.chain(priorities).chain(kinds);
    expect_all("names", names.map(|name| format!("`{name}`")));
}

const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const DEADLINE: UnixMillis = UnixMillis(1_700_000_600_000);
const KEY: Digest = Digest([4; 32]);
const MODEL: Digest = Digest([5; 32]);
const OLD: Digest = Digest([6; 32]);

fn tenant() -> TenantId {
    "acme".parse().expect("a valid name")
}

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn service() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn context() -> Context {
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

fn job() -> Job {
    Job::new(context(), "input".into(), &signing())
}

fn submission() -> Digest {
    Job::submission(job().context, job().signature)
}

/// What tenants say, and are told.
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
        AuditLog(vec![audit()]).encode("key-management"),
    ]
}

fn audit() -> AuditEntry {
    AuditEntry { tenant: tenant(), at: AT, kind: AuditKind::KeyAccepted, object: Some(KEY) }
}

/// What services say to each other.
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

/// The form of `job.headers`, an empty line, and the body. What is the same everywhere is shown once.
fn example(number: usize, message: &Message) -> String {
    let common = ["ce-source", "ce-specversion", "Hermesh-Version"];
    let mut text = format!("```text\nSubject: {}\n", message.subject);
    for (name, value) in message.headers.iter() {
        if number == 0 || !common.contains(&name) {
            text += &format!("{name}: {value}\n");
        }
    }
    if !message.body.is_empty() {
        text += &format!("\n{}\n", String::from_utf8_lossy(&message.body));
    }
    text + "```"
}

#[test]
fn the_document_has_an_example_of_every_type() {
    let messages = [tenants_examples(), services_examples()].concat();
    let types: BTreeSet<&str> =
        messages.iter().filter_map(|message| message.headers.get("ce-type")).collect();
    let source = source();
    let count = |text: &str| source.matches(text).count();
    let written = count("impl Wire for ") - count("impl Wire for $name");
    assert_eq!(types.len(), written + count("\nquestion!(") + count("\nlist!("), "{types:?}");
    let examples = messages.iter().enumerate();
    expect_all("examples", examples.map(|(number, message)| example(number, message)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The document's rule, followed without the code's help.
#[test]
fn the_documents_transcript_is_what_is_signed() {
    let Context { job: id, deadline, .. } = context();
    let fields: [&[u8]; 8] = [
        b"hermesh job v1",
        &id.0,
        b"acme",
        &MODEL.0,
        &KEY.0,
        &Digest::of(b"input").0,
        &deadline.0.to_be_bytes(),
        b"normal",
    ];
    let mut transcript = Vec::new();
    for field in fields {
        transcript.extend((field.len() as u64).to_be_bytes());
        transcript.extend(field);
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let signature = ed25519_dalek::Signer::sign(&key, &transcript);
    assert_eq!(Signature(signature.to_bytes()), job().signature);
    let line = |field: &[u8]| hex(&(field.len() as u64).to_be_bytes()) + " " + &hex(field);
    let lines = fields.map(line);
    let vector = [lines.join("\n"), hex(&[1; 32]), signing().verifying_key().to_string()];
    expect_all("parts of the test vector", vector);
}

/// The document's rule for parts, with the example's bytes.
#[tokio::test]
async fn the_document_cuts_objects_as_the_code_does() {
    let bus = MemoryBus::default();
    topology::declare(&bus).await.expect("declares");
    let bytes = Bytes::from(vec![0; 600_000]);
    let bucket = objects::Bucket::Uploads(tenant());
    objects::put(&bus, &bucket, bytes, |_, _| {}).await.expect("stores");
    let bus: &dyn hermesh_mesh::bus::Bus = &bus;
    let mut subjects = bus.subjects("hermesh.upload.acme.>").await.expect("lists");
    subjects.sort();
    assert_eq!(subjects.len(), 3);
    expect_all("subjects of parts", subjects);
}
