//! Assembles a sidecar: binds its addresses, waits for its certificate, then carries messages.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
};

use hermesh_mesh::{
    Clock, SystemClock,
    identity::{Peer, SpiffeId},
    policy::{Policy, Verb},
};
use prometheus::Registry;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    config::{Config, Kind},
    http::{self, Access, Gateway, Own, Service},
    metrics::Metrics,
    policy_file,
    proxy::{self, Gate, Listener, Upstream},
    source::{Enrolment, Files, Handle, Identity, Source},
    tls::{self, Revoked},
};

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy cannot be read.
    #[error(transparent)]
    Policy(#[from] policy_file::Error),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another {option}")]
    Listen {
        /// The address.
        address: String,
        /// The option that sets it.
        option: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A name in the configuration is invalid in the policy's trust domain.
    #[error(transparent)]
    Name(#[from] hermesh_mesh::Error),
    /// The certificate belongs to another workload.
    #[error("the certificate is that of {got}, expected {expected}; see identity.workload")]
    Identity {
        /// The workload that the certificate names.
        got: SpiffeId,
        /// The workload that the configuration expects.
        expected: SpiffeId,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}; this is a defect")]
    Tls(#[from] rustls::Error),
    /// A background task ended unexpectedly.
    #[error("a task ended by itself; this is a defect, its message is above")]
    Died,
    /// The metrics could not be registered.
    #[error("the metrics could not be registered: {0}; this is a defect")]
    Metrics(#[from] prometheus::Error),
}

impl Access for Policy {
    fn allowed(&self, peer: &Peer, path: &str) -> bool {
        self.rules(&peer.id).is_some_and(|rules| rules.allows(Verb::Http, path))
    }

    fn revoked(&self, peer: &Peer) -> bool {
        self.is_revoked(peer)
    }
}

/// A running sidecar.
pub struct Bound {
    /// Where the workload connects, unless that is a Unix socket.
    pub address: Option<SocketAddr>,
    /// Where other workloads reach the service's health and metrics, if the configuration says so.
    pub http: Option<SocketAddr>,
    /// Where the sidecar's own health and metrics are served.
    pub health: SocketAddr,
    stop: Arc<watch::Sender<bool>>,
    life: JoinHandle<Result<(), Error>>,
}

impl Bound {
    /// Returns a handle that stops the sidecar.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Waits until the sidecar has ended.
    ///
    /// # Errors
    /// A task of the sidecar failed.
    pub async fn ended(self) -> Result<(), Error> {
        self.life.await.unwrap_or(Err(Error::Died))
    }
}

/// Stops a sidecar: it accepts no new connections and lets open ones finish.
#[derive(Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Begins the shutdown.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Binds a sidecar to its addresses and starts it in the background. It then waits for a certificate,
/// without a time limit. Must be called inside a tokio runtime.
///
/// # Errors
/// There is no policy, or an address cannot be bound.
pub async fn build(config: Config) -> Result<Bound, Error> {
    let policy = policy_file::follow(&config.policy).await?;
    let domain = policy.borrow().trust_domain().to_owned();
    let broker = SpiffeId::new(&domain, &config.upstream.identity)?;
    let (source, expected) = source(&config, &domain)?;
    let (listener, address) = listen(&config).await?;
    let (health_listener, health) = bind(config.health.listen, "health.listen").await?;
    let (http_listener, http) = match config.http.listen {
        None => (None, None),
        Some(address) => {
            let (listener, address) = bind(address, "http.listen").await?;
            (Some(listener), Some(address))
        }
    };
    let (stop, stopped) = watch::channel(false);
    let registry = Registry::new();
    let (ready, state) = watch::channel(None);
    let own = Own { registry: registry.clone(), ready: readiness(state) };
    let http_metrics = http::Metrics::new(&registry)?;
    let life = Life {
        config,
        policy,
        broker,
        expected,
        own,
        registry,
        ready,
        stopped,
        clock: Arc::new(SystemClock),
    };
    let life =
        tokio::spawn(life.live(source, listener, health_listener, http_listener, http_metrics));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?address, ?http, %health, "listening");
    Ok(Bound { address, http, health, stop: Arc::new(stop), life })
}

/// The certificate's source, and the workload that the certificate must name.
fn source(config: &Config, domain: &str) -> Result<(Source, Option<SpiffeId>), Error> {
    let identity = config.identity.clone();
    let expected = identity.workload.as_deref().map(|workload| SpiffeId::new(domain, workload));
    let expected = expected.transpose()?;
    let source = match (identity.kind, expected.clone()) {
        (Kind::Issuer, Some(expected)) => {
            let address = identity.address.unwrap_or_default();
            Source::Issuer(Enrolment {
                address: address.strip_prefix("https://").unwrap_or(&address).to_owned(),
                roots: identity.roots,
                identity: expected,
                token: identity.token,
                directory: identity.directory,
            })
        }
        #[cfg(feature = "workload-api")]
        (Kind::WorkloadApi, _) => {
            let socket = identity.socket.or_else(|| std::env::var("SPIFFE_ENDPOINT_SOCKET").ok());
            Source::WorkloadApi(crate::source::WorkloadApi { socket: socket.unwrap_or_default() })
        }
        _ => Source::Files(Files {
            certificate: identity.certificate,
            key: identity.key,
            roots: identity.roots,
            every: Files::EVERY,
        }),
    };
    Ok((source, expected))
}

async fn bind(
    address: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address: address.to_string(), option, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn listen(config: &Config) -> Result<(Listener, Option<SocketAddr>), Error> {
    let Some(socket) = &config.listen.socket else {
        let (listener, address) = bind(config.listen.address, "listen.address").await?;
        return Ok((Listener::Tcp(listener), Some(address)));
    };
    let failed = |source| Error::Listen {
        address: socket.display().to_string(),
        option: "listen.socket",
        source,
    };
    // Remove the socket that an earlier sidecar left behind. Any other file is not ours to remove.
    if is_socket(socket.clone()).await {
        tokio::fs::remove_file(socket).await.map_err(failed)?;
    }
    Ok((Listener::Unix(UnixListener::bind(socket).map_err(failed)?), None))
}

async fn is_socket(path: PathBuf) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    tokio::fs::symlink_metadata(path).await.is_ok_and(|found| found.file_type().is_socket())
}

/// Returns whether the workload may send messages, according to its certificate and the policy.
fn readiness(state: watch::Receiver<Option<(Handle, Arc<Gate>)>>) -> http::Ready {
    Arc::new(move || match &*state.borrow() {
        None => Err("there is no certificate yet".into()),
        Some((source, gate)) => gate.open().map_err(|why| {
            let last = source.health().error.map(|error| format!(" ({error})"));
            format!("{}: {why}{}", gate.own(), last.unwrap_or_default())
        }),
    })
}

/// The tasks of a sidecar from start to end.
struct Life {
    config: Config,
    policy: watch::Receiver<Arc<Policy>>,
    broker: SpiffeId,
    expected: Option<SpiffeId>,
    own: Own,
    registry: Registry,
    ready: watch::Sender<Option<(Handle, Arc<Gate>)>>,
    stopped: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
}

impl Life {
    async fn live(
        self,
        source: Source,
        listener: Listener,
        health: TcpListener,
        http: Option<TcpListener>,
        http_metrics: http::Metrics,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let (own, stopped) = (self.own.clone(), self.stopped.clone());
        tasks.spawn(async move {
            // Cannot fail: the configuration check made sure that this is a loopback address.
            let _ = http::serve_local(health, own, http::Limits::default(), stopped).await;
        });
        let mut stopped = self.stopped.clone();
        let started = tokio::select! {
            source = source.start(self.clock.clone()) => source,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        let ended = self.carry(started, listener, http, http_metrics, &mut tasks).await;
        self.ready.send_replace(None);
        tasks.shutdown().await;
        ended
    }

    async fn carry(
        &self,
        source: Handle,
        listener: Listener,
        http: Option<TcpListener>,
        http_metrics: http::Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Error> {
        let identity = source.watch();
        let own = identity.borrow().id().clone();
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != own) {
            return Err(Error::Identity { got: own, expected: expected.clone() });
        }
        tracing::info!(identity = %own, expires = %identity.borrow().expires(), "has a certificate");
        let metrics = Metrics::new(own.workload(), &self.registry)?;
        let gate =
            Gate::new(self.policy.clone(), identity.clone(), metrics.clone(), self.clock.clone());
        let gate = Arc::new(gate);
        let policy = self.policy.clone();
        let revoked: Revoked = Arc::new(move |peer| policy.borrow().is_revoked(peer));
        let client = client(&identity.borrow(), &self.broker, &revoked)?;
        let (configurations, client) = watch::channel(client);
        tasks.spawn(follow(
            identity.clone(),
            self.broker.clone(),
            revoked.clone(),
            metrics,
            configurations,
        ));
        let mut others = JoinSet::new();
        if let Some(listener) = http {
            let gateway = self.gateway(identity, revoked, http_metrics);
            others.spawn(gateway.serve(listener, self.stopped.clone()));
        }
        let upstream = Upstream {
            servers: self.config.upstream.addresses().map(str::to_owned).collect(),
            handshake: self.config.upstream.handshake,
            patience: self.config.upstream.connect_timeout,
            last: AtomicUsize::new(0),
        };
        self.ready.send_replace(Some((source, gate.clone())));
        let drain = self.config.drain;
        proxy::serve(listener, gate, Arc::new(upstream), client, self.stopped.clone(), drain).await;
        // The HTTP gateway drains by itself, within the same time.
        while others.join_next().await.is_some() {}
        Ok(())
    }

    fn gateway(
        &self,
        identity: watch::Receiver<Arc<Identity>>,
        revoked: Revoked,
        metrics: http::Metrics,
    ) -> Gateway<Policy> {
        let tls = move || {
            let identity = identity.borrow().clone();
            tls::server(&identity.credentials, &identity.trust, revoked.clone())
        };
        let options = &self.config.http;
        Gateway {
            tls: Box::new(tls),
            access: self.policy.clone(),
            service: Service { address: options.service, patience: options.answer_timeout },
            own: self.own.clone(),
            metrics,
            clock: self.clock.clone(),
            limits: http::Limits {
                connections: options.max_connections,
                drain: self.config.drain,
                ..http::Limits::default()
            },
        }
    }
}

fn client(
    identity: &Identity,
    broker: &SpiffeId,
    revoked: &Revoked,
) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    tls::client(&identity.credentials, &identity.trust, broker, revoked.clone())
}

/// Lets new connections present the newest certificate.
async fn follow(
    mut identity: watch::Receiver<Arc<Identity>>,
    broker: SpiffeId,
    revoked: Revoked,
    metrics: Metrics,
    configurations: watch::Sender<Arc<rustls::ClientConfig>>,
) {
    loop {
        let current = identity.borrow_and_update().clone();
        metrics.certificate(current.expires());
        match client(&current, &broker, &revoked) {
            Ok(configuration) => drop(configurations.send_replace(configuration)),
            Err(error) => tracing::error!(%error, "TLS stays as it was"),
        }
        if identity.changed().await.is_err() {
            return;
        }
    }
}
