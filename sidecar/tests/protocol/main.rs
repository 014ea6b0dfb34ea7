//! The NATS protocol: what is accepted, what is refused and why; input in pieces is read like the whole.

mod examples;
mod properties;

use bytes::{Bytes, BytesMut};
use hermesh_sidecar::protocol::{
    ClientOp, ClientParser, Frame, Limits, ProtocolError, ServerOp, ServerParser, Str, is_pattern,
    is_subject, ok, ping, pong, write_connect, write_err, write_info, write_msg, write_pub,
    write_pub_sealed, write_sub, write_unsub,
};

const MAX_PAYLOAD: usize = 1000;
const CLIENT: Limits = Limits::client(MAX_PAYLOAD);
const SERVER: Limits = Limits::server(MAX_PAYLOAD);
const BLOCK: &[u8] = b"NATS/1.0\r\na: b\r\n\r\n";

fn text(text: &str) -> Str {
    Str::new(text.to_owned()).expect("visible ASCII")
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn message(subject: &str, reply: Option<&str>, headers: Option<&[u8]>, body: &[u8]) -> ClientOp {
    ClientOp::Pub {
        subject: text(subject),
        reply: reply.map(text),
        headers: headers.map(bytes),
        payload: bytes(body),
    }
}

fn delivery(subject: &str, reply: Option<&str>, headers: Option<&[u8]>, body: &[u8]) -> ServerOp {
    ServerOp::Msg {
        subject: text(subject),
        sid: text("7"),
        reply: reply.map(text),
        headers: headers.map(bytes),
        payload: bytes(body),
    }
}

/// The result of reading: operations, the remaining bytes, and the error if there is one.
#[derive(Debug, PartialEq)]
struct Read<O> {
    ops: Vec<(O, Bytes)>,
    left: usize,
    error: Option<ProtocolError>,
}

/// Reads in pieces of these sizes, repeatedly; checks the buffer's size meanwhile.
fn read<O>(
    limits: Limits,
    input: &[u8],
    sizes: &[usize],
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<Frame<O>>, ProtocolError>,
) -> Read<O> {
    let (mut ops, mut buffer, mut rest) = (Vec::new(), BytesMut::new(), input);
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        buffer.extend_from_slice(piece);
        rest = behind;
        loop {
            match next(&mut buffer) {
                Ok(Some(frame)) => ops.push((frame.op, frame.raw)),
                Ok(None) => break,
                Err(error) => return Read { ops, left: 0, error: Some(error) },
            }
        }
        // A growing buffer doubles its capacity.
        assert!(buffer.len() < limits.max_frame());
        assert!(buffer.capacity() <= 2 * limits.max_frame() + piece.len());
        if rest.is_empty() {
            break;
        }
    }
    Read { ops, left: buffer.len(), error: None }
}

fn client(input: &[u8], sizes: &[usize]) -> Read<ClientOp> {
    let mut parser = ClientParser::new(CLIENT);
    read(CLIENT, input, sizes, |buffer| parser.next(buffer))
}

fn server(input: &[u8], sizes: &[usize]) -> Read<ServerOp> {
    let mut parser = ServerParser::new(SERVER);
    read(SERVER, input, sizes, |buffer| parser.next(buffer))
}
