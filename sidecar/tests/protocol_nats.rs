//! nats-server reads the operations that we accept as we do, and returns our errors for those that we
//! refuse. Nothing that it delivers, from any publisher, ends the reader's connection.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use hermesh_sidecar::protocol::{ClientOp, ClientParser, Limits, ServerOp, ServerParser, Str};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

const MAX_PAYLOAD: usize = 1 << 20;

async fn server(directory: &tempfile::TempDir) -> NatsServer {
    let options =
        NatsServerOptions { max_payload: MAX_PAYLOAD, ..NatsServerOptions::new(directory.path()) };
    NatsServer::start(options).await.expect("starts")
}

/// A raw connection.
struct Raw {
    stream: TcpStream,
    parser: ServerParser,
    buffer: BytesMut,
}

impl Raw {
    fn connect(server: &NatsServer, verbose: bool) -> Self {
        let url = server.url();
        let stream = TcpStream::connect(url.trim_start_matches("nats://")).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
        let parser = ServerParser::new(Limits::server(MAX_PAYLOAD));
        let mut raw = Self { stream, parser, buffer: BytesMut::new() };
        let connect =
            format!("CONNECT {{\"headers\":true,\"verbose\":{verbose},\"echo\":false}}\r\n");
        raw.send(connect.as_bytes());
        let said = raw.until_pong(1);
        assert!(matches!(said[0], ServerOp::Info(_)), "{said:?}");
        raw
    }

    /// Ignores errors: a closed connection shows when reading.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends PING and reads operations, except the server's own PINGs, until `count` PONGs or the end.
    fn until_pong(&mut self, count: usize) -> Vec<ServerOp> {
        self.send(b"PING\r\n");
        let (mut said, mut pongs, mut piece) = (Vec::new(), 0, [0; 4096]);
        while pongs < count {
            while let Some(frame) = self.parser.next(&mut self.buffer).expect("the protocol") {
                pongs += usize::from(frame.op == ServerOp::Pong);
                match frame.op {
                    ServerOp::Ping => self.send(b"PONG\r\n"),
                    op => said.push(op),
                }
            }
            match pongs < count {
                true => match self.stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(size) => self.buffer.extend_from_slice(&piece[..size]),
                },
                false => break,
            }
        }
        said
    }
}

/// A subscriber to everything.
fn listener(server: &NatsServer) -> Raw {
    let mut listener = Raw::connect(server, false);
    listener.send(b"SUB > 7\r\n");
    listener.until_pong(1);
    listener
}

fn count(said: &[ServerOp], op: &ServerOp) -> usize {
    said.iter().filter(|said| *said == op).count()
}

fn compare(server: &NatsServer, listener: &mut Raw, input: &[u8]) -> Result<bool, TestCaseError> {
    let mut parser = ClientParser::new(Limits::client(MAX_PAYLOAD));
    let (mut buffer, mut passed, mut ops) = (BytesMut::from(input), Vec::new(), Vec::new());
    while let Ok(Some(frame)) = parser.next(&mut buffer) {
        passed.extend_from_slice(&frame.raw);
        ops.push(frame.op);
    }
    let delivered: Vec<ServerOp> = ops.iter().filter_map(delivery).collect();
    let quiet = ops.iter().filter(|op| matches!(op, ClientOp::Ping | ClientOp::Pong)).count();
    let pings = ops.iter().filter(|op| **op == ClientOp::Ping).count();

    let mut publisher = Raw::connect(server, true);
    publisher.send(&passed);
    let mut said = publisher.until_pong(pings + 1);
    said.extend(publisher.until_pong(1));
    prop_assert_eq!(count(&said, &ServerOp::Pong), pings + 2, "{:?}: {:?}", ops, said);
    prop_assert_eq!(count(&said, &ServerOp::Ok), ops.len() - quiet, "{:?}: {:?}", ops, said);
    prop_assert_eq!(said.len(), pings + 2 + ops.len() - quiet, "{:?}: {:?}", ops, said);
    let mut heard = listener.until_pong(1);
    heard.pop();
    prop_assert_eq!(heard, delivered);
    Ok(!ops.is_empty())
}

/// The message that a subscriber to everything receives.
fn delivery(op: &ClientOp) -> Option<ServerOp> {
    let ClientOp::Pub { subject, reply, headers, payload } = op.clone() else { return None };
    let sid = Str::new("7").expect("a name");
    Some(ServerOp::Msg { subject, sid, reply, headers, payload })
}

fn blanks() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![" ", " ", "\t", "  ", " \t "])
}

fn end() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["\r\n", "\r\n", "\r\n", " \r\n", "\t \r\n"])
}

/// An operation as a client might write it, with parts that can be changed.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let place = "[a-c!]{1,2}(\\.[a-c-]{1,2}){0,2}( [r-t]{1,2}(\\.[r-t]{1,2})?)?";
    let body = "(PING|PUB a 1|\r\n|\r|\n| |x|\0){0,6}";
    let zeros = prop::sample::select(vec!["", "", "0", "00"]);
    let publish = ("(PUB|pub|pUb)", blanks(), place, zeros.clone(), end(), body).prop_map(
        |(verb, blanks, place, zeros, end, body)| {
            format!("{verb}{blanks}{place}{blanks}{zeros}{}{end}{body}\r\n", body.len())
        },
    );
    let lines = "(a: b\r\n|Status:\r\n){0,2}";
    let publish_headers = ("(HPUB|hpub)", blanks(), place, zeros, end(), lines, body).prop_map(
        |(verb, blanks, place, zeros, end, lines, body)| {
            let block = format!("NATS/1.0\r\n{lines}\r\n");
            let (size, total) = (block.len(), block.len() + body.len());
            let sizes = format!("{zeros}{size}{blanks}{zeros}{total}");
            format!("{verb}{blanks}{place}{blanks}{sizes}{end}{block}{body}\r\n")
        },
    );
    let pattern = "([x-z*]\\.){0,2}[x-z*>]( group)?( [0-9]{1,3})";
    let others = prop_oneof![
        ("(SUB|sub)", blanks(), pattern, end())
            .prop_map(|(verb, blanks, pattern, end)| format!("{verb}{blanks}{pattern}{end}")),
        ("(UNSUB|unsub)", blanks(), "[0-9]{1,3}( [0-9]{1,3})?", end())
            .prop_map(|(verb, blanks, rest, end)| format!("{verb}{blanks}{rest}{end}")),
        ("(PING|ping|PONG)", end()).prop_map(|(verb, end)| format!("{verb}{end}")),
    ];
    prop_oneof![3 => publish, 3 => publish_headers, 2 => others].prop_map(String::into_bytes)
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u8),
    Replace(u8),
    Remove,
}

/// Several operations, perhaps with a change.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(b" \t\r\n\0.*>015PUBSx'\x7f\xe9".to_vec());
    let change = prop_oneof![
        byte.clone().prop_map(Change::Insert),
        byte.prop_map(Change::Replace),
        Just(Change::Remove)
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), change), 0..3);
    (proptest::collection::vec(written(), 1..6), changes).prop_map(|(written, changes)| {
        let mut input = written.concat();
        for (place, change) in changes {
            let place = place.index(input.len());
            match change {
                Change::Insert(byte) => input.insert(place, byte),
                Change::Replace(byte) => input[place] = byte,
                Change::Remove => drop(input.remove(place)),
            }
        }
        input
    })
}

#[tokio::test]
async fn what_we_accept_nats_server_reads_alike() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory).await;
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(1000) });
    let (listener, read) = (std::cell::RefCell::new(listener(&server)), std::cell::Cell::new(0));
    let result = runner.run(&input(), |input| {
        let accepted = compare(&server, &mut listener.borrow_mut(), &input)?;
        read.set(read.get() + usize::from(accepted));
        Ok(())
    });
    result.expect("reads alike");
    assert!(read.get() > 500, "only {} cases had an operation", read.get());
}

#[tokio::test]
async fn we_say_what_nats_server_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory).await;
    let long = format!("PUB a {} 1\r\n", "r".repeat(5000));
    let inputs: [&[u8]; 9] = [
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        b"MSG a 1 1\r\nx\r\n",
        b"PUB a 3\r\nabcd\r\n",
        b"PUB a 1048577\r\n",
        b"PUB a..b 1\r\nx\r\n",
        b"PUB a.* 1\r\nx\r\n",
        b"SUB a..b 1\r\n",
        long.as_bytes(),
    ];
    for input in inputs {
        let mut parser = ClientParser::new(Limits::client(MAX_PAYLOAD));
        let error = parser.next(&mut BytesMut::from(input)).expect_err("is refused");
        let mut raw = Raw::connect(&server, false);
        raw.send(input);
        let said = raw.until_pong(1);
        let theirs = said.iter().find_map(|said| match said {
            ServerOp::Err(text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(theirs, Some(error.violation()), "{}", input.escape_ascii());
    }
}

#[tokio::test]
async fn whatever_others_publish_the_connection_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory).await;
    let mut listener = listener(&server);
    let msg = |headers: Option<&[u8]>| ServerOp::Msg {
        subject: Str::new("a").expect("a name"),
        sid: Str::new("7").expect("a name"),
        reply: None,
        headers: headers.map(Bytes::copy_from_slice),
        payload: Bytes::from_static(b"x"),
    };
    let malformed = |reply: Option<&'static str>| ServerOp::Malformed {
        sid: Str::new("7").expect("a name"),
        reply: reply.and_then(Str::new),
    };
    // The longest line that nats-server accepts: 4096 bytes after the verb.
    let long = format!("PUB a {} 1\r\nx\r\n", "r".repeat(4092));
    let cases: [(&[u8], ServerOp); 10] = [
        (b"PUB a\rb 1\r\nx\r\n", malformed(None)),
        (b"PUB a b\r 1\r\nx\r\n", malformed(None)),
        (b"PUB a\0 b 1\r\nx\r\n", malformed(Some("b"))),
        (b"PUB a.* b 1\r\nx\r\n", malformed(Some("b"))),
        (b"PUB a \xc3\xa9 1\r\nx\r\n", malformed(None)),
        (b"PUB a _INBOX.> 1\r\nx\r\n", malformed(None)),
        (b"PUB a 00001\r\nx\r\n", msg(None)),
        (b"HPUB a 0 1\r\nx\r\n", msg(None)),
        (b"HPUB a 3 4\r\nabcx\r\n", msg(Some(b"abc"))),
        (long.as_bytes(), malformed(None)),
    ];
    for (input, expected) in cases {
        let mut publisher = Raw::connect(&server, false);
        publisher.send(input);
        publisher.until_pong(1);
        let heard = listener.until_pong(1);
        assert_eq!(heard, [expected, ServerOp::Pong], "{}", input.escape_ascii());
    }
}
