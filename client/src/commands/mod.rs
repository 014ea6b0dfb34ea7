//! The commands. Results go to standard output; progress goes to standard error if that is a terminal.

mod answers;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod decrypt;
pub(crate) mod demo;
pub(crate) mod encrypt;
pub(crate) mod eval;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod infer;
pub(crate) mod inspect;
mod jobs;
pub(crate) mod key;
pub(crate) mod keygen;
mod mesh;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod quote;
mod remote;
mod report;
mod rows;
mod statistics;
pub(crate) mod submit;
pub(crate) mod tenant;
pub(crate) mod up;

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use hermesh_client::terminal::plain;
use hermesh_engine::{Digest, Timings};
use serde::Serialize;
use serde_json::{Map, Value};

/// Prints a result without control characters, because parts of it may come from others.
fn print(text: &str) -> Result<()> {
    print_styled(&plain(text))
}

/// Prints text that comes only from hermesh, and may contain colours.
fn print_styled(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a result as one JSON document.
fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints a note on standard error if that is a terminal; nothing in a pipe.
fn note(text: &str) {
    if io::stderr().is_terminal() {
        // If standard error is closed, the note is dropped.
        let _ = writeln!(io::stderr(), "{}", plain(text));
    }
}

/// Prints a warning on standard error, also in a pipe.
fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(&format!("warning: {text}")));
}

/// Thread-seconds by operator.
fn seconds_by_operator(timings: &Timings) -> Map<String, Value> {
    timings.iter().map(|(operator, seconds, _)| (operator.to_owned(), seconds.into())).collect()
}

fn hex(digest: &Digest) -> String {
    hermesh_mesh::Digest(*digest).to_string()
}

/// `1 row`, `3 rows`.
fn count(number: usize, singular: &str) -> String {
    format!("{number} {singular}{}", if number == 1 { "" } else { "s" })
}
