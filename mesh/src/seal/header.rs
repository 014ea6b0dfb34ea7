//! Parsing of NATS header blocks: `NATS/1.0` with an optional status, lines of `name: value`, an empty line.

use super::SEAL;

const VERSION: &[u8] = b"NATS/1.0";
const END: &[u8] = b"\r\n";
/// Headers with this prefix are exchanged between a client and the broker; they are not part of the message.
const BROKERS: &[u8] = b"nats-";

/// Why a header block is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected NATS/1.0 and lines of name: value, each ended by CR LF")]
pub struct BadHeaders(pub &'static str);

/// A parsed header block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderBlock<'a> {
    status: &'a [u8],
    lines: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> HeaderBlock<'a> {
    /// The most lines.
    pub const MAX_LINES: usize = 128;

    /// Parses a block. A message without headers has an empty block.
    ///
    /// # Errors
    /// The block is malformed.
    pub fn parse(block: &'a [u8]) -> Result<Self, BadHeaders> {
        if block.is_empty() {
            return Ok(Self::default());
        }
        let rest = block.strip_prefix(VERSION).ok_or(BadHeaders("another version"))?;
        let rest = rest.strip_suffix(END).ok_or(BadHeaders("no end"))?;
        let (status, mut rest) = line(rest)?;
        let status = status.trim_ascii();
        // Exactly three digits are required. Otherwise another parser might see no status and take a status reply of
        // the broker for a message.
        let code = status.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !status.is_empty() && (code.len() != 3 || !code.iter().all(u8::is_ascii_digit)) {
            return Err(BadHeaders("a status that is not a three-digit number"));
        }
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (found, behind) = line(rest)?;
            let colon = found.iter().position(|byte| *byte == b':');
            let (name, value) = found.split_at(colon.ok_or(BadHeaders("a line without a colon"))?);
            if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic()) {
                return Err(BadHeaders("an invalid header name"));
            }
            if lines.len() >= Self::MAX_LINES {
                return Err(BadHeaders("more than 128 lines"));
            }
            lines.push((name, value[1..].trim_ascii()));
            rest = behind;
        }
        Ok(Self { status, lines })
    }

    /// The status of a reply by the broker itself; empty on other messages.
    pub fn status(&self) -> &'a [u8] {
        self.status
    }

    /// Whether there are no header lines; there may be a status.
    pub fn is_bare(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the block has a message signature, valid or not.
    pub fn is_sealed(&self) -> bool {
        self.lines.iter().any(|(name, _)| is_seal(name))
    }

    /// All names that begin with `Nats-` in any case; these headers are between a client and the broker.
    pub fn brokers(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.lines.iter().map(|(name, _)| *name).filter(|name| is_brokers(name))
    }

    /// The first value under exactly this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.lines.iter().find(|(of, _)| *of == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The message signature, if there is one.
    pub(super) fn seal(&self) -> Result<Option<&'a [u8]>, BadHeaders> {
        // A signature together with a status is rejected: a status comes from the broker and changes the meaning of the
        // message.
        let mut seals = self.lines.iter().filter(|(name, _)| is_seal(name));
        match (seals.next(), seals.next()) {
            (None, _) => Ok(None),
            (Some(_), _) if !self.status.is_empty() => Err(BadHeaders("a seal and a status")),
            (Some((_, value)), None) => Ok(Some(value)),
            _ => Err(BadHeaders("two seals")),
        }
    }

    /// The headers that the message signature covers: all except the signature itself and the broker's headers.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + '_ {
        self.lines.iter().copied().filter(|(name, _)| !is_seal(name) && !is_brokers(name))
    }
}

fn is_seal(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(SEAL.as_bytes())
}

fn is_brokers(name: &[u8]) -> bool {
    name.get(..BROKERS.len()).is_some_and(|start| start.eq_ignore_ascii_case(BROKERS))
}

/// Splits off the first line. A line must be printable ASCII: clients close the connection when they read other bytes,
/// and another parser might see two lines in one.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), BadHeaders> {
    let end = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~' | b'\t'));
    let (line, rest) = bytes.split_at(end.ok_or(BadHeaders("no end"))?);
    let rest = rest.strip_prefix(END).ok_or(BadHeaders("a byte that is not printable ASCII"))?;
    Ok((line, rest))
}
