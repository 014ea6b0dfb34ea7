//! `docs/protocol.md` matches the code: its tables and examples are generated here and must appear in it literally.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use bytes::Bytes;
use hermesh_mesh::{
    Digest, Message, Signature,
    bus::{
        DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, Overflow, QueueOptions, Retention, memory::MemoryBus,
    },
    objects,
    seal::{SEAL, SEAL_ROOM},
    topology,
    wire::{AuditKind, Context, FailureCode, Lane, Priority, VERSION},
};

#[path = "common/examples.rs"]
mod examples;

use examples::{KEY, MODEL, context, job, signing, tenant};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics with the text that the document lacks.
fn expect_all(what: &str, parts: impl IntoIterator<Item = String>) {
    let document = document();
    let missing: Vec<String> =
        parts.into_iter().filter(|part| !document.contains(&**part)).collect();
    assert!(missing.is_empty(), "docs/protocol.md lacks these {what}:\n{}", missing.join("\n"));
}

/// The source code of all wire types.
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
    let per_subject = queue.max_per_subject.map(|most| format!("{most} per subject"));
    let direct = queue.direct.then(|| "direct".to_owned());
    let also: Vec<String> = per_subject.into_iter().chain(direct).collect();
    let also = also.join(", ");
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
    let room = format!("less {} bytes, of which {SEAL_ROOM} are for the seal", 512 + SEAL_ROOM);
    let others = [window, description, "262144 bytes", "Hermesh-Version: 1"].map(String::from);
    expect_all("numbers", others.into_iter().chain([room]));
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
        .chain([DEAD_REASON, DEAD_QUEUE, DEAD_SUBJECT, SEAL])
        .collect();
    assert!(headers.len() > 40, "{headers:?}");
    expect_all("headers", headers.iter().map(|name| format!("| `{name}` |")));
    let lanes = Lane::ALL.iter().map(|lane| lane.as_str());
    let priorities = Priority::ALL.iter().map(|priority| priority.as_str());
    let kinds = AuditKind::ALL.iter().map(|kind| kind.as_str());
    let names = lanes.chain(priorities).chain(kinds);
    expect_all("names", names.map(|name| format!("`{name}`")));
}

/// Formats a message as in `job.headers`: headers, an empty line, and the body. Headers with the same value everywhere
/// are shown only in the first example.
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
    let messages = examples::all();
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

/// Follows the document's rule independently of the code.
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

/// Follows the document's rule for parts, with the bytes of its example.
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
