//! Headers as NATS carries them: `NATS/1.0`, perhaps a status, lines of `name: value`, an empty line.

use super::SEAL;

const VERSION: &[u8] = b"NATS/1.0";
const END: &[u8] = b"\r\n";
/// What begins so is between a client and the broker.
const BROKERS: &[u8] = b"nats-";

/// Why a block of headers is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected NATS/1.0 and lines of name: value, each ended by CR LF")]
pub struct BadHeaders(pub &'static str);

/// A block of headers, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderBlock<'a> {
    status: &'a [u8],
    lines: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> HeaderBlock<'a> {
    /// The most lines.
    pub const MAX_LINES: usize = 128;

    /// Takes a block apart; an empty one is that of a message without headers.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(block: &'a [u8]) -> Result<Self, BadHeaders> {
        if block.is_empty() {
            return Ok(Self::default());
        }
        let rest = block.strip_prefix(VERSION).ok_or(BadHeaders("another version"))?;
        let rest = rest.strip_suffix(END).ok_or(BadHeaders("no end"))?;
        let (status, mut rest) = line(rest)?;
        let status = status.trim_ascii();
        // Others might see none where we see one, and take the broker's word for a message.
        let code = status.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !status.is_empty() && (code.len() != 3 || !code.iter().all(u8::is_ascii_digit)) {
            return Err(BadHeaders("a status that is no number of three digits"));
        }
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (found, behind) = line(rest)?;
            let colon = found.iter().position(|byte| *byte == b':');
            let (name, value) = found.split_at(colon.ok_or(BadHeaders("a line without a colon"))?);
            if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic()) {
                return Err(BadHeaders("a name that is none"));
            }
            if lines.len() >= Self::MAX_LINES {
                return Err(BadHeaders("more than 128 lines"));
            }
            lines.push((name, value[1..].trim_ascii()));
            rest = behind;
        }
        Ok(Self { status, lines })
    }

    /// The status that the broker sends with an answer of its own; empty on other messages.
    pub fn status(&self) -> &'a [u8] {
        self.status
    }

    /// Whether there is nothing but, perhaps, a status.
    pub fn is_bare(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether somebody has put a seal on it, good or not.
    pub fn is_sealed(&self) -> bool {
        self.lines.iter().any(|(name, _)| is_seal(name))
    }

    /// All names that begin with `Nats-`, in whatever case: what is between a client and the broker.
    pub fn brokers(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.lines.iter().map(|(name, _)| *name).filter(|name| is_brokers(name))
    }

    /// The first value under a name, exactly as it is written.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.lines.iter().find(|(of, _)| *of == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The seal's value, if there is one.
    pub(super) fn seal(&self) -> Result<Option<&'a [u8]>, BadHeaders> {
        // A status is the broker's word, and would change what the message means to its reader.
        let mut seals = self.lines.iter().filter(|(name, _)| is_seal(name));
        match (seals.next(), seals.next()) {
            (None, _) => Ok(None),
            (Some(_), _) if !self.status.is_empty() => Err(BadHeaders("a seal and a status")),
            (Some((_, value)), None) => Ok(Some(value)),
            _ => Err(BadHeaders("two seals")),
        }
    }

    /// What a seal covers: all but the seal and what is between a client and the broker.
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

/// The first line, and what is behind it. Between two ends of lines there is printable ASCII only: clients end
/// the connection on which they read what is no text, and others might see two lines where we see one.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), BadHeaders> {
    let end = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~' | b'\t'));
    let (line, rest) = bytes.split_at(end.ok_or(BadHeaders("no end"))?);
    let rest = rest.strip_prefix(END).ok_or(BadHeaders("a byte that is no printable ASCII"))?;
    Ok((line, rest))
}
