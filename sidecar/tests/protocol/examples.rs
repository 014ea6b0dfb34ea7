//! Frames that are read, refused and written, one by one.

use super::*;

#[test]
fn what_clients_say_is_read() {
    let sub = |subject: &str, queue: Option<&str>| ClientOp::Sub {
        subject: text(subject),
        queue: queue.map(text),
        sid: text("7"),
    };
    let unsub = |max| ClientOp::Unsub { sid: text("7"), max };
    let cases: [(&[u8], ClientOp); 21] = [
        (b"CONNECT {\"a\":1}\r\n", ClientOp::Connect(bytes(b"{\"a\":1}"))),
        (b"connect \t {} \r\n", ClientOp::Connect(bytes(b"{}"))),
        (b"PUB a.b 3\r\nabc\r\n", message("a.b", None, None, b"abc")),
        (b"PUB a c 3\r\nabc\r\n", message("a", Some("c"), None, b"abc")),
        (b"pUb\t a  c\t3 \r\nabc\r\n", message("a", Some("c"), None, b"abc")),
        (b"PUB a 0\r\n\r\n", message("a", None, None, b"")),
        (b"PUB a 000000003\r\nabc\r\n", message("a", None, None, b"abc")),
        (b"PUB a 8\r\nPING\r\n\r\n\r\n", message("a", None, None, b"PING\r\n\r\n")),
        (b"PUB a 2\r\n\r\n\r\n", message("a", None, None, b"\r\n")),
        (
            b"HPUB a 18 21\r\nNATS/1.0\r\na: b\r\n\r\nabc\r\n",
            message("a", None, Some(BLOCK), b"abc"),
        ),
        (
            b"hpub a c 18 18\r\nNATS/1.0\r\na: b\r\n\r\n\r\n",
            message("a", Some("c"), Some(BLOCK), b""),
        ),
        (
            b"HPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
            message("a", None, Some(b"NATS/1.0\r\n\r\n"), b"x"),
        ),
        (b"SUB a.*.> 7\r\n", sub("a.*.>", None)),
        (b"SUB > workers 7\r\n", sub(">", Some("workers"))),
        (b"UNSUB 7\r\n", unsub(None)),
        (b"UNSUB 7 12\r\n", unsub(Some(12))),
        (b"UNSUB 7 0\r\n", unsub(None)),
        (b"PING\r\n", ClientOp::Ping),
        (b"ping \t\r\n", ClientOp::Ping),
        (b"PONG\r\n", ClientOp::Pong),
        (b"pOnG\r\n", ClientOp::Pong),
    ];
    for (input, expected) in cases {
        let shown = input.escape_ascii();
        let read = client(&[input, b"PING\r\n"].concat(), &[usize::MAX]);
        let all = vec![(expected, bytes(input)), (ClientOp::Ping, bytes(b"PING\r\n"))];
        assert_eq!(read, Read { ops: all, left: 0, error: None }, "{shown}");
    }
}

#[test]
fn what_servers_say_is_read() {
    let error = |text: &str| ServerOp::Err(text.to_owned());
    let malformed =
        |reply: Option<&str>| ServerOp::Malformed { sid: text("7"), reply: reply.map(text) };
    let cases: [(&[u8], ServerOp); 22] = [
        (b"INFO {\"a\":1} \r\n", ServerOp::Info(bytes(b"{\"a\":1}"))),
        (b"MSG a.b 7 3\r\nabc\r\n", delivery("a.b", None, None, b"abc")),
        (b"msg a 7 c 003\r\nabc\r\n", delivery("a", Some("c"), None, b"abc")),
        (
            b"HMSG a 7 18 21\r\nNATS/1.0\r\na: b\r\n\r\nabc\r\n",
            delivery("a", None, Some(BLOCK), b"abc"),
        ),
        (
            b"HMSG a 7 c 18 18\r\nNATS/1.0\r\na: b\r\n\r\n\r\n",
            delivery("a", Some("c"), Some(BLOCK), b""),
        ),
        // nats-server checks neither headers nor most subjects.
        (b"HMSG a 7 3 4\r\nabcd\r\n", delivery("a", None, Some(b"abc"), b"d")),
        (b"MSG a\rb 7 3\r\nabc\r\n", malformed(None)),
        (b"MSG a 7 b\r 3\r\nabc\r\n", malformed(None)),
        (b"MSG a\0 7 b 3\r\nabc\r\n", malformed(Some("b"))),
        (b"MSG \xc3\xa9 7 b 3\r\nabc\r\n", malformed(Some("b"))),
        (b"MSG a.* 7 b 3\r\nabc\r\n", malformed(Some("b"))),
        (b"MSG a..b 7 b 3\r\nabc\r\n", malformed(Some("b"))),
        (b"MSG a 7 > 3\r\nabc\r\n", malformed(None)),
        (b"PING\r\n", ServerOp::Ping),
        (b"PONG\r\n", ServerOp::Pong),
        (b"+OK\r\n", ServerOp::Ok),
        (b"+ok\r\n", ServerOp::Ok),
        (b"-ERR 'Invalid Subject'\r\n", error("Invalid Subject")),
        (b"-err Stale\r\n", error("Stale")),
        (b"-ERR 'for \"it's\"'\r\n", error("for \"it's\"")),
        (b"-ERR '\r\n", error("'")),
        (b"-ERR\r\n", error("")),
    ];
    for (input, expected) in cases {
        let shown = input.escape_ascii();
        let read = server(&[input, b"PING\r\n"].concat(), &[usize::MAX]);
        let all = vec![(expected, bytes(input)), (ServerOp::Ping, bytes(b"PING\r\n"))];
        assert_eq!(read, Read { ops: all, left: 0, error: None }, "{shown}");
    }
    let long = format!("MSG a 7 {} 3\r\nabc\r\n", "c".repeat(8 << 10));
    let limit = ProtocolError::LineTooLong { limit: 8 << 10 };
    assert_eq!(server(long.as_bytes(), &[usize::MAX]).error, Some(limit));
    let long = format!("MSG a 7 {} 3\r\nabc\r\n", "c".repeat(4096));
    assert_eq!(server(long.as_bytes(), &[usize::MAX]).ops[0].0, malformed(None));
}

#[test]
fn what_clients_must_not_say_is_refused() {
    use ProtocolError::*;
    let (publish, subscribe) = (PublishSubject(1024), SubscribeSubject(1024));
    let long = |count| "a".repeat(count);
    let cases: Vec<(String, ProtocolError, &str)> = [
        // Lines that another parser could end elsewhere.
        ("PUB a 3\nabc\r\n", ControlCharacter, "Unknown Protocol Operation"),
        ("PING\n", ControlCharacter, "Unknown Protocol Operation"),
        ("PUB a\nb 3\r\nabc\r\n", ControlCharacter, "Unknown Protocol Operation"),
        ("SUB \nfoo 1\r\n", ControlCharacter, "Unknown Protocol Operation"),
        ("PUB a\rb 12\r\nx\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a 12\r\r\nx\r\n", Number, "Unknown Protocol Operation"),
        ("PING\r\r\n", verbs(), "Unknown Protocol Operation"),
        ("CONNECT {\r}\r\n", ControlCharacter, "Unknown Protocol Operation"),
        ("CONNECT {}\r\r\n", ControlCharacter, "Unknown Protocol Operation"),
        ("CONNECT {\0}\r\n", ControlCharacter, "Unknown Protocol Operation"),
        // Verbs.
        ("\r\n", verbs(), "Unknown Protocol Operation"),
        (" PING\r\n", verbs(), "Unknown Protocol Operation"),
        ("PINGPING\r\n", verbs(), "Unknown Protocol Operation"),
        ("PUB\r\n", form("PUB subject [reply] size"), "Unknown Protocol Operation"),
        ("GET / HTTP/1.1\r\n", verbs(), "Unknown Protocol Operation"),
        ("MSG a 1 1\r\nx\r\n", verbs(), "Unknown Protocol Operation"),
        ("INFO {}\r\n", verbs(), "Unknown Protocol Operation"),
        ("+OK\r\n", verbs(), "Unknown Protocol Operation"),
        ("-ERR 'x'\r\n", verbs(), "Unknown Protocol Operation"),
        ("CONNECT{}\r\n", verbs(), "Unknown Protocol Operation"),
        // Arguments.
        ("PING PING\r\n", bare(), "Unknown Protocol Operation"),
        ("CONNECT \t\r\n", form("CONNECT and JSON"), "Unknown Protocol Operation"),
        ("PUB a\r\n", form("PUB subject [reply] size"), "Unknown Protocol Operation"),
        ("PUB a b c 1\r\nx\r\n", form("PUB subject [reply] size"), "Unknown Protocol Operation"),
        ("HPUB a 12\r\n", hpub(), "Unknown Protocol Operation"),
        ("HPUB a b c 12 12\r\n", hpub(), "Unknown Protocol Operation"),
        ("HPUB a b c d e f g\r\n", hpub(), "Unknown Protocol Operation"),
        ("SUB a\r\n", form("SUB subject [queue] sid"), "Unknown Protocol Operation"),
        ("SUB a b 1 2\r\n", form("SUB subject [queue] sid"), "Unknown Protocol Operation"),
        ("UNSUB\r\n", form("UNSUB sid [max]"), "Unknown Protocol Operation"),
        ("UNSUB 1 2 3\r\n", form("UNSUB sid [max]"), "Unknown Protocol Operation"),
        // Numbers.
        ("PUB a +1\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a -1\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a 0x1\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a 1.0\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a 0000000001\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a 18446744073709551617\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a \u{661}\r\n", Number, "Unknown Protocol Operation"),
        ("UNSUB 1 abc\r\n", Number, "Unknown Protocol Operation"),
        ("UNSUB 1 1000000000\r\n", Number, "Unknown Protocol Operation"),
        ("PUB a 1001\r\n", too_large(1001), "Maximum Payload Violation"),
        ("PUB a 999999999\r\n", too_large(999_999_999), "Maximum Payload Violation"),
        ("HPUB a 12 1001\r\n", too_large(1001), "Maximum Payload Violation"),
        ("HPUB a 16 15\r\n", HeaderSize { headers: 16, total: 15 }, "Unknown Protocol Operation"),
        // Messages.
        ("PUB a 3\r\nabcd\r\n", PayloadEnd, "Unknown Protocol Operation"),
        ("PUB a 3\r\nab\r\nX", PayloadEnd, "Unknown Protocol Operation"),
        ("PUB a 0\r\nPING\r\n", PayloadEnd, "Unknown Protocol Operation"),
        ("PUB a 1\r\nx\n\n", PayloadEnd, "Unknown Protocol Operation"),
        ("HPUB a 0 3\r\nabc\r\n", Headers, "bad message header detected"),
        ("HPUB a 3 3\r\nabc\r\n", Headers, "bad message header detected"),
        ("HPUB a 8 8\r\nNATS/1.0\r\n", Headers, "bad message header detected"),
        ("HPUB a 10 10\r\nNATS/1.0\r\n\r\n", Headers, "bad message header detected"),
        ("HPUB a 12 12\r\nNATS/1.1\r\n\r\n\r\n", Headers, "bad message header detected"),
        // Subjects and names.
        ("PUB a.* 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB > 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a* 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a..b 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB .a 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a. 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a\0b 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB \u{e9} 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a b.* 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("PUB a \u{b} 1\r\n", publish.clone(), "Invalid Publish Subject"),
        ("SUB a..b 1\r\n", subscribe.clone(), "Invalid Subject"),
        ("SUB a.>.b 1\r\n", subscribe.clone(), "Invalid Subject"),
        ("SUB a.b> 1\r\n", subscribe.clone(), "Invalid Subject"),
        ("SUB a.*b 1\r\n", subscribe.clone(), "Invalid Subject"),
        ("SUB a\u{7f} 1\r\n", subscribe.clone(), "Invalid Subject"),
        ("SUB a b\0 1\r\n", Name(1024), "Unknown Protocol Operation"),
        ("SUB a \u{e9}\r\n", Name(1024), "Unknown Protocol Operation"),
        ("UNSUB \u{1}\r\n", Name(1024), "Unknown Protocol Operation"),
    ]
    .map(|(input, error, violation)| (input.to_owned(), error, violation))
    .into_iter()
    .chain([
        (format!("PUB {} 1\r\n", long(1025)), publish, "Invalid Publish Subject"),
        (format!("SUB {} 1\r\n", long(1025)), subscribe, "Invalid Subject"),
        (format!("UNSUB {}\r\n", long(1025)), Name(1024), "Unknown Protocol Operation"),
        (long(4096), LineTooLong { limit: 4096 }, "maximum control line exceeded"),
        (
            format!("PING{}\r\n", " ".repeat(4091)),
            LineTooLong { limit: 4096 },
            "maximum control line exceeded",
        ),
        (
            format!("CONNECT {}\r\n", long((64 << 10) - 9)),
            LineTooLong { limit: 64 << 10 },
            "maximum control line exceeded",
        ),
    ])
    .collect();
    for (input, error, violation) in cases {
        let (shown, bytes) = (input.escape_debug(), input.as_bytes());
        for sizes in [usize::MAX, 1] {
            let read = client(&[b"PING\r\n", bytes].concat(), &[sizes]);
            assert_eq!((read.ops.len(), read.error), (1, Some(error.clone())), "{shown}");
        }
        assert_eq!(error.violation(), violation, "{shown}");
    }
    let fits = [format!("PING{}\r\n", " ".repeat(4090)), format!("UNSUB {}\r\n", long(1024))];
    assert_eq!(client(fits.concat().as_bytes(), &[usize::MAX]).ops.len(), 2);
}

#[test]
fn what_servers_must_not_say_is_refused() {
    use ProtocolError::*;
    let verbs = UnknownOperation("INFO, MSG, HMSG, PING, PONG, +OK or -ERR");
    let hmsg = form("HMSG subject sid [reply] header-size total-size");
    let most = SERVER.max_payload;
    for (input, error) in [
        ("PUB a 1\r\nx\r\n", verbs.clone()),
        ("CONNECT {}\r\n", verbs),
        ("MSG a 7 3\nabc\r\n", ControlCharacter),
        ("MSG a 7 abc\r\n", Number),
        ("MSG a 3\r\nabc\r\n", form("MSG subject sid [reply] size")),
        ("MSG a 7 b c 3\r\nabc\r\n", form("MSG subject sid [reply] size")),
        ("HMSG a 7 3\r\nabc\r\n", hmsg),
        ("HMSG a 7 4 3\r\nabc\r\n", HeaderSize { headers: 4, total: 3 }),
        ("MSG a 7 999999999\r\n", PayloadTooLarge { got: 999_999_999, limit: most }),
        ("MSG a 7 3\r\nabcd\r\n", PayloadEnd),
        ("MSG a 7\r 3\r\nabc\r\n", Name(1024)),
        ("INFO {\r}\r\n", ControlCharacter),
        ("+OK x\r\n", form("PING, PONG or +OK without arguments")),
    ] {
        for sizes in [usize::MAX, 1] {
            let read = server(&[b"PING\r\n", input.as_bytes()].concat(), &[sizes]);
            let shown = input.escape_debug();
            assert_eq!((read.ops.len(), read.error), (1, Some(error.clone())), "{shown}");
        }
    }
}

fn verbs() -> ProtocolError {
    ProtocolError::UnknownOperation("CONNECT, PUB, HPUB, SUB, UNSUB, PING or PONG")
}

fn bare() -> ProtocolError {
    form("PING or PONG without arguments")
}

fn hpub() -> ProtocolError {
    form("HPUB subject [reply] header-size total-size")
}

fn form(expected: &'static str) -> ProtocolError {
    ProtocolError::Arguments(expected)
}

fn too_large(got: usize) -> ProtocolError {
    ProtocolError::PayloadTooLarge { got, limit: MAX_PAYLOAD }
}

#[test]
fn after_an_error_nothing_is_read() {
    let mut parser = ClientParser::new(CLIENT);
    let mut buffer = BytesMut::from(&b"what?\r\nPING\r\n"[..]);
    let error = parser.next(&mut buffer).expect_err("no operation");
    assert_eq!(parser.next(&mut BytesMut::from(&b"PING\r\n"[..])), Err(error));
}

#[test]
fn nothing_is_held_for_what_is_refused() {
    let mut buffer = BytesMut::from(&b"PUB a 999999999\r\n"[..]);
    let before = buffer.capacity();
    assert!(ClientParser::new(CLIENT).next(&mut buffer).is_err());
    assert_eq!(buffer.capacity(), before);
}

/// A parser that read every piece of a message or line from its beginning would take hours here.
#[test]
fn many_small_pieces_cost_no_more_than_their_bytes() {
    const SIZE: usize = 8 << 20;
    let limits = Limits { max_json: SIZE, ..Limits::client(SIZE) };
    let mut parser = ClientParser::new(limits);
    let mut buffer = BytesMut::from(format!("PUB a {SIZE}\r\n").as_bytes());
    assert_eq!(parser.next(&mut buffer), Ok(None));
    let place = buffer.as_ptr();
    for _ in 0..SIZE {
        buffer.extend_from_slice(b"\n");
        assert_eq!(parser.next(&mut buffer), Ok(None));
    }
    assert_eq!(buffer.as_ptr(), place, "room for all was there from the beginning");
    buffer.extend_from_slice(b"\r\nCONNECT {");
    let frame = parser.next(&mut buffer).expect("reads").expect("a message");
    assert!(matches!(frame.op, ClientOp::Pub { payload, .. } if payload.len() == SIZE));
    for _ in "CONNECT {".len()..SIZE {
        assert_eq!(parser.next(&mut buffer), Ok(None));
        buffer.extend_from_slice(b" ");
    }
    assert_eq!(parser.next(&mut buffer), Err(ProtocolError::LineTooLong { limit: SIZE }));
}

#[test]
fn a_frame_is_cut_from_the_buffer_without_copying() {
    let mut buffer = BytesMut::from(&b"HPUB a 18 21\r\nNATS/1.0\r\na: b\r\n\r\nabc\r\n"[..]);
    let place = buffer.as_ptr() as usize;
    let frame = ClientParser::new(CLIENT).next(&mut buffer).expect("reads").expect("a frame");
    let ClientOp::Pub { subject, headers, payload, .. } = frame.op else { panic!("no message") };
    let at = |bytes: &[u8]| bytes.as_ptr() as usize - place;
    let headers = headers.expect("headers");
    assert_eq!(
        (at(&frame.raw), at(subject.as_bytes()), at(&headers), at(&payload)),
        (0, 5, 14, 32)
    );
}

#[test]
fn a_header_is_added_behind_the_others() {
    let sealed = |op: &ClientOp| {
        let mut out = BytesMut::new();
        write_pub_sealed(&mut out, op, "Hermesh-Seal", "abc");
        String::from_utf8(out.to_vec()).expect("text")
    };
    assert_eq!(
        sealed(&message("a", None, None, b"body")),
        "HPUB a 31 35\r\nNATS/1.0\r\nHermesh-Seal: abc\r\n\r\nbody\r\n"
    );
    assert_eq!(
        sealed(&message("a", Some("c"), Some(BLOCK), b"")),
        "HPUB a c 37 37\r\nNATS/1.0\r\na: b\r\nHermesh-Seal: abc\r\n\r\n\r\n"
    );
    assert_eq!(sealed(&ClientOp::Ping), "PING\r\n");
}

#[test]
fn nothing_written_for_people_ends_a_line() {
    let mut out = BytesMut::new();
    write_err(&mut out, "no\r\nPING\r\n\0");
    assert_eq!(&out[..], b"-ERR 'no  PING   '\r\n");
}

#[test]
fn nothing_secret_is_shown() {
    let read = client(
        b"CONNECT {\"pass\":\"hunter2\"}\r\nHPUB a 24 31\r\nNATS/1.0\r\na: hunter2\r\n\r\n\
          hunter2\r\n",
        &[usize::MAX],
    );
    assert_eq!(read.ops.len(), 2, "{read:?}");
    for (op, _) in &read.ops {
        assert!(!format!("{op:?}").contains("hunter2"));
    }
}

#[test]
fn subjects_are_told_from_what_is_none() {
    for subject in ["a", "a.b", "$JS.API.INFO", "_INBOX.service.evaluation.7", "a-b_c!"] {
        assert!(is_subject(subject.as_bytes()) && is_pattern(subject.as_bytes()), "{subject}");
    }
    for pattern in [">", "*", "a.*", "a.>", "*.*", "a.*.b.>"] {
        assert!(!is_subject(pattern.as_bytes()) && is_pattern(pattern.as_bytes()), "{pattern}");
    }
    for neither in ["", ".", "a.", ".a", "a..b", "a b", "a\t", "a\u{7f}", "a*", "a.b>", "**", ">.a"]
    {
        assert!(!is_subject(neither.as_bytes()) && !is_pattern(neither.as_bytes()), "{neither}");
    }
}
