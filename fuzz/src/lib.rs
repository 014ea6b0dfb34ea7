//! What several targets share: a fixed root of trust, and what was made under it; and what the targets on
//! models begin with.

pub mod models;
pub mod proto;

use hermesh_mesh::{
    Digest,
    seal::{Content, HeaderBlock},
};

/// The domain of the fixed root.
pub const DOMAIN: &str = "hermesh.local";

/// A message in one piece: subject, place for the answer, headers and body, with a NUL between them.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    subject: &'a str,
    reply: &'a str,
    /// The block of headers.
    pub headers: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes one apart.
    pub fn split(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == 0);
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let (subject, reply) = (text()?, text()?);
        Some(Self { subject, reply, headers: parts.next()?, body: parts.next()? })
    }

    /// With other headers.
    pub fn with_headers(self, headers: &'a [u8]) -> Self {
        Self { headers, ..self }
    }

    /// With another body.
    pub fn with_body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// In one piece.
    pub fn join(&self) -> Vec<u8> {
        [self.subject.as_bytes(), self.reply.as_bytes(), self.headers, self.body].join(&0)
    }

    /// For sealing and verifying, with its headers taken apart.
    pub fn content(&self, headers: &'a HeaderBlock<'a>) -> Content<'a> {
        Content { subject: self.subject, reply: self.reply, headers, body: Digest::of(self.body) }
    }

    /// Whether a reader sees no difference, but for the seal and what is between a client and the broker.
    pub fn says_what(&self, other: &Message<'_>) -> bool {
        (self.subject, self.reply, self.body) == (other.subject, other.reply, other.body)
            && lines(self.headers).eq(lines(other.headers))
    }
}

/// The headers that mean something to a reader, written without the parser that is tested.
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
