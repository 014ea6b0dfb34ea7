//! A trust domain with sidecars, and honest and malicious brokers.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod broker;
pub mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hermesh_mesh::{
    Bytes, Clock as _, Message, SystemClock, UnixMillis,
    bus::nats::{NatsBus, NatsOptions},
    identity::{Credentials, SpiffeId, Trust},
    issuer::{Authority, Grant, Uses, files::to_pem},
    policy::Policy,
};
use hermesh_sidecar::{
    metrics::{Direction, Metrics},
    proxy::{Gate, Handshake, Listener, Upstream, serve},
    source::Identity,
    tls,
};
use prometheus::Registry;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub const DOMAIN: &str = "hermesh.local";
pub const HOUR: Duration = Duration::from_secs(3600);
/// The time limit for things that must happen, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The default policy, with some tenants and additional lines.
pub fn policy(more: &str) -> Policy {
    let text = Policy::default_text();
    let text = text.replace("tenants = []", r#"tenants = ["acme", "umbra"]"#);
    assert!(text.contains("umbra"), "the default policy has no place for tenants");
    Policy::parse(&format!("{text}\n{more}")).expect("a policy")
}

pub fn id(workload: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, workload).expect("a name")
}

/// The TLS configuration for the broker, whose certificate is not revoked.
pub fn client(credentials: &Credentials, trust: &Trust) -> Arc<rustls::ClientConfig> {
    let broker = id("broker/nats");
    tls::client(credentials, trust, &broker, Arc::new(|_| false)).expect("TLS")
}

/// A root, and the certificates that it signs.
pub struct Domain {
    pub authority: Authority,
}

impl Domain {
    pub fn new() -> Self {
        let now = SystemClock.now();
        let from = UnixMillis(now.0 - 24 * 3_600_000);
        let authority = Authority::create(DOMAIN, from, now.plus(24 * HOUR)).expect("creates");
        Self { authority }
    }

    pub fn trust(&self) -> Trust {
        Trust::from_pem(DOMAIN, self.authority.certificate().as_bytes()).expect("roots")
    }

    pub fn grant(workload: &str) -> Grant {
        let now = SystemClock.now();
        Grant {
            id: id(workload),
            hosts: vec!["127.0.0.1".into(), "localhost".into()],
            uses: Uses::Workload,
            from: UnixMillis(now.0 - 60_000),
            until: now.plus(HOUR),
        }
    }

    pub fn credentials(&self, workload: &str) -> Credentials {
        self.authority.credentials(&Self::grant(workload)).expect("issues")
    }

    /// A certificate and its key, in PEM.
    pub fn pem(&self, workload: &str) -> (String, String) {
        let (key, chain) = self.authority.key_and_chain(&Self::grant(workload)).expect("issues");
        (to_pem(chain.certificates()), key.to_string())
    }

    pub fn identity(&self, workload: &str) -> Arc<Identity> {
        Arc::new(Identity { credentials: self.credentials(workload), trust: self.trust() })
    }
}

/// A running sidecar.
pub struct Sidecar {
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub identity: watch::Sender<Arc<Identity>>,
    pub policy: watch::Sender<Arc<Policy>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    id: SpiffeId,
}

impl Sidecar {
    pub async fn start(
        identity: Arc<Identity>,
        policy: Policy,
        broker: SocketAddr,
        handshake: Handshake,
    ) -> Self {
        let own = identity.credentials.id().clone();
        let client = client(&identity.credentials, &identity.trust);
        // Kept for the whole test: only some tests change what new connections present.
        let (_, tls) = watch::channel(client);
        let metrics = Metrics::new(own.workload(), &Registry::new()).expect("registers");
        let (identity, watched) = watch::channel(identity);
        let (policy, rules) = watch::channel(Arc::new(policy));
        let clock = Arc::new(SystemClock);
        let gate = Arc::new(Gate::new(rules, watched, metrics.clone(), clock));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let servers = vec![broker.to_string()];
        let upstream =
            Arc::new(Upstream { servers, handshake, patience: PATIENCE, last: 0.into() });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(
            Listener::Tcp(listener),
            gate,
            upstream,
            tls,
            stopped,
            Duration::ZERO,
        ));
        Self { address, metrics, identity, policy, stop, serving, id: own }
    }

    pub fn rejections(&self, reason: &str) -> u64 {
        self.metrics.rejections(Direction::In, reason)
    }

    pub fn refusals(&self, reason: &str) -> u64 {
        self.metrics.rejections(Direction::Out, reason)
    }

    pub fn options(&self) -> NatsOptions {
        NatsOptions {
            url: format!("nats://{}", self.address),
            name: self.id.workload().to_owned(),
            inbox: Some(self.id.inbox()),
            direct: self.id.kind() == "tenant",
            request_timeout: Duration::from_secs(2),
            publish_patience: Duration::from_secs(10),
            ..NatsOptions::default()
        }
    }

    pub async fn bus(&self) -> NatsBus {
        NatsBus::connect(self.options()).await.expect("connects")
    }

    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        (&mut self.serving).await.expect("ends in order");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

pub fn message(subject: &str, body: impl Into<Bytes>) -> Message {
    let mut message = Message::new(subject, body).with_id(subject);
    message.headers.insert("Hermesh-Job", "07").expect("a header");
    message
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}: never"));
}
