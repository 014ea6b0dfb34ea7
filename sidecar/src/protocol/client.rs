//! Operations that clients send.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{
    ProtocolError, Str, is_pattern, is_subject,
    parser::{Content, Limits, Line, Message, Operation, Sizes, begins_with, number},
    write,
};

/// An operation of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientOp {
    /// CONNECT with its options in JSON, not inspected here.
    Connect(Bytes),
    /// A message.
    Pub {
        /// The subject.
        subject: Str,
        /// The subject for replies.
        reply: Option<Str>,
        /// The block of headers, from `NATS/1.0` to the empty line. Only these two lines have been checked.
        headers: Option<Bytes>,
        /// The body.
        payload: Bytes,
    },
    /// A subscription.
    Sub {
        /// The subject, perhaps with wildcards.
        subject: Str,
        /// The queue group, whose members share the messages.
        queue: Option<Str>,
        /// The subscription's id on this connection.
        sid: Str,
    },
    /// The end of a subscription.
    Unsub {
        /// The subscription's id.
        sid: Str,
        /// After how many messages, counted from its beginning. None and 0 mean at once.
        max: Option<u64>,
    },
    /// A request for a PONG.
    Ping,
    /// The reply to a PING.
    Pong,
}

const VERBS: &str = "CONNECT, PUB, HPUB, SUB, UNSUB, PING or PONG";
const CONNECT: &str = "CONNECT and JSON";
const PUB: (&str, &str) = ("PUB", "PUB subject [reply] size");
const HPUB: (&str, &str) = ("HPUB", "HPUB subject [reply] header-size total-size");
const SUB: &str = "SUB subject [queue] sid";
const UNSUB: &str = "UNSUB sid [max]";
const BARE: &str = "PING or PONG without arguments";
const HEADERS_START: &[u8] = b"NATS/1.0";
const HEADERS_END: &[u8] = b"\r\n\r\n";

impl Operation for ClientOp {
    fn max_line(start: &[u8], limits: &Limits) -> usize {
        match begins_with(start, "CONNECT") {
            true => limits.max_json,
            false => limits.max_line,
        }
    }

    fn follows(line: &Line<'_>, limits: &Limits) -> Result<Option<Sizes>, ProtocolError> {
        let Some(message) = publish(line)? else {
            return Ok(None);
        };
        let max = limits.max_subject;
        let fits = |text: &[u8]| is_subject(text) && text.len() <= max;
        if !fits(message.first[0]) || !message.reply.is_none_or(fits) {
            return Err(ProtocolError::PublishSubject(max));
        }
        message.sizes(limits).map(Some)
    }

    fn read(line: &Line<'_>, frame: &Content<'_>, limits: &Limits) -> Result<Self, ProtocolError> {
        let max = limits.max_subject;
        let name = |text: &[u8]| {
            let name = Str::part(frame.raw, text).filter(|text| text.len() <= max);
            name.ok_or(ProtocolError::Name(max))
        };
        if let Some(message) = publish(line)? {
            let headers = frame.headers.clone();
            if headers.as_deref().is_some_and(|headers| !is_headers(headers)) {
                return Err(ProtocolError::Headers);
            }
            let (subject, reply) = (name(message.first[0])?, message.reply.map(name).transpose()?);
            return Ok(Self::Pub { subject, reply, headers, payload: frame.payload.clone() });
        }
        let arguments = line.arguments();
        if line.is("SUB") {
            let (subject, queue, sid) = match arguments[..] {
                [subject, sid] => (subject, None, sid),
                [subject, queue, sid] => (subject, Some(queue), sid),
                _ => return Err(ProtocolError::Arguments(SUB)),
            };
            if !is_pattern(subject) || subject.len() > max {
                return Err(ProtocolError::SubscribeSubject(max));
            }
            let (queue, sid) = (queue.map(name).transpose()?, name(sid)?);
            return Ok(Self::Sub { subject: name(subject)?, queue, sid });
        }
        if line.is("UNSUB") {
            let (sid, max) = match arguments[..] {
                [sid] => (sid, 0),
                [sid, max] => (sid, number(max)?),
                _ => return Err(ProtocolError::Arguments(UNSUB)),
            };
            return Ok(Self::Unsub { sid: name(sid)?, max: (max > 0).then_some(max as u64) });
        }
        if line.is("CONNECT") {
            return line.json(CONNECT).map(|json| Self::Connect(frame.raw.slice_ref(json)));
        }
        let op = match (line.is("PING"), line.is("PONG")) {
            (true, _) => Self::Ping,
            (_, true) => Self::Pong,
            _ => return Err(ProtocolError::UnknownOperation(VERBS)),
        };
        // nats-server ignores what follows these verbs.
        arguments.is_empty().then_some(op).ok_or(ProtocolError::Arguments(BARE))
    }
}

fn publish<'a>(line: &Line<'a>) -> Result<Option<Message<'a, 1>>, ProtocolError> {
    Message::of(line, PUB, HPUB)
}

fn is_headers(block: &[u8]) -> bool {
    let rest = block.strip_prefix(HEADERS_START);
    rest.is_some_and(|rest| rest.ends_with(HEADERS_END))
}

impl ClientOp {
    /// Appends the operation to `out`, in its usual form.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Connect(json) => write::write_connect(out, json),
            Self::Pub { subject, reply, headers, payload } => {
                write::write_pub(out, subject, reply.as_ref(), headers.as_deref(), payload);
            }
            Self::Sub { subject, queue, sid } => {
                write::write_sub(out, subject, queue.as_ref(), sid);
            }
            Self::Unsub { sid, max } => write::write_unsub(out, sid, *max),
            Self::Ping => write::ping(out),
            Self::Pong => write::pong(out),
        }
    }
}

// CONNECT may hold credentials and messages hold content; neither belongs in logs.
impl fmt::Debug for ClientOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(json) => write!(f, "Connect({} bytes)", json.len()),
            Self::Pub { subject, reply, headers, payload } => f
                .debug_struct("Pub")
                .field("subject", subject)
                .field("reply", reply)
                .field("headers", &headers.as_ref().map(Bytes::len))
                .field("payload", &payload.len())
                .finish(),
            Self::Sub { subject, queue, sid } => f
                .debug_struct("Sub")
                .field("subject", subject)
                .field("queue", queue)
                .field("sid", sid)
                .finish(),
            Self::Unsub { sid, max } => {
                f.debug_struct("Unsub").field("sid", sid).field("max", max).finish()
            }
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
        }
    }
}
