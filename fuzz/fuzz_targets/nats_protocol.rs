//! The NATS protocol: bytes parse the same however they are split, buffers stay bounded, and
//! encoded operations parse back to themselves.
#![no_main]

use bytes::BytesMut;
use hermesh_mesh::seal::HeaderBlock;
use hermesh_sidecar::protocol::{
    ClientOp, ClientParser, Frame, Limits, ProtocolError, ServerOp, ServerParser, is_subject, ok,
    ping, pong, write_err, write_info, write_msg, write_pub_sealed,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_line: 128, max_json: 256, max_payload: 512, max_subject: 48 };

fuzz_target!(|data: &[u8]| {
    let Some((seed, input)) = data.split_first() else { return };
    let whole = client(input, usize::MAX);
    assert_eq!(client(input, sizes(*seed)), whole);
    whole.frames.iter().for_each(|frame| check_client(&frame.op));
    let whole = server(input, usize::MAX);
    assert_eq!(server(input, sizes(*seed)), whole);
    whole.frames.iter().for_each(|frame| check_server(&frame.op));
});

/// Pieces of 1 to 16 bytes, derived from the seed.
fn sizes(seed: u8) -> usize {
    usize::from(seed) % 16 + 1
}

#[derive(Debug, PartialEq)]
struct Read<O> {
    frames: Vec<Frame<O>>,
    left: usize,
    error: Option<ProtocolError>,
}

fn client(input: &[u8], size: usize) -> Read<ClientOp> {
    let mut parser = ClientParser::new(LIMITS);
    read(input, size, |buffer| parser.next(buffer))
}

fn server(input: &[u8], size: usize) -> Read<ServerOp> {
    let mut parser = ServerParser::new(LIMITS);
    read(input, size, |buffer| parser.next(buffer))
}

fn read<O>(
    input: &[u8],
    size: usize,
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<Frame<O>>, ProtocolError>,
) -> Read<O> {
    let (mut frames, mut buffer, mut taken) = (Vec::new(), BytesMut::new(), 0);
    for piece in input.chunks(size.clamp(1, input.len().max(1))) {
        buffer.extend_from_slice(piece);
        loop {
            match next(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(input[taken..].starts_with(&frame.raw), "raw equals the input");
                    taken += frame.raw.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(next(&mut BytesMut::from("PING\r\n")).err(), Some(error.clone()));
                    return Read { frames, left: 0, error: Some(error) };
                }
            }
        }
        assert!(buffer.len() < LIMITS.max_frame());
        assert!(buffer.capacity() <= 2 * LIMITS.max_frame() + input.len());
    }
    assert_eq!(taken + buffer.len(), input.len(), "nothing is lost");
    Read { frames, left: buffer.len(), error: None }
}

/// Asserts that a text contains no line end, nor any byte that could be taken for one.
fn one_line(text: &str) {
    assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
}

fn check_client(op: &ClientOp) {
    let mut out = BytesMut::new();
    op.write(&mut out);
    let again = client_unbounded(&out);
    assert_eq!(&again, op);
    match op {
        ClientOp::Pub { subject, reply, headers, payload } => {
            for subject in std::iter::once(subject).chain(reply) {
                one_line(subject);
                assert!(is_subject(subject.as_bytes()));
            }
            let mut out = BytesMut::new();
            write_pub_sealed(&mut out, op, "Hermesh-Seal", "abc");
            let ClientOp::Pub {
                subject: same_subject,
                reply: same_reply,
                headers: Some(sealed),
                payload: same_payload,
            } = client_unbounded(&out)
            else {
                panic!("another operation");
            };
            assert_eq!((&same_subject, &same_reply, &same_payload), (subject, reply, payload));
            let before = HeaderBlock::parse(headers.as_deref().unwrap_or_default());
            let after = HeaderBlock::parse(&sealed);
            if let (Ok(before), Ok(after)) = (&before, &after) {
                assert_eq!(before.status(), after.status());
                let seal = before.get("Hermesh-Seal").or(Some("abc"));
                assert_eq!(after.get("Hermesh-Seal"), seal);
            }
            // Adding a message signature does not make an invalid block valid, nor the converse,
            // unless it exceeds the number of lines.
            let lines = sealed.split(|byte| *byte == b'\n').count();
            assert!(after.is_ok() || before.is_err() || lines > HeaderBlock::MAX_LINES);
            assert!(after.is_err() || before.is_ok());
        }
        ClientOp::Sub { subject, queue, sid } => {
            [Some(subject), queue.as_ref(), Some(sid)]
                .into_iter()
                .flatten()
                .for_each(|t| one_line(t));
        }
        ClientOp::Unsub { sid, .. } => one_line(sid),
        _ => {}
    }
}

fn client_unbounded(bytes: &[u8]) -> ClientOp {
    let mut buffer = BytesMut::from(bytes);
    let frame = ClientParser::new(Limits::client(1 << 20)).next(&mut buffer);
    assert!(buffer.is_empty());
    frame.expect("reads").expect("is all there").op
}

fn check_server(op: &ServerOp) {
    let mut out = BytesMut::new();
    match op {
        ServerOp::Info(json) => write_info(&mut out, json),
        ServerOp::Msg { subject, sid, reply, headers, payload } => {
            for text in [Some(subject), Some(sid), reply.as_ref()].into_iter().flatten() {
                one_line(text);
            }
            write_msg(&mut out, subject, sid, reply.as_ref(), headers.as_deref(), payload);
        }
        ServerOp::Err(text) if !text.contains(|c: char| c.is_ascii_control()) => {
            write_err(&mut out, text);
        }
        ServerOp::Malformed { .. } | ServerOp::Err(_) => return,
        ServerOp::Ping => ping(&mut out),
        ServerOp::Pong => pong(&mut out),
        ServerOp::Ok => ok(&mut out),
    }
    let frame = ServerParser::new(Limits::server(1 << 20)).next(&mut out);
    assert!(out.is_empty());
    assert_eq!(&frame.expect("reads").expect("is all there").op, op);
}
