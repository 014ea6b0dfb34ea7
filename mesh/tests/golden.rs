//! Messages written by earlier versions can still be read. For each version of the wire there is one file with a
//! message of every type; these files are never changed.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use hermesh_mesh::{
    Error, Message,
    wire::{
        Accepted, Admitted, Answer, Arrived, AuditEntry, AuditLog, CancelJob, Cancelled, Facts,
        FactsQuery, Failure, Job, Joined, KeyList, KeyRecord, KeyRetires, KeyRevoked, KeyVersion,
        ListKeys, ListModels, ListParts, ModelList, ModelOffer, ModelRecord, OpenJob, PartList,
        Partial, ReadAudit, Refusal, RegisterModel, RegisterTenant, RevokeKey, ServiceKey, Status,
        Task, TenantRecord, UploadEvaluationKey, VERSION, Wire,
    },
};

#[path = "common/examples.rs"]
mod examples;

/// Decodes a message as its `ce-type` and encodes it again.
fn rewrite(message: &Message) -> Result<Message, Error> {
    let kind = message.headers.get("ce-type").expect("names its type");
    let source = message.headers.get("ce-source").expect("names its source");
    macro_rules! as_one_of {
        ($($name:ident)+) => {
            $(if kind == $name::TYPE {
                return $name::decode(message).map(|value| value.encode(source));
            })+
        };
    }
    as_one_of! {
        Accepted Admitted Answer Arrived AuditEntry AuditLog CancelJob Cancelled Facts FactsQuery Failure Job
        Joined KeyList KeyRecord KeyRetires KeyRevoked KeyVersion ListKeys ListModels ListParts ModelList
        ModelOffer ModelRecord OpenJob PartList Partial ReadAudit Refusal RegisterModel RegisterTenant
        RevokeKey ServiceKey Status Task TenantRecord UploadEvaluationKey
    }
    panic!("{kind}: no such type")
}

fn file(version: u32) -> PathBuf {
    format!("{}/tests/golden/{version}.txt", env!("CARGO_MANIFEST_DIR")).into()
}

const SUBJECT: &str = "Subject: ";
const NEXT: &str = "\n====\n";

fn to_text(messages: &[Message]) -> String {
    let one = |message: &Message| {
        let mut text = format!("{SUBJECT}{}\n", message.subject);
        for (name, value) in message.headers.iter() {
            writeln!(text, "{name}: {value}").expect("a string has room");
        }
        text + "\n" + str::from_utf8(&message.body).expect("examples are text") + NEXT
    };
    messages.iter().map(one).collect()
}

fn of_text(text: &str) -> Vec<Message> {
    let one = |text: &str| {
        let (head, body) = text.split_once("\n\n").expect("an empty line");
        let (subject, headers) = head.split_once('\n').expect("headers");
        let subject = subject.strip_prefix(SUBJECT).expect("a subject");
        let mut message = Message::new(subject, body.to_owned());
        for line in headers.lines() {
            let (name, value) = line.split_once(": ").expect("a name and a value");
            message.headers.insert(name, value).expect("a header");
        }
        message
    };
    text.split_terminator(NEXT).map(one).collect()
}

#[test]
fn what_every_version_wrote_is_read() {
    for version in 1..=VERSION {
        let path = file(version);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; see write_golden", path.display()));
        let messages = of_text(&text);
        let kinds: BTreeSet<_> =
            messages.iter().map(|message| message.headers.get("ce-type")).collect();
        assert!(kinds.len() >= 37, "{kinds:?}");
        for message in &messages {
            let again = rewrite(message).unwrap_or_else(|error| panic!("{error}: {message:?}"));
            // For the current version, encoding must reproduce the file; a later version may encode differently.
            if version == VERSION {
                assert_eq!(&again, message);
            }
        }
    }
}

/// Fails when the encoding of any message changes, even by one more required header. Such a change needs a new wire
/// version and a file for it.
#[test]
fn this_version_still_writes_what_it_wrote() {
    let written = fs::read_to_string(file(VERSION)).expect("is there");
    assert_eq!(to_text(&examples::all()), written);
}

/// Run once for each version: `cargo test -p hermesh-mesh --test golden -- --ignored`. Never replaces a file.
#[test]
#[ignore = "writes the file of a new version"]
fn write_golden() {
    let path = file(VERSION);
    assert!(!path.exists(), "{} is there; it stays as it is", path.display());
    fs::write(&path, to_text(&examples::all())).expect("writes");
}
