//! Health and metrics: who may read them, and which parts of a request reach the service.

#![allow(clippy::unwrap_used)]

mod domain;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use domain::{Domain, id, now};
use hermesh_mesh::{
    Clock, SystemClock, UnixMillis,
    identity::{Credentials, Peer},
};
use hermesh_sidecar::{
    http::{Access, Gateway, Limits, Metrics, Own, Service, serve_local},
    tls,
};
use prometheus::Registry;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const MONITOR: &str = "monitor/prometheus";
const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A peer may read the listed paths, unless it is revoked.
#[derive(Default)]
struct Rules {
    allowed: Vec<(&'static str, &'static str)>,
    revoked: Vec<&'static str>,
}

impl Access for Rules {
    fn allowed(&self, peer: &Peer, path: &str) -> bool {
        self.allowed.contains(&(peer.id.workload(), path))
    }

    fn revoked(&self, peer: &Peer) -> bool {
        self.revoked.contains(&peer.id.workload())
    }
}

fn rules(allowed: &[(&'static str, &'static str)], revoked: &[&'static str]) -> Arc<Rules> {
    Arc::new(Rules { allowed: allowed.into(), revoked: revoked.into() })
}

/// A clock that is ahead.
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> UnixMillis {
        SystemClock.now().plus(self.0)
    }
}

/// A running gateway, and the handles that control it.
struct Running {
    address: SocketAddr,
    domain: Domain,
    rules: watch::Sender<Arc<Rules>>,
    credentials: watch::Sender<Credentials>,
    stop: watch::Sender<bool>,
    registry: Registry,
    done: JoinHandle<()>,
}

struct Setup {
    service: SocketAddr,
    limits: Limits,
    patience: Duration,
    clock: Arc<dyn Clock>,
}

impl Setup {
    fn of(service: SocketAddr) -> Self {
        let patience = Duration::from_secs(20);
        Self { service, limits: Limits::default(), patience, clock: Arc::new(SystemClock) }
    }

    /// Runs a gateway on which Prometheus may read `/metrics` and the sidecar's own health.
    async fn run(self) -> Running {
        let domain = Domain::new();
        let allowed =
            [(MONITOR, "/metrics"), (MONITOR, "/sidecar/readyz"), (MONITOR, "/sidecar/x")];
        let rules = watch::Sender::new(rules(&allowed, &[]));
        let credentials = watch::Sender::new(domain.credentials("service/evaluation"));
        let (access, trust) = (rules.subscribe(), domain.trust());
        let (revoked, newest) = (access.clone(), credentials.subscribe());
        let revoked: tls::Revoked = Arc::new(move |peer| revoked.borrow().revoked(peer));
        let registry = Registry::new();
        let gateway = Gateway {
            tls: Box::new(move || tls::server(&newest.borrow(), &trust, revoked.clone())),
            access,
            service: Service { address: self.service, patience: self.patience },
            own: own(&registry),
            metrics: Metrics::new(&registry).unwrap(),
            clock: self.clock,
            limits: self.limits,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let done = tokio::spawn(gateway.serve(listener, stopped));
        Running { address, domain, rules, credentials, stop, registry, done }
    }
}

fn own(registry: &Registry) -> Own {
    Own { registry: registry.clone(), ready: Arc::new(|| Err("the broker is away".into())) }
}

impl Running {
    async fn connect(&self, workload: &str) -> io::Result<TlsStream<TcpStream>> {
        let credentials = self.domain.credentials(workload);
        let (trust, server) = (self.domain.trust(), id("service/evaluation"));
        let config = tls::client(&credentials, &trust, &server, Arc::new(|_| false)).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(tls::no_host(), stream).await
    }

    /// Sends `text` and returns everything received until the connection ends.
    async fn all(&self, workload: &str, text: &str) -> String {
        let mut stream = self.connect(workload).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        until_end(&mut stream).await
    }

    /// The response to a GET of `target`.
    async fn get(&self, workload: &str, target: &str) -> String {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        self.all(workload, &text).await
    }

    fn count(&self, text: &str) -> bool {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&self.registry.gather()).unwrap().contains(text)
    }
}

/// Everything received until the other side ends the connection.
async fn until_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = vec![];
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
    // The connection need not end with TLS's close_notify.
    let _ = read.expect("the connection is ended");
    String::from_utf8(all).unwrap()
}

/// Everything received up to and including `end`.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = vec![];
    let read = async {
        while !all.ends_with(end.as_bytes()) {
            all.push(stream.read_u8().await.unwrap_or_else(|error| panic!("{error}")));
        }
    };
    timeout(Duration::from_secs(20), read).await.unwrap_or_else(|_| panic!("no {end:?}"));
    String::from_utf8(all).unwrap()
}

/// A service that gives every request the same response and keeps connections open; counts requests and
/// connections.
struct Fake {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(String, TcpStream)>,
}

async fn fake(answer: &'static str) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = until(&mut stream, "\r\n\r\n").await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = sender.send((head, stream));
        }
    });
    Fake { address, requests }
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_service_learns_who_asks_and_nobody_else_can_say_so() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    let text = "GET http://elsewhere/metrics?a=%20b HTTP/1.1\r\n\
        Host: elsewhere\r\n\
        Hermesh-Identity: spiffe://hermesh.local/service/key-management\r\n\
        HERMESH-IDENTITY: spiffe://hermesh.local/service/key-management\r\n\
        Hermesh_Identity: spiffe://hermesh.local/service/key-management\r\n\
        X-Forwarded-Client-Cert: URI=spiffe://hermesh.local/service/key-management\r\n\
        X-Forwarded-For: 127.0.0.1\r\n\
        Forwarded: for=127.0.0.1\r\n\
        Authorization: Bearer a\r\n\
        Cookie: a=b\r\n\
        Connection: close, accept, hermesh-identity\r\n\
        Keep-Alive: timeout=5\r\n\
        Upgrade: websocket\r\n\
        TE: trailers\r\n\
        Accept: text/plain\r\n\
        Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let answer = running.all(MONITOR, text).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
    let (head, _) = service.requests.recv().await.unwrap();
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: {}", service.address);
    assert_eq!(
        lines,
        [
            "GET /metrics?a=%20b HTTP/1.1",
            "accept: text/plain",
            "connection: close",
            "hermesh-identity: spiffe://hermesh.local/monitor/prometheus",
            &host,
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]
    );
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_denied() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    for (workload, target) in [
        ("tenant/acme", "/metrics"),
        ("service/key-management", "/metrics"),
        (MONITOR, "/healthz"),
        (MONITOR, "/metrics.old"),
        (MONITOR, "/sidecar/metrics"),
        ("tenant/acme", "/sidecar/readyz"),
    ] {
        let answer = running.get(workload, target).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{workload} {target}: {answer}");
    }
    // Paths that could be read in two ways.
    for target in ["/%6detrics", "//metrics", "/metrics/", "/./metrics", "/a/../metrics", "/"] {
        let answer = running.get(MONITOR, target).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert!(service.requests.try_recv().is_err());
    // A changed policy applies from the next request on.
    let mut stream = running.connect("tenant/acme").await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "/metrics\n").await.starts_with("HTTP/1.1 403 "));
    running.rules.send_replace(rules(&[("tenant/acme", "/metrics")], &[]));
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "hello").await.starts_with("HTTP/1.1 200 "));
    assert!(running.count("hermesh_sidecar_http_requests_total{code=\"403\"} 7"));
}

#[tokio::test]
async fn who_is_revoked_is_cut_off() {
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell").await;
    let running = Setup::of(service.address).run().await;
    // One connection is idle between requests, one is in the middle of a response.
    let mut idle = running.connect(MONITOR).await.unwrap();
    for _ in 0..2 {
        idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
        until(&mut idle, "/sidecar/\n").await;
    }
    let mut busy = running.connect(MONITOR).await.unwrap();
    busy.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut busy, "hell").await;
    let (_, mut served) = service.requests.recv().await.unwrap();

    // Revoking another peer does not affect them.
    running.rules.send_replace(rules(&[(MONITOR, "/sidecar/x")], &["tenant/acme"]));
    idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
    until(&mut idle, "/sidecar/\n").await;

    running.rules.send_replace(rules(&[(MONITOR, "/sidecar/x")], &[MONITOR]));
    assert_eq!(until_end(&mut idle).await, "");
    assert_eq!(until_end(&mut busy).await, "");
    // The connection to the service is closed too.
    until_end(&mut served).await;
    assert!(running.count("hermesh_sidecar_http_connections_refused_total{reason=\"revoked\"} 2"));

    // In TLS 1.3 the client learns of the refusal only with the first response.
    if let Ok(mut again) = running.connect(MONITOR).await {
        let _ = again.write_all(METRICS.as_bytes()).await;
        assert_eq!(until_end(&mut again).await, "");
    }
}

#[tokio::test]
async fn who_has_expired_is_cut_off() {
    let service = fake(HELLO).await;
    let mut setup = Setup::of(service.address);
    // The tests' certificates are valid for a day.
    let ahead = now().until(domain::today().1) - Duration::from_secs(3);
    setup.clock = Arc::new(Ahead(ahead));
    let running = setup.run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut stream, "hello").await;
    assert_eq!(until_end(&mut stream).await, "");
    assert!(running.count("hermesh_sidecar_http_connections_refused_total{reason=\"expired\"} 1"));
}

#[tokio::test]
async fn a_service_that_is_away_is_told() {
    let running = Setup::of(nobody().await).run().await;
    assert!(running.get(MONITOR, "/metrics").await.starts_with("HTTP/1.1 502 "));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ] {
        let service = fake(answer).await;
        let running = Setup::of(service.address).run().await;
        let told = running.get(MONITOR, "/metrics").await;
        assert!(told.starts_with("HTTP/1.1 502 "), "{answer}: {told}");
    }
    let silent = fake("").await;
    let mut setup = Setup::of(silent.address);
    setup.patience = Duration::from_millis(100);
    let running = setup.run().await;
    assert!(running.get(MONITOR, "/metrics").await.starts_with("HTTP/1.1 504 "));
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes_and_not_waited_for_for_ever() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-a\r\n\
        X-A: b\r\nSet-Cookie: a=b\r\nServer: c\r\nContent-Type: text/plain\r\n\r\n4\r\nhell\r\n";
    let mut service = fake(answer).await;
    let mut setup = Setup::of(service.address);
    setup.patience = Duration::from_secs(2);
    let running = setup.run().await;
    for goes_on in [true, false] {
        let mut stream = running.connect(MONITOR).await.unwrap();
        stream.write_all(METRICS.as_bytes()).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("content-type: text/plain\r\n"), "{head}");
        for name in ["x-a:", "set-cookie:", "server:", "connection:"] {
            assert!(!head.contains(name), "{head}");
        }
        until(&mut stream, "4\r\nhell\r\n").await;
        let (_, mut served) = service.requests.recv().await.unwrap();
        if goes_on {
            served.write_all(b"1\r\no\r\n0\r\nTrailer: a\r\n\r\n").await.unwrap();
            assert_eq!(until(&mut stream, "0\r\n\r\n").await, "1\r\no\r\n0\r\n\r\n");
        } else {
            // Cut off, so that the client cannot take the part for the whole.
            assert_eq!(until_end(&mut stream).await, "");
        }
    }
}

#[tokio::test]
async fn an_answer_has_an_end() {
    let mut service = fake("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let running = Setup::of(service.address).run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    let (_, mut served) = service.requests.recv().await.unwrap();
    let endless = tokio::spawn(async move {
        let chunk = format!("100000\r\n{}\r\n", "a".repeat(1 << 20));
        while served.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let answer = until_end(&mut stream).await;
    let letters = answer.bytes().filter(|&byte| byte == b'a').count();
    assert!((63 << 20..=(64 << 20) + 100).contains(&letters), "{letters}");
    endless.await.unwrap();
}

#[tokio::test]
async fn a_head_is_answered_without_a_body() {
    let service = fake("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let running = Setup::of(service.address).run().await;
    let text = METRICS.replace("GET", "HEAD").replace("Host: a", "Host: a\r\nConnection: close");
    let answer = running.all(MONITOR, &text).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_of_any_other_form_ends_the_connection() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(20_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    let target = format!("GET /metrics?{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(20_000));
    // Each body contains text that would be a second request if the body's length were read differently.
    for (head, body, status) in [
        (&*long, "", "431"),
        (&*many, "", "431"),
        (&*target, "", "431"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "a", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 0, 5\r\n\r\n", "hello", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "hello", "400"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "400"),
        (
            "GET /metrics HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\n\r\n",
            "400",
        ),
        (
            "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "0\r\n\r\n",
            "400",
        ),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", "", "400"),
        ("GET /metrics HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n", "0\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nA: b\r\n Content-Length: 5\r\n\r\n", "hello", "400"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "hello", "405"),
        ("PUT /metrics HTTP/1.1\r\n\r\n", "", "405"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", "", "405"),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "", "405"),
    ] {
        let answer = running.all(MONITOR, &format!("{head}{body}{METRICS}")).await;
        let shown = &head[..head.len().min(100)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{shown}: {answer}");
    }
    assert!(service.requests.try_recv().is_err());
    // Requests that are not HTTP/1 are refused.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert!(!running.all(MONITOR, preface).await.contains(" 200 "));
}

#[tokio::test]
async fn who_takes_long_makes_room() {
    let mut setup = Setup::of(fake(HELLO).await.address);
    setup.limits.connections = 1;
    setup.limits.handshake = Duration::from_secs(1);
    setup.limits.head = Duration::from_secs(1);
    let running = setup.run().await;
    // One client never begins TLS, one never ends its request's head, one never sends a second request.
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut slow = running.connect(MONITOR).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nA: ").await.unwrap();
    let mut idle = running.connect(MONITOR).await.unwrap();
    idle.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut idle, "hello").await;
    let answer = running.get(MONITOR, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for stream in [&mut slow, &mut idle] {
        assert!(!until_end(stream).await.contains("200"));
    }
    assert_eq!(until_end(&mut silent).await, "");
}

#[tokio::test]
async fn a_connection_does_not_live_for_ever() {
    // The service sends for an unlimited time.
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhell").await;
    let mut setup = Setup::of(service.address);
    setup.limits.life = Duration::from_secs(1);
    setup.limits.drain = Duration::from_millis(200);
    let running = setup.run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut stream, "hell").await;
    let (_, mut served) = service.requests.recv().await.unwrap();
    let goes_on = tokio::spawn(async move {
        while served.write_all(b"o").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    until_end(&mut stream).await;
    goes_on.await.unwrap();
}

#[tokio::test]
async fn at_the_end_answers_in_hand_are_finished() {
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").await;
    let running = Setup::of(service.address).run().await;
    let mut idle = running.connect(MONITOR).await.unwrap();
    idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
    until(&mut idle, "/sidecar/\n").await;
    let mut busy = running.connect(MONITOR).await.unwrap();
    busy.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut busy, "hell").await;
    running.stop.send_replace(true);
    assert_eq!(until_end(&mut idle).await, "");
    assert!(!running.done.is_finished());
    assert!(TcpStream::connect(running.address).await.is_err());
    let (_, mut served) = service.requests.recv().await.unwrap();
    served.write_all(b"o").await.unwrap();
    assert_eq!(until_end(&mut busy).await, "o");
    running.done.await.unwrap();
}

#[tokio::test]
async fn the_next_connection_sees_the_new_certificate() {
    let running = Setup::of(fake(HELLO).await.address).run().await;
    let shown = |stream: &TlsStream<TcpStream>| tls::peer(stream.get_ref().1).unwrap().fingerprint;
    let mut old = running.connect(MONITOR).await.unwrap();
    let renewed = running.domain.credentials("service/evaluation");
    let fingerprint = renewed.peer().fingerprint;
    assert_ne!(shown(&old), fingerprint);
    running.credentials.send_replace(renewed);
    let new = running.connect(MONITOR).await.unwrap();
    assert_eq!(shown(&new), fingerprint);
    // The old connection stays open.
    old.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut old, "hello").await;
}

#[tokio::test]
async fn the_sidecar_answers_for_itself() {
    let running = Setup::of(nobody().await).run().await;
    let answer = running.get(MONITOR, "/sidecar/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nnot ready: the broker is away\n"), "{answer}");
    assert!(running.get(MONITOR, "/sidecar/x").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn probes_on_this_machine_need_no_certificate() {
    let registry = Registry::new();
    let _counts = Metrics::new(&registry).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let served = serve_local(listener, own(&registry), Limits::default(), stopped.clone());
    let served = tokio::spawn(served);
    for (target, status, end) in [
        ("/sidecar/healthz", 200, "alive\n"),
        ("/sidecar/readyz", 503, "not ready: the broker is away\n"),
        ("/sidecar/metrics", 200, "hermesh_sidecar_http_connections 0\n"),
        ("/sidecar/healthz/", 400, "one way only\n"),
        ("/metrics", 404, "\n"),
        ("/healthz", 404, "\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = until_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.ends_with(end), "{target}: {answer}");
    }
    stop.send_replace(true);
    served.await.unwrap().unwrap();

    let open = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve_local(open, own(&registry), Limits::default(), stopped).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
