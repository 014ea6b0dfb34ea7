//! Writes operations; each function appends one to `out`.

use std::fmt::{self, Display, Write as _};

use bytes::{BufMut as _, BytesMut};

use super::{ClientOp, Str, parser::CR_LF};

const NO_HEADERS: &[u8] = b"NATS/1.0\r\n\r\n";
/// The largest number that nats-server reads.
const MAX_NUMBER: u64 = 999_999_999;
/// Space for verb, numbers and blanks of a line.
const LINE_ROOM: usize = 64;

/// Writes PING.
pub fn ping(out: &mut BytesMut) {
    out.put_slice(b"PING\r\n");
}

/// Writes PONG.
pub fn pong(out: &mut BytesMut) {
    out.put_slice(b"PONG\r\n");
}

/// Writes `+OK`.
pub fn ok(out: &mut BytesMut) {
    out.put_slice(b"+OK\r\n");
}

/// Writes CONNECT with JSON on one line.
pub fn write_connect(out: &mut BytesMut, json: &[u8]) {
    write_json(out, b"CONNECT ", json);
}

/// Writes INFO with JSON on one line.
pub fn write_info(out: &mut BytesMut, json: &[u8]) {
    write_json(out, b"INFO ", json);
}

/// Writes `-ERR`. Control characters become spaces.
pub fn write_err(out: &mut BytesMut, text: &str) {
    line(out, format_args!("-ERR '{}'", text.replace(|c: char| c.is_ascii_control(), " ")));
}

/// Writes a subscription.
pub fn write_sub(out: &mut BytesMut, subject: &Str, queue: Option<&Str>, sid: &Str) {
    line(out, format_args!("SUB {subject}{} {sid}", Optional(queue)));
}

/// Ends a subscription, after `max` messages or at once.
pub fn write_unsub(out: &mut BytesMut, sid: &Str, max: Option<u64>) {
    let max = max.map(|max| max.min(MAX_NUMBER));
    line(out, format_args!("UNSUB {sid}{}", Optional(max)));
}

/// Writes a client's message, with a block of headers if one is given.
pub fn write_pub(
    out: &mut BytesMut,
    subject: &Str,
    reply: Option<&Str>,
    headers: Option<&[u8]>,
    payload: &[u8],
) {
    let place = format_args!("{subject}{}", Optional(reply));
    message(out, "PUB", place, Headers { block: headers, added: None }, payload);
}

/// Writes a client's message with one more header after the existing ones; other operations unchanged. Name
/// and value must not have control characters.
pub fn write_pub_sealed(out: &mut BytesMut, op: &ClientOp, name: &str, value: &str) {
    let ClientOp::Pub { subject, reply, headers, payload } = op else {
        return op.write(out);
    };
    let place = format_args!("{subject}{}", Optional(reply.as_ref()));
    let headers = headers.as_deref().unwrap_or(NO_HEADERS);
    let headers = Headers { block: Some(headers), added: Some((name, value)) };
    message(out, "PUB", place, headers, payload);
}

/// Writes a server's message, with a block of headers if one is given.
pub fn write_msg(
    out: &mut BytesMut,
    subject: &Str,
    sid: &Str,
    reply: Option<&Str>,
    headers: Option<&[u8]>,
    payload: &[u8],
) {
    let place = format_args!("{subject} {sid}{}", Optional(reply));
    message(out, "MSG", place, Headers { block: headers, added: None }, payload);
}

struct Headers<'a> {
    block: Option<&'a [u8]>,
    added: Option<(&'a str, &'a str)>,
}

fn message(
    out: &mut BytesMut,
    verb: &str,
    place: fmt::Arguments<'_>,
    headers: Headers<'_>,
    payload: &[u8],
) {
    let Headers { block, added } = headers;
    let added_size = added.map_or(0, |(name, value)| name.len() + ": \r\n".len() + value.len());
    let size = block.map_or(0, <[u8]>::len) + added_size;
    // Reserve space for the whole message, so that appending the rest moves nothing.
    out.reserve(LINE_ROOM + size + payload.len() + CR_LF.len());
    match block {
        None => line(out, format_args!("{verb} {place} {}", payload.len())),
        Some(block) => {
            line(out, format_args!("H{verb} {place} {size} {}", size + payload.len()));
            let (lines, end) = block.split_at(block.len().saturating_sub(CR_LF.len()));
            out.put_slice(lines);
            if let Some((name, value)) = added {
                debug_assert!(!name.bytes().chain(value.bytes()).any(|b| b.is_ascii_control()));
                line(out, format_args!("{name}: {value}"));
            }
            out.put_slice(end);
        }
    }
    out.put_slice(payload);
    out.put_slice(CR_LF);
}

fn write_json(out: &mut BytesMut, verb: &[u8], json: &[u8]) {
    debug_assert!(!json.iter().any(u8::is_ascii_control), "JSON of more than one line");
    out.reserve(verb.len() + json.len() + CR_LF.len());
    out.put_slice(verb);
    out.put_slice(json);
    out.put_slice(CR_LF);
}

fn line(out: &mut BytesMut, text: fmt::Arguments<'_>) {
    // Cannot fail: writing to memory.
    let _ = out.write_fmt(text);
    out.put_slice(CR_LF);
}

/// An optional argument, with the blank before it.
struct Optional<T>(Option<T>);

impl<T: Display> Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(argument) => write!(f, " {argument}"),
            None => Ok(()),
        }
    }
}
