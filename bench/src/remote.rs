//! A pipeline's server as a separate process. Both sides exchange messages of a length and that many bytes. The client
//! sends the program, the evaluation key and then inputs; the server returns for each input the answer, the time and
//! the memory used.

use std::io::{BufReader, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use hermesh_client::compute::{Evaluator, pool};
use hermesh_engine::{EvaluationKey, Program};
use serde::Serialize;

use crate::conventional::{self, Plan};
use crate::machine;

/// Largest message, in bytes.
const MAX_FRAME: u64 = 1 << 30;

/// The pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Hermesh,
    Conventional,
    /// The conventional pipeline with operators fused.
    Fused,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hermesh => "hermesh",
            Self::Conventional => "conventional",
            Self::Fused => "fused",
        }
    }
}

/// The client's end of a server process.
pub(crate) struct Remote {
    kind: Kind,
    process: Child,
    /// Dropped to end the server.
    requests: Option<BufWriter<ChildStdin>>,
    replies: BufReader<ChildStdout>,
}

/// A server's reply to an input.
pub(crate) struct Reply {
    pub(crate) answer: Vec<u8>,
    /// Time from the input's bytes to the answer's bytes.
    pub(crate) seconds: f64,
    /// Peak memory while the key was loaded, in bytes; 0 if unknown.
    pub(crate) loading: u64,
    /// Peak memory since then.
    pub(crate) answering: u64,
}

impl Remote {
    pub(crate) fn start(
        kind: Kind,
        threads: NonZeroUsize,
        program: &[u8],
        evaluation_key: &[u8],
    ) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", kind.name(), &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server's process")?;
        let (requests, replies) = (process.stdin.take(), process.stdout.take());
        let requests = requests.map(BufWriter::new);
        let replies = BufReader::new(replies.context("the server has no output")?);
        let mut remote = Self { kind, process, requests, replies };
        remote.send(program)?;
        remote.send(evaluation_key)?;
        Ok(remote)
    }

    pub(crate) fn answer(&mut self, input: &[u8]) -> Result<Reply> {
        self.send(input)?;
        let ended = || anyhow!("the {} server ended early; its message is above", self.kind.name());
        let answer = read_frame(&mut self.replies)?.ok_or_else(ended)?;
        let mut words = [[0; 8]; 3];
        for word in &mut words {
            self.replies.read_exact(word)?;
        }
        let [seconds, loading, answering] = words;
        Ok(Reply {
            answer,
            seconds: f64::from_le_bytes(seconds),
            loading: u64::from_le_bytes(loading),
            answering: u64::from_le_bytes(answering),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let requests = self.requests.as_mut().context("the server's input is closed")?;
        let sent = write_frame(requests, bytes);
        sent.with_context(|| format!("the {} server took no more bytes", self.kind.name()))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.requests = None;
        // The exit status adds nothing to the errors reported before.
        let _ = self.process.wait();
    }
}

/// The server's end: answers inputs until standard input ends.
pub(crate) fn serve(kind: Kind, threads: NonZeroUsize) -> Result<()> {
    let mut requests = BufReader::new(std::io::stdin());
    let program = read_frame(&mut requests)?.context("expected a program")?;
    let key = read_frame(&mut requests)?.context("expected an evaluation key")?;
    let pool = pool(Some(threads))?;
    match kind {
        Kind::Hermesh => {
            let program = Program::decode(&program)?;
            let decoded = EvaluationKey::decode(&key)?;
            drop(key);
            let evaluator = Evaluator::new(&program, &decoded, &pool)?;
            drop(decoded);
            answer_all(requests, |input| Ok(evaluator.compute(input, |_| ())?))
        }
        Kind::Conventional | Kind::Fused => {
            let plan: Plan = serde_json::from_slice(&program)?;
            let server = pool.install(|| conventional::Server::new(plan, key))?;
            answer_all(requests, |input| pool.install(|| server.answer(input)))
        }
    }
}

fn answer_all(
    mut requests: impl Read,
    mut answer: impl FnMut(&[u8]) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut replies = std::io::stdout().lock();
    let loading = machine::peak_memory().unwrap_or(0);
    let separate = machine::reset_peak_memory();
    while let Some(input) = read_frame(&mut requests)? {
        let start = Instant::now();
        let answer = answer(&input)?;
        let seconds = start.elapsed().as_secs_f64();
        let answering = machine::peak_memory().filter(|_| separate).unwrap_or(0);
        write_frame(&mut replies, &answer)?;
        replies.write_all(&seconds.to_le_bytes())?;
        for memory in [loading, answering] {
            replies.write_all(&memory.to_le_bytes())?;
        }
        replies.flush()?;
    }
    Ok(())
}

fn write_frame(writer: &mut impl Write, bytes: &[u8]) -> Result<()> {
    writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
    writer.write_all(bytes)?;
    Ok(writer.flush()?)
}

/// Reads a message; `None` at the end of the input.
fn read_frame(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = Vec::with_capacity(8);
    reader.by_ref().take(8).read_to_end(&mut length)?;
    if length.is_empty() {
        return Ok(None);
    }
    let length = length.try_into().map_err(|_| anyhow!("a frame's length is cut off"))?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= MAX_FRAME, "a frame of {length} bytes is over the limit of {MAX_FRAME}");
    let mut bytes = Vec::with_capacity(length as usize);
    let read = reader.by_ref().take(length).read_to_end(&mut bytes)? as u64;
    ensure!(read == length, "a frame ends after {read} of {length} bytes");
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_and_damage_is_noticed() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"hello").unwrap();
        write_frame(&mut bytes, b"").unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(read_frame(&mut reader).unwrap().as_deref(), Some(&b"hello"[..]));
        assert_eq!(read_frame(&mut reader).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(read_frame(&mut reader).unwrap(), None);
        for cut in [3, 10] {
            assert!(read_frame(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        assert!(read_frame(&mut &u64::MAX.to_le_bytes()[..]).is_err());
    }
}
