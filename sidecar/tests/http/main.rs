//! Health and metrics: who may read them, and which parts of a request reach the service.

#![allow(clippy::unwrap_used)]

mod connections;
#[path = "../domain/mod.rs"]
mod domain;
mod requests;

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
