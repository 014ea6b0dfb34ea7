//! The form of an entry: a line of its own (with the digests of answers in files, if there are), the
//! message's subject and headers as lines, an empty line, the ciphertext.
//!
//! ```text
//! Outbox: 1 pending 1700000000000
//! Subject: hermesh.job.acme
//! Hermesh-Job: …
//! ```

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hermesh_mesh::wire::{Job, Wire as _};
use hermesh_mesh::{Message, UnixMillis};

use super::{Entry, State, message};
use crate::model::MAX_CIPHERTEXT;
use crate::{Error, Result};

const VERSION: &str = "1";
/// Bound on everything before the ciphertext, in bytes: 48 headers of at most 64 and 1024.
const MAX_HEAD: u64 = 64 << 10;
/// Ends the head.
const GAP: &[u8] = b"\n\n";

/// How much of an entry to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the ciphertext.
    Head,
    /// All of it.
    All,
}

/// The subject and the headers of a message, `Name: value`, one a line: what any NATS client needs
/// besides the body to publish it.
pub fn headers(message: &Message) -> String {
    let lines = message.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    format!("Subject: {}\n", message.subject) + &lines.collect::<String>()
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let Entry { state, since, answers, job } = entry;
    let message = message(job);
    let mut head = format!("Outbox: {VERSION} {} {}", state.as_str(), since.0);
    for answer in answers {
        head.push_str(&format!(" {answer}"));
    }
    head.push('\n');
    head.push_str(&headers(&message));
    head.push('\n');
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&message.body);
    bytes
}

pub(super) fn read(path: &Path, part: Part) -> Result<Entry> {
    let file = File::open(path).map_err(Error::io("open the file"))?;
    let limit = match part {
        Part::Head => MAX_HEAD,
        Part::All => MAX_HEAD + MAX_CIPHERTEXT,
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read the file"))?;
    decode(&bytes, part)
}

pub(super) fn decode(bytes: &[u8], part: Part) -> Result<Entry> {
    let window = &bytes[..bytes.len().min(MAX_HEAD as usize)];
    let end = window.windows(GAP.len()).position(|window| window == GAP);
    let end = end.ok_or_else(|| other("no head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| other("a head that is no text"))?;
    let mut lines = head.lines();
    let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let ["Outbox:", VERSION, state, since, answers @ ..] = &first[..] else {
        return Err(other("another first line"));
    };
    let state = State::ALL.into_iter().find(|known| known.as_str() == *state);
    let state = state.ok_or_else(|| other("an unknown state"))?;
    let since = since.parse().map(UnixMillis).map_err(|_| other("a malformed time"))?;
    let answers = answers.iter().map(|answer| answer.parse().ok()).collect::<Option<_>>();
    let answers = answers.ok_or_else(|| other("a malformed digest of an answer"))?;
    let subject = lines.next().and_then(|line| line.strip_prefix("Subject: "));
    let mut message = Message::new(subject.ok_or_else(|| other("no subject"))?, "");
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| other("a malformed header"))?;
        message.headers.insert(name, value)?;
    }
    if part == Part::All {
        message.body = bytes[end + GAP.len()..].to_vec().into();
    }
    Ok(Entry { state, since, answers, job: Job::receive(&message)? })
}

fn other(found: &str) -> Error {
    Error::NotAnOutboxEntry { found: found.to_owned() }
}
