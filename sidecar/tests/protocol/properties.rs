//! Whatever is written is read again, however the stream is cut.

use proptest::prelude::*;

use super::*;

fn subject() -> impl Strategy<Value = String> {
    proptest::collection::vec("[!-)+--/-=?-~]{1,6}", 1..5).prop_map(|tokens| tokens.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    (subject(), prop::sample::select(vec!["", ".*", ".*.x", ".>"]))
        .prop_map(|(subject, end)| subject + end)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let frames = "(PING|PUB a 1|\r\n|\r|\n| |\0){0,30}".prop_map(String::into_bytes);
    prop_oneof![bytes, frames]
}

fn block() -> impl Strategy<Value = Option<Vec<u8>>> {
    let lines = "(( 503)?\r\n|a: b\r\n|[a-zA-Z-]{1,9}:[ -~]{0,20}\r\n){0,5}";
    prop::option::of(lines.prop_map(|lines| format!("NATS/1.0\r\n{lines}\r\n").into_bytes()))
}

fn client_op() -> impl Strategy<Value = ClientOp> {
    let connect = "[!-~][ -~]{0,40}[!-~]".prop_map(|json| ClientOp::Connect(json.into()));
    let publish = (subject(), prop::option::of(subject()), block(), body()).prop_map(
        |(subject, reply, block, body)| {
            message(&subject, reply.as_deref(), block.as_deref(), &body)
        },
    );
    let sub = (pattern(), prop::option::of("[!-~]{1,9}"), "[!-~]{1,9}").prop_map(
        |(subject, queue, sid)| ClientOp::Sub {
            subject: text(&subject),
            queue: queue.as_deref().map(text),
            sid: text(&sid),
        },
    );
    let unsub = ("[!-~]{1,9}", prop::option::of(1..1_000_000_000_u64))
        .prop_map(|(sid, max)| ClientOp::Unsub { sid: text(&sid), max });
    prop_oneof![connect, publish, sub, unsub, Just(ClientOp::Ping), Just(ClientOp::Pong)]
}

fn server_op() -> impl Strategy<Value = ServerOp> {
    let info = "[!-~][ -~]{0,40}[!-~]".prop_map(|json| ServerOp::Info(json.into()));
    let block = prop_oneof![block(), prop::option::of(body())];
    let msg = (subject(), prop::option::of(subject()), block, body()).prop_map(
        |(subject, reply, block, body)| {
            delivery(&subject, reply.as_deref(), block.as_deref(), &body)
        },
    );
    let err = "[ -~\u{e9}]{0,40}".prop_map(ServerOp::Err);
    prop_oneof![info, msg, err, Just(ServerOp::Ping), Just(ServerOp::Pong), Just(ServerOp::Ok)]
}

fn write_client(op: &ClientOp, out: &mut BytesMut) {
    match op {
        ClientOp::Connect(json) => write_connect(out, json),
        ClientOp::Pub { subject, reply, headers, payload } => {
            write_pub(out, subject, reply.as_ref(), headers.as_deref(), payload);
        }
        ClientOp::Sub { subject, queue, sid } => write_sub(out, subject, queue.as_ref(), sid),
        ClientOp::Unsub { sid, max } => write_unsub(out, sid, *max),
        ClientOp::Ping => ping(out),
        ClientOp::Pong => pong(out),
    }
}

fn write_server(op: &ServerOp, out: &mut BytesMut) {
    match op {
        ServerOp::Info(json) => write_info(out, json),
        ServerOp::Msg { subject, sid, reply, headers, payload } => {
            write_msg(out, subject, sid, reply.as_ref(), headers.as_deref(), payload);
        }
        ServerOp::Err(text) => write_err(out, text),
        ServerOp::Ping => ping(out),
        ServerOp::Pong => pong(out),
        ServerOp::Ok => ok(out),
        ServerOp::Malformed { .. } => panic!("not written"),
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..40_usize, 1..8)
}

/// Bytes that resemble the protocol more often than random ones.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let word = "(H?PUB|h?msg|SUB|UNSUB|PING|PONG|INFO|CONNECT|\\+OK|-ERR|NATS/1.0|\\*|>|a|\\.)";
    let pieces = prop_oneof![
        4 => word.prop_map(String::into_bytes),
        4 => "( |\t|\r\n|\n|\r|\0){1,2}".prop_map(String::into_bytes),
        3 => "[0-9]{1,2}".prop_map(String::into_bytes),
        1 => "[0-9]{1,11}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..9),
    ];
    proptest::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_clients_write_is_read_however_it_is_cut(
        ops in proptest::collection::vec(client_op(), 0..9),
        sizes in sizes(),
    ) {
        let mut out = BytesMut::new();
        ops.iter().for_each(|op| write_client(op, &mut out));
        let whole = client(&out, &[usize::MAX]);
        let read: Vec<&ClientOp> = whole.ops.iter().map(|(op, _)| op).collect();
        prop_assert_eq!(read, ops.iter().collect::<Vec<_>>());
        let raw: Vec<&[u8]> = whole.ops.iter().map(|(_, raw)| &raw[..]).collect();
        prop_assert_eq!(raw.concat(), &out[..], "raw is all of it");
        prop_assert_eq!((whole.left, &whole.error), (0, &None));
        prop_assert_eq!(client(&out, &sizes), whole);
        let mut again = BytesMut::new();
        ops.iter().for_each(|op| op.write(&mut again));
        prop_assert_eq!(again, out);
    }

    #[test]
    fn what_servers_write_is_read_however_it_is_cut(
        ops in proptest::collection::vec(server_op(), 0..9),
        sizes in sizes(),
    ) {
        let mut out = BytesMut::new();
        ops.iter().for_each(|op| write_server(op, &mut out));
        let whole = server(&out, &[usize::MAX]);
        let read: Vec<&ServerOp> = whole.ops.iter().map(|(op, _)| op).collect();
        prop_assert_eq!(read, ops.iter().collect::<Vec<_>>());
        prop_assert_eq!((whole.left, &whole.error), (0, &None));
        prop_assert_eq!(server(&out, &sizes), whole);
    }

    #[test]
    fn an_added_header_changes_nothing_else(op in client_op(), value in "[!-~]{1,40}") {
        let mut out = BytesMut::new();
        write_pub_sealed(&mut out, &op, "Seal", &value);
        let read = client(&out, &[usize::MAX]);
        prop_assert_eq!((read.ops.len(), read.left, &read.error), (1, 0, &None));
        let ClientOp::Pub { subject, reply, headers, payload } = &op else {
            prop_assert_eq!(&read.ops[0].0, &op);
            return Ok(());
        };
        let before = headers.clone().unwrap_or_else(|| bytes(b"NATS/1.0\r\n\r\n"));
        let added = format!("Seal: {value}\r\n\r\n");
        let block = [&before[..before.len() - 2], added.as_bytes()].concat();
        let expected = message(subject, reply.as_deref(), Some(&block), payload);
        prop_assert_eq!(&read.ops[0].0, &expected);
    }

    #[test]
    fn arbitrary_bytes_read_the_same_however_they_are_cut(noise in noise(), sizes in sizes()) {
        prop_assert_eq!(client(&noise, &sizes), client(&noise, &[usize::MAX]));
        prop_assert_eq!(server(&noise, &sizes), server(&noise, &[usize::MAX]));
    }
}
