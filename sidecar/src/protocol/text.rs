//! Subjects and names, kept as the bytes in which they came.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

use bytes::Bytes;

/// One or more characters of visible ASCII: a subject or name that fits into a line. It keeps the whole
/// buffer that it was cut from alive; use a `String` for text that outlives the frame.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    /// Makes a `Str` if all characters are allowed.
    pub fn new(text: impl Into<Bytes>) -> Option<Self> {
        let text = text.into();
        is_name(&text).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The part of `of` that is `text`.
    pub(super) fn part(of: &Bytes, text: &[u8]) -> Option<Self> {
        is_name(text).then(|| Self(of.slice_ref(text)))
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
}

/// Whether messages can be published to the subject.
pub fn is_subject(text: &[u8]) -> bool {
    is_pattern(text) && !text.iter().any(|byte| is_wildcard(*byte))
}

/// Whether the subject can be subscribed to. Unlike nats-server, this rejects `*` and `>` inside a token,
/// because a reader could mistake them for wildcards.
pub fn is_pattern(text: &[u8]) -> bool {
    let mut tokens = text.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        let fits = match token {
            b"*" => true,
            b">" => tokens.peek().is_none(),
            _ => is_name(token) && !token.iter().any(|byte| is_wildcard(*byte)),
        };
        if !fits {
            return false;
        }
    }
    true
}

fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'>')
}
