//! Format of an entry: a first line with version, state, time and the digests of answers in files; a digest of all
//! other lines; the message's subject and headers, one per line; an empty line; the ciphertext.
//!
//! ```text
//! Outbox: 2 pending 1700000000000
//! Digest: …
//! Subject: hermesh.job.acme
//! Hermesh-Job: …
//! ```
//!
//! The head can be checked without the ciphertext, whose digest is among the headers. Version 1 is the same without the
//! second line.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hermesh_engine::Error as EngineError;
use hermesh_engine::artifact::Format;
use hermesh_mesh::wire::{Job, Wire as _};
use hermesh_mesh::{Digest, Message, UnixMillis};

use super::{Entry, State, message};
use crate::model::MAX_CIPHERTEXT;
use crate::{Error, Result};

const FORMAT: Format = Format {
    oldest: 1,
    newest: 2,
    readers: &[],
    again: "encrypt and submit the input again, and move the file away",
};
const WITHOUT_DIGEST: u32 = 1;
/// Name of the file in error messages.
const WHAT: &str = "a job of the outbox";
/// Largest head (all lines before the ciphertext), in bytes: 48 headers, names of at most 64 and values of at most
/// 1024.
const MAX_HEAD: u64 = 64 << 10;
const DIGEST: &str = "Digest: ";
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

/// The subject and the headers of a message, one `Name: value` per line. With these and the body, any NATS client can
/// publish the message.
pub fn headers(message: &Message) -> String {
    let lines = message.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    format!("Subject: {}\n", message.subject) + &lines.collect::<String>()
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let Entry { state, since, answers, job } = entry;
    let message = message(job);
    let mut first = format!("Outbox: {} {} {}", FORMAT.newest, state.as_str(), since.0);
    for answer in answers {
        first.push_str(&format!(" {answer}"));
    }
    let rest = headers(&message);
    let rest = rest.strip_suffix('\n').unwrap_or(&rest);
    let digest = digest(&first, rest);
    let mut bytes = format!("{first}\n{DIGEST}{digest}\n{rest}\n\n").into_bytes();
    bytes.extend_from_slice(&message.body);
    bytes
}

/// Digest of the first line and of the lines from the third on.
fn digest(first: &str, rest: &str) -> Digest {
    Digest::of(format!("{first}\n{rest}").as_bytes())
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
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| other("a head that is not text"))?;
    let (first, mut head) = head.split_once('\n').ok_or_else(|| other("no head"))?;
    let words: Vec<&str> = first.split(' ').collect();
    let ["Outbox:", version, more @ ..] = &words[..] else {
        return Err(other("a different first line"));
    };
    let version = version.parse().map_err(|_| other("a malformed version"))?;
    FORMAT.check(WHAT, version)?;
    if version > WITHOUT_DIGEST {
        let (stated, rest) = head.split_once('\n').ok_or_else(|| other("no digest"))?;
        if stated.strip_prefix(DIGEST) != Some(digest(first, rest).to_string().as_str()) {
            return Err(damaged());
        }
        head = rest;
    }
    let mut lines = head.lines();
    let [state, since, answers @ ..] = more else {
        return Err(other("a different first line"));
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
    let job = Job::receive(&message)?;
    // The ciphertext of an ended job is not kept.
    if part == Part::All && !state.ended() && Digest::of(&job.input) != job.context.input {
        return Err(damaged());
    }
    Ok(Entry { state, since, answers, job })
}

fn damaged() -> Error {
    EngineError::Damaged { what: WHAT, mend: FORMAT.again }.into()
}

fn other(found: &str) -> Error {
    Error::NotAnOutboxEntry { found: found.to_owned() }
}
