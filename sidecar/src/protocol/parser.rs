//! Cuts bytes into frames, without interpreting them.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use super::{ClientOp, ProtocolError, ServerOp};

/// Size limits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A line, with CR LF.
    pub max_line: usize,
    /// A CONNECT or INFO line.
    pub max_json: usize,
    /// A message's headers and body.
    pub max_payload: usize,
    /// A subject or name.
    pub max_subject: usize,
}

impl Limits {
    /// Limits for a client's operations. The limit for lines is nats-server's default.
    pub const fn client(max_payload: usize) -> Self {
        Self { max_line: 4096, max_json: 64 << 10, max_payload, max_subject: 1024 }
    }

    /// Limits for the operations of a server that accepts messages of `max_payload`. Its own replies may be
    /// larger: stored messages in JSON and base64, or with more headers, and pages of 100,000 subjects. Its
    /// lines may be as long as a client's, plus one name.
    pub const fn server(max_payload: usize) -> Self {
        let stored = max_payload.div_ceil(3).saturating_mul(4).saturating_add(64 << 10);
        let max_payload = if stored > LISTING { stored } else { LISTING };
        Self { max_line: 8 << 10, max_json: 64 << 10, max_payload, max_subject: 1024 }
    }

    /// The maximum size of a frame: a buffer with more bytes holds a frame or an error.
    pub const fn max_frame(&self) -> usize {
        let line = if self.max_line > self.max_json { self.max_line } else { self.max_json };
        line.saturating_add(self.max_payload).saturating_add(CR_LF.len())
    }
}

/// Space for a page of a stream's subjects.
const LISTING: usize = 32 << 20;

pub(super) const CR_LF: &[u8] = b"\r\n";

/// An operation, and the bytes it was read from.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<O> {
    /// The operation.
    pub op: O,
    /// The bytes of the whole frame, to be forwarded unchanged.
    pub raw: Bytes,
}

impl<O: std::fmt::Debug> std::fmt::Debug for Frame<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("op", &self.op).finish_non_exhaustive()
    }
}

/// Parses a client's operations.
pub type ClientParser = Parser<ClientOp>;
/// Parses a server's operations.
pub type ServerParser = Parser<ServerOp>;

/// Cuts operations off the front of a buffer. It never reads a byte of an unfinished operation twice,
/// however small the pieces in which the rest arrives.
#[derive(Debug)]
pub struct Parser<O> {
    limits: Limits,
    state: State,
    operation: PhantomData<fn() -> O>,
}

#[derive(Debug, Clone)]
enum State {
    /// In a line; its first `seen` bytes have no line end.
    Line { seen: usize },
    /// In the message after a line.
    Message(Extent),
    /// After an error.
    Failed(ProtocolError),
}

/// The extent of a frame.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// The line's length, with CR LF.
    line: usize,
    /// The message after the line.
    message: Option<Sizes>,
}

/// The sizes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The size of the headers, if there are any.
    headers: Option<usize>,
    /// The size of headers and body.
    total: usize,
}

/// The operations of one side.
pub trait Operation: Sized {
    /// The maximum length of a line that begins with `start`.
    fn max_line(start: &[u8], limits: &Limits) -> usize;

    /// The sizes of the message that follows a line. Everything that can be refused by the line alone is
    /// refused here, before memory is reserved for the message.
    fn follows(line: &Line<'_>, limits: &Limits) -> Result<Option<Sizes>, ProtocolError>;

    /// Reads the operation from a whole frame.
    fn read(line: &Line<'_>, frame: &Content<'_>, limits: &Limits) -> Result<Self, ProtocolError>;
}

impl<O: Operation> Parser<O> {
    /// A parser for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Line { seen: 0 }, operation: PhantomData }
    }

    /// Takes the next operation off `buffer`; none if it is incomplete. In that case the buffer has
    /// capacity for the rest, if its size is known.
    ///
    /// # Errors
    /// The bytes are not an operation. All further calls return the same error.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<O>>, ProtocolError> {
        let result = self.advance(buffer);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<O>>, ProtocolError> {
        let extent = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Message(extent) => *extent,
            State::Line { seen } => match self.line(buffer, *seen)? {
                Some(extent) => extent,
                None => {
                    self.state = State::Line { seen: buffer.len() };
                    return Ok(None);
                }
            },
        };
        let length = extent.length();
        if buffer.len() < length {
            self.state = State::Message(extent);
            buffer.reserve(length - buffer.len());
            return Ok(None);
        }
        self.state = State::Line { seen: 0 };
        let raw = buffer.split_to(length).freeze();
        let op = O::read(&Line::of(&raw[..extent.line]), &Content::of(&raw, extent)?, &self.limits);
        Ok(Some(Frame { op: op?, raw }))
    }

    fn line(&self, buffer: &[u8], seen: usize) -> Result<Option<Extent>, ProtocolError> {
        let limit = O::max_line(buffer, &self.limits);
        let unseen = buffer.get(seen..limit.min(buffer.len())).unwrap_or_default();
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            return match buffer.len() < limit {
                true => Ok(None),
                false => Err(ProtocolError::LineTooLong { limit }),
            };
        };
        let line = seen + end + 1;
        if !buffer[..line].ends_with(CR_LF) {
            return Err(ProtocolError::ControlCharacter);
        }
        let message = O::follows(&Line::of(&buffer[..line]), &self.limits)?;
        Ok(Some(Extent { line, message }))
    }
}

impl Extent {
    fn length(&self) -> usize {
        self.line + self.message.map_or(0, |sizes| sizes.total + CR_LF.len())
    }
}

/// Whether a line with this beginning may have that verb. The beginning may be too short to decide.
pub(super) fn begins_with(start: &[u8], verb: &str) -> bool {
    start.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb.as_bytes()))
}

/// A line, without its end.
pub struct Line<'a> {
    verb: &'a [u8],
    rest: &'a [u8],
}

const MAX_ARGUMENTS: usize = 6;

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(CR_LF).unwrap_or(line);
        let (verb, rest) =
            line.split_at(line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len()));
        Self { verb, rest }
    }

    pub(super) fn is(&self, verb: &str) -> bool {
        self.verb.eq_ignore_ascii_case(verb.as_bytes())
    }

    /// The arguments between blanks. If there are more than any operation takes, only the first ones.
    pub(super) fn arguments(&self) -> Arguments<'a> {
        let mut arguments = Arguments { all: [&[]; MAX_ARGUMENTS], count: 0 };
        let found = self.rest.split(|byte| is_blank(*byte)).filter(|argument| !argument.is_empty());
        for (place, argument) in arguments.all.iter_mut().zip(found) {
            *place = argument;
            arguments.count += 1;
        }
        arguments
    }

    /// The text after the verb, trimmed of blanks.
    pub(super) fn text(&self) -> &'a [u8] {
        let text = &self.rest[self.rest.iter().take_while(|byte| is_blank(**byte)).count()..];
        &text[..text.len() - text.iter().rev().take_while(|byte| is_blank(**byte)).count()]
    }

    /// The text after the verb; not empty and without control characters.
    pub(super) fn json(&self, expected: &'static str) -> Result<&'a [u8], ProtocolError> {
        match self.text() {
            [] => Err(ProtocolError::Arguments(expected)),
            text if text.iter().any(u8::is_ascii_control) => Err(ProtocolError::ControlCharacter),
            text => Ok(text),
        }
    }
}

/// The arguments of a line.
pub(super) struct Arguments<'a> {
    all: [&'a [u8]; MAX_ARGUMENTS],
    count: usize,
}

impl<'a> std::ops::Deref for Arguments<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &Self::Target {
        &self.all[..self.count]
    }
}

/// Parses a number of at most nine digits. nats-server ignores longer ones, and in UNSUB that would mean
/// "at once".
pub(super) fn number(digits: &[u8]) -> Result<usize, ProtocolError> {
    if !(1..=9).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::Number);
    }
    Ok(digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// The line of a message: `N` arguments, then perhaps the reply subject, then the sizes.
pub(super) struct Message<'a, const N: usize> {
    pub(super) first: [&'a [u8]; N],
    pub(super) reply: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
    total: &'a [u8],
}

/// A verb, and the form of its line.
type Form = (&'static str, &'static str);

impl<'a, const N: usize> Message<'a, N> {
    /// None if the line has neither verb.
    pub(super) fn of(
        line: &Line<'a>,
        bare: Form,
        with_headers: Form,
    ) -> Result<Option<Self>, ProtocolError> {
        let with = line.is(with_headers.0);
        let expected = match (with, line.is(bare.0)) {
            (true, _) => with_headers.1,
            (_, true) => bare.1,
            _ => return Ok(None),
        };
        let arguments = line.arguments();
        let (reply, headers, total) = match (with, arguments.get(N..).unwrap_or_default()) {
            (false, [total]) => (None, None, *total),
            (false, [reply, total]) => (Some(*reply), None, *total),
            (true, [headers, total]) => (None, Some(*headers), *total),
            (true, [reply, headers, total]) => (Some(*reply), Some(*headers), *total),
            _ => return Err(ProtocolError::Arguments(expected)),
        };
        let first = std::array::from_fn(|place| arguments[place]);
        Ok(Some(Self { first, reply, headers, total }))
    }

    /// The sizes, checked against the limits.
    pub(super) fn sizes(&self, limits: &Limits) -> Result<Sizes, ProtocolError> {
        let (headers, total) = (self.headers.map(number).transpose()?, number(self.total)?);
        if total > limits.max_payload {
            return Err(ProtocolError::PayloadTooLarge { got: total, limit: limits.max_payload });
        }
        match headers {
            Some(headers) if headers > total => Err(ProtocolError::HeaderSize { headers, total }),
            _ => Ok(Sizes { headers, total }),
        }
    }
}

/// A whole frame, and what its line says about it.
pub struct Content<'a> {
    pub(super) raw: &'a Bytes,
    pub(super) headers: Option<Bytes>,
    pub(super) payload: Bytes,
}

impl<'a> Content<'a> {
    fn of(raw: &'a Bytes, extent: Extent) -> Result<Self, ProtocolError> {
        let Some(Sizes { headers, total }) = extent.message else {
            return Ok(Self { raw, headers: None, payload: Bytes::new() });
        };
        let (start, end) = (extent.line, extent.line + total);
        if &raw[end..] != CR_LF {
            return Err(ProtocolError::PayloadEnd);
        }
        let body = start + headers.unwrap_or_default();
        let headers = headers.map(|_| raw.slice(start..body));
        Ok(Self { raw, headers, payload: raw.slice(body..end) })
    }
}
