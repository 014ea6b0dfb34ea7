//! Messages of the bus: a subject, headers and an opaque body.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use crate::Error;

/// Headers of a message. Names and values are printable ASCII; their number and lengths are
/// bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The most headers one message may carry.
    pub const MAX_COUNT: usize = 48;
    /// The longest name.
    pub const MAX_NAME: usize = 64;
    /// The longest value.
    pub const MAX_VALUE: usize = 1024;

    /// Sets a header whose name or value may come from outside this program.
    pub fn insert(&mut self, name: &str, value: impl Into<String>) -> Result<(), Error> {
        let value = value.into();
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let bad = |expected| Error::BadHeader {
            header: name.chars().take(Self::MAX_NAME).collect(),
            expected,
        };
        if name.is_empty() || name.len() > Self::MAX_NAME || !name.bytes().all(token) {
            return Err(bad("a name of 1 to 64 letters, digits, - and _"));
        }
        if value.len() > Self::MAX_VALUE || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(bad("at most 1024 printable ASCII characters"));
        }
        if self.0.len() >= Self::MAX_COUNT && !self.0.contains_key(name) {
            return Err(bad("at most 48 headers in one message"));
        }
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// Sets a header written by this program; a character that is not allowed becomes `?`.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        let clean = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
        let value: String = value.to_string().chars().take(Self::MAX_VALUE).collect();
        self.0.insert(name.to_owned(), value.chars().map(clean).collect());
    }

    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
    }
}

/// One message. Cloning does not copy the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject: tokens separated by dots.
    pub subject: String,
    /// The message's type and metadata.
    pub headers: Headers,
    /// Opaque bytes.
    pub body: Bytes,
}

/// The longest identifier of a message.
pub(crate) const MAX_ID: usize = 256;

/// The header with the message's id, used for deduplication.
pub const MESSAGE_ID: &str = "ce-id";

impl Message {
    /// A message without headers.
    pub fn new(subject: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: Headers::default(), body: body.into() }
    }

    /// The same message with this id.
    #[must_use]
    pub fn with_id(mut self, id: impl ToString) -> Self {
        self.headers.set(MESSAGE_ID, id);
        self
    }

    /// The id by which a queue recognises a second publish of the same message.
    pub fn id(&self) -> Option<&str> {
        self.headers.get(MESSAGE_ID)
    }

    /// Approximate size on the wire: subject, headers and body.
    pub fn size(&self) -> usize {
        self.subject.len() + self.headers.size() + self.body.len()
    }

    /// The subject's first two tokens; used as a metric label, because their number is bounded.
    pub fn class(&self) -> &str {
        class(&self.subject)
    }
}

/// Prints only the length of the body, which is large and confidential.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// The first two tokens of a subject.
pub(crate) fn class(subject: &str) -> &str {
    let end = subject.match_indices('.').nth(1).map(|(at, _)| at);
    &subject[..end.unwrap_or(subject.len())]
}

/// Whether `subject` falls under `filter`: `*` stands for one token, a final `>` for one or more.
pub fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for expected in filter.split('.') {
        match (expected, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (expected, Some(token)) if expected == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_by_token() {
        assert!(matches("a.b", "a.b"));
        assert!(matches("a.*.c", "a.b.c"));
        assert!(matches("a.>", "a.b.c"));
        assert!(!matches("a.>", "a"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(!matches("a.b.c", "a.b"));
        assert!(!matches("a.b", "ab"));
    }

    #[test]
    fn a_class_is_two_tokens() {
        assert_eq!(class("hermesh.task.x.y"), "hermesh.task");
        assert_eq!(class("hermesh.task"), "hermesh.task");
        assert_eq!(class("x"), "x");
    }

    #[test]
    fn headers_refuse_what_would_break_the_wire() {
        let mut headers = Headers::default();
        assert!(headers.insert("a\r\nb", "x").is_err());
        assert!(headers.insert("a", "x\r\ny: z").is_err());
        assert!(headers.insert("a", "x".repeat(1025)).is_err());
        for i in 0..Headers::MAX_COUNT {
            assert_eq!(headers.insert(&format!("h{i}"), "x"), Ok(()));
        }
        assert!(headers.insert("one-more", "x").is_err());
        assert_eq!(headers.insert("h0", "again"), Ok(()));
    }
}
