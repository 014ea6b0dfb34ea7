//! Cutting bytes into frames, without knowing yet what they say.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use super::{ClientOp, ProtocolError, ServerOp};

/// The most bytes taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of a line, with CR LF.
    pub max_line: usize,
    /// Of a CONNECT or INFO line.
    pub max_json: usize,
    /// Of a message's headers and body.
    pub max_payload: usize,
    /// Of a subject or name.
    pub max_subject: usize,
}

impl Limits {
    /// For what a client sends: of lines, what nats-server takes by default.
    pub const fn client(max_payload: usize) -> Self {
        Self { max_line: 4096, max_json: 64 << 10, max_payload, max_subject: 1024 }
    }

    /// For what a server sends that takes messages of `max_payload` from its clients. Its own answers may be
    /// larger: stored messages in JSON and base64, or with headers more, and pages of 100,000 subjects. Its
    /// lines are as long as those of its clients, and a name more.
    pub const fn server(max_payload: usize) -> Self {
        let stored = max_payload.div_ceil(3).saturating_mul(4).saturating_add(64 << 10);
        let max_payload = if stored > LISTING { stored } else { LISTING };
        Self { max_line: 8 << 10, max_json: 64 << 10, max_payload, max_subject: 1024 }
    }

    /// The most bytes of a frame: with more in the buffer, there is one, or an error.
    pub const fn max_frame(&self) -> usize {
        let line = if self.max_line > self.max_json { self.max_line } else { self.max_json };
        line.saturating_add(self.max_payload).saturating_add(CR_LF.len())
    }
}

/// Room for a page of a stream's subjects.
const LISTING: usize = 32 << 20;

pub(super) const CR_LF: &[u8] = b"\r\n";

/// An operation, and the bytes it was read from.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<O> {
    /// What it says.
    pub op: O,
    /// The whole of it, to be passed on as it came.
    pub raw: Bytes,
}

impl<O: std::fmt::Debug> std::fmt::Debug for Frame<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("op", &self.op).finish_non_exhaustive()
    }
}

/// Reads what a client sends.
pub type ClientParser = Parser<ClientOp>;
/// Reads what a server sends.
pub type ServerParser = Parser<ServerOp>;

/// Cuts operations off the front of a buffer. What it has seen of an unfinished one it does not look at
/// again, however small the pieces in which the rest comes.
#[derive(Debug)]
pub struct Parser<O> {
    limits: Limits,
    state: State,
    operation: PhantomData<fn() -> O>,
}

#[derive(Debug, Clone)]
enum State {
    /// In a line that has not ended in its first `seen` bytes.
    Line { seen: usize },
    /// In the message after a line.
    Message(Extent),
    /// There was an error.
    Failed(ProtocolError),
}

/// How far a frame goes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// The line's length, with CR LF.
    line: usize,
    /// The message behind it.
    message: Option<Sizes>,
}

/// A message's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// That of the headers, if there are any.
    headers: Option<usize>,
    /// That of headers and body.
    total: usize,
}

/// What one side may say.
pub trait Operation: Sized {
    /// How long a line may be that begins so.
    fn max_line(start: &[u8], limits: &Limits) -> usize;

    /// What follows a line. Whatever can be refused by the line alone is refused here, before anything is
    /// held for what follows.
    fn follows(line: &Line<'_>, limits: &Limits) -> Result<Option<Sizes>, ProtocolError>;

    /// The operation that a frame is.
    fn read(line: &Line<'_>, frame: &Content<'_>, limits: &Limits) -> Result<Self, ProtocolError>;
}

impl<O: Operation> Parser<O> {
    /// A parser at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Line { seen: 0 }, operation: PhantomData }
    }

    /// Takes the next operation off `buffer`; none if it is not all there yet. Then there is room for the
    /// rest of it, if its size is known.
    ///
    /// # Errors
    /// The bytes are no operation. All further calls say so too.
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

/// Whether a line with this beginning has that verb. The beginning may be too short to tell.
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

    /// What is between blanks; of more than any operation has, the first ones.
    pub(super) fn arguments(&self) -> Arguments<'a> {
        let mut arguments = Arguments { all: [&[]; MAX_ARGUMENTS], count: 0 };
        let found = self.rest.split(|byte| is_blank(*byte)).filter(|argument| !argument.is_empty());
        for (place, argument) in arguments.all.iter_mut().zip(found) {
            *place = argument;
            arguments.count += 1;
        }
        arguments
    }

    /// All that follows the verb, but for the blanks around it.
    pub(super) fn text(&self) -> &'a [u8] {
        let text = &self.rest[self.rest.iter().take_while(|byte| is_blank(**byte)).count()..];
        &text[..text.len() - text.iter().rev().take_while(|byte| is_blank(**byte)).count()]
    }

    /// All that follows the verb: something, without control characters.
    pub(super) fn json(&self, expected: &'static str) -> Result<&'a [u8], ProtocolError> {
        match self.text() {
            [] => Err(ProtocolError::Arguments(expected)),
            text if text.iter().any(u8::is_ascii_control) => Err(ProtocolError::ControlCharacter),
            text => Ok(text),
        }
    }
}

/// What a line says about its verb.
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

/// A number. Not more than nine digits, for nats-server takes a longer one for none at all, and where it
/// wants to know when to unsubscribe, that means now.
pub(super) fn number(digits: &[u8]) -> Result<usize, ProtocolError> {
    if !(1..=9).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::Number);
    }
    Ok(digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// The line of a message: `N` arguments, then perhaps where the answer goes, then the sizes.
pub(super) struct Message<'a, const N: usize> {
    pub(super) first: [&'a [u8]; N],
    pub(super) reply: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
    total: &'a [u8],
}

/// A verb, and the line it begins.
type Form = (&'static str, &'static str);

impl<'a, const N: usize> Message<'a, N> {
    /// None if it has neither verb.
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

    /// The sizes, within the limits.
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

/// A whole frame, and what comes with its line.
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
