//! Exports spans to a collector.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use hermesh_mesh::wire::TraceParent;
use hermesh_programs::{
    config::{Log, Otlp},
    telemetry::{link, subscriber},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A collector for one request: returns its endpoint, and a channel for the request line and body.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (taken, take) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        taken.send((lines.join("\n"), body)).unwrap();
    });
    (endpoint, take)
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_span_reaches_the_collector_in_the_trace_of_its_message() {
    let (endpoint, requests) = collector();
    let otlp = Otlp { endpoint: Some(endpoint) };
    // Logs are off, but traces are on.
    let (subscriber, traces) =
        subscriber("hermesh-test", &Log::default(), &otlp, Some("off")).unwrap();
    let trace: TraceParent =
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!(target: "hermesh_mesh", "evaluated", shard = 7);
        link(&span, &trace);
        span.in_scope(|| ());
        // A span of another library, which is not exported.
        tracing::info_span!(target: "hyper", "elsewhere").in_scope(|| ());
    });
    traces.flush();
    let (head, body) = requests.recv_timeout(LIMIT).unwrap();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    assert!(contains(&body, b"hermesh-test") && contains(&body, b"evaluated"));
    assert!(contains(&body, &0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()));
    assert!(contains(&body, &0xb7ad_6b71_6920_3331_u64.to_be_bytes()), "the parent");
    assert!(!contains(&body, b"elsewhere"));
}

#[test]
fn without_a_collector_nothing_is_sent_and_nothing_waits() {
    let (subscriber, traces) =
        subscriber("hermesh-test", &Log::default(), &Otlp::default(), None).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!(target: "hermesh_mesh", "evaluated");
        link(&span, &TraceParent::random());
        span.in_scope(|| ());
    });
    traces.flush();
}

#[test]
fn a_collector_that_is_away_costs_the_traces_only() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let otlp = Otlp { endpoint: Some(format!("http://{gone}")) };
    let (subscriber, traces) =
        subscriber("hermesh-test", &Log::default(), &otlp, Some("off")).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "hermesh_mesh", "evaluated").in_scope(|| ());
        traces.flush();
    });
}
