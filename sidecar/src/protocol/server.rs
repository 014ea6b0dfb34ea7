//! Operations that servers send.

use std::fmt;

use bytes::Bytes;

use super::{
    ProtocolError, Str, is_subject,
    parser::{Content, Limits, Line, Message, Operation, Sizes, begins_with},
};

/// An operation of a server.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerOp {
    /// INFO: the server's properties, in JSON, not inspected here.
    Info(Bytes),
    /// A message.
    Msg {
        /// The subject to which it was published.
        subject: Str,
        /// The id of the subscription that matches.
        sid: Str,
        /// The subject for replies.
        reply: Option<Str>,
        /// The block of headers, as the publisher sent it: arbitrary bytes.
        headers: Option<Bytes>,
        /// The body.
        payload: Bytes,
    },
    /// A message that no honest client published: its subject or reply subject is invalid. Nothing else in
    /// it is trusted.
    Malformed {
        /// The id of the subscription that matches.
        sid: Str,
        /// The reply subject, if it is well-formed.
        reply: Option<Str>,
    },
    /// A request for a PONG.
    Ping,
    /// The reply to a PING.
    Pong,
    /// Success, for clients that asked for `+OK`.
    Ok,
    /// An error's text, without the quotation marks.
    Err(String),
}

const VERBS: &str = "INFO, MSG, HMSG, PING, PONG, +OK or -ERR";
const INFO: &str = "INFO and JSON";
const MSG: (&str, &str) = ("MSG", "MSG subject sid [reply] size");
const HMSG: (&str, &str) = ("HMSG", "HMSG subject sid [reply] header-size total-size");
const BARE: &str = "PING, PONG or +OK without arguments";

impl Operation for ServerOp {
    fn max_line(start: &[u8], limits: &Limits) -> usize {
        match begins_with(start, "INFO") {
            true => limits.max_json,
            false => limits.max_line,
        }
    }

    fn follows(line: &Line<'_>, limits: &Limits) -> Result<Option<Sizes>, ProtocolError> {
        delivery(line)?.map(|message| message.sizes(limits)).transpose()
    }

    fn read(line: &Line<'_>, frame: &Content<'_>, limits: &Limits) -> Result<Self, ProtocolError> {
        let max = limits.max_subject;
        if let Some(message) = delivery(line)? {
            let [subject, sid] = message.first;
            let name = |text: &[u8]| Str::part(frame.raw, text).filter(|text| text.len() <= max);
            let place = |text: &[u8]| name(text).filter(|text| is_subject(text.as_bytes()));
            let sid = name(sid).ok_or(ProtocolError::Name(max))?;
            let reply = message.reply.and_then(place);
            return Ok(match place(subject) {
                Some(subject) if reply.is_some() == message.reply.is_some() => {
                    let (headers, payload) = (frame.headers.clone(), frame.payload.clone());
                    Self::Msg { subject, sid, reply, headers, payload }
                }
                _ => Self::Malformed { sid, reply },
            });
        }
        if line.is("INFO") {
            return line.json(INFO).map(|json| Self::Info(frame.raw.slice_ref(json)));
        }
        if line.is("-ERR") {
            return Ok(Self::Err(unquoted(line.text())));
        }
        let op = match (line.is("PING"), line.is("PONG"), line.is("+OK")) {
            (true, _, _) => Self::Ping,
            (_, true, _) => Self::Pong,
            (_, _, true) => Self::Ok,
            _ => return Err(ProtocolError::UnknownOperation(VERBS)),
        };
        line.arguments().is_empty().then_some(op).ok_or(ProtocolError::Arguments(BARE))
    }
}

fn delivery<'a>(line: &Line<'a>) -> Result<Option<Message<'a, 2>>, ProtocolError> {
    Message::of(line, MSG, HMSG)
}

fn unquoted(text: &[u8]) -> String {
    let within = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
    String::from_utf8_lossy(within.unwrap_or(text)).into_owned()
}

impl fmt::Debug for ServerOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info(json) => write!(f, "Info({} bytes)", json.len()),
            Self::Msg { subject, sid, reply, headers, payload } => f
                .debug_struct("Msg")
                .field("subject", subject)
                .field("sid", sid)
                .field("reply", reply)
                .field("headers", &headers.as_ref().map(Bytes::len))
                .field("payload", &payload.len())
                .finish(),
            Self::Malformed { sid, reply } => {
                f.debug_struct("Malformed").field("sid", sid).field("reply", reply).finish()
            }
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
            Self::Ok => f.write_str("Ok"),
            Self::Err(text) => f.debug_tuple("Err").field(text).finish(),
        }
    }
}
