//! Shared parts of the targets: a fixed root of trust and messages signed under it, and the seeds of the targets on
//! models.

pub mod models;
pub mod proto;

use hermesh_mesh::{
    Digest,
    seal::{Content, HeaderBlock},
};

/// The domain of the fixed root.
pub const DOMAIN: &str = "hermesh.local";

/// A message as one byte string: subject, reply subject, headers and body, separated by NUL bytes.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    subject: &'a str,
    reply: &'a str,
    /// The header block.
    pub headers: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits a byte string.
    pub fn split(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == 0);
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let (subject, reply) = (text()?, text()?);
        Some(Self { subject, reply, headers: parts.next()?, body: parts.next()? })
    }

    /// The same message with other headers.
    pub fn with_headers(self, headers: &'a [u8]) -> Self {
        Self { headers, ..self }
    }

    /// The same message with another body.
    pub fn with_body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// Joins the parts to one byte string.
    pub fn join(&self) -> Vec<u8> {
        [self.subject.as_bytes(), self.reply.as_bytes(), self.headers, self.body].join(&0)
    }

    /// The form that is signed and verified; `headers` are the parsed headers.
    pub fn content(&self, headers: &'a HeaderBlock<'a>) -> Content<'a> {
        Content { subject: self.subject, reply: self.reply, headers, body: Digest::of(self.body) }
    }

    /// Whether two messages are equal to a reader: equal apart from the message signature and the headers between a
    /// client and the broker.
    pub fn says_what(&self, other: &Message<'_>) -> bool {
        (self.subject, self.reply, self.body) == (other.subject, other.reply, other.body)
            && lines(self.headers).eq(lines(other.headers))
    }
}

/// The headers that a reader sees, parsed independently of the tested parser.
fn lines(block: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let lines = block.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (String::from_utf8_lossy(&line[..colon]), &line[colon..]);
        let lower = name.to_ascii_lowercase();
        let counts = lower != "hermesh-seal" && !lower.starts_with("nats-");
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        counts.then(|| (name.into_owned(), value.to_vec()))
    })
}
