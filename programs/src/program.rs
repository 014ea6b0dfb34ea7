//! A service as a program: binds its address, connects, serves, drains.

use std::{future::Future, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use hermesh_mesh::{
    Error as MeshError, SigningKey, SystemClock,
    actor::Environment,
    bus::nats::{NatsBus, NatsOptions},
    identity::inbox,
    telemetry::Metrics,
};
use prometheus::Registry;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use crate::{
    config::{self, Config, Range},
    health::{self, State},
    identity,
};

/// How long to wait before connecting to the broker again; a pod may start before the broker does.
const RETRY: Duration = Duration::from_secs(3);

/// Why a program does not start, or fails later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The signing key is missing or invalid.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Logs or traces cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] crate::telemetry::Error),
    /// The metrics could not be registered.
    #[error("the metrics could not be registered: {0}; this is a defect")]
    Metrics(#[from] prometheus::Error),
    /// The address for health and metrics cannot be bound.
    #[error(
        "cannot listen on {address}: {source}; choose another http.listen, port 0 for any free one"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Signal handlers could not be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The service does not start, and a retry would not help.
    #[error("cannot start: {0}")]
    Service(Box<MeshError>),
    /// A task ended unexpectedly.
    #[error("a task ended by itself; this is a defect, its message is above")]
    Died,
}

/// A service that runs as a program.
pub trait Program: 'static {
    /// Its name on the bus and in metrics.
    const NAME: &'static str;
    /// The name of its command.
    const COMMAND: &'static str;
    /// The default port for health and metrics.
    const PORT: u16;
    /// Its configuration file, with every option, its default, unit and meaning.
    const DOCUMENTED: &'static str;
    /// The default file of its signing key, if it signs.
    const IDENTITY: Option<&'static str> = None;
    /// The ranges of the numbers among its service's options.
    const RANGES: &'static [Range];
    /// Its service's options.
    type Options: Serialize + DeserializeOwned + Default + Clone + 'static;
    /// Its running service.
    type Handle: 'static;

    /// Starts the service; `identity` is present if the program signs.
    fn start(
        options: Self::Options,
        environment: Environment,
        identity: Option<SigningKey>,
    ) -> impl Future<Output = Result<Self::Handle, MeshError>>;

    /// Accepts no more work, finishes the work in hand within `patience`, and returns the rest to the
    /// queues.
    fn stop(handle: Self::Handle, patience: Duration) -> impl Future<Output = ()>;
}

/// The configuration of a program: its defaults, overridden by the file, overridden by the environment.
///
/// # Errors
/// The first option that cannot be parsed, or all options that are out of range.
pub fn load<P: Program>(
    file: Option<&Path>,
    environment: &config::Environment,
) -> Result<Config<P::Options>, config::Error> {
    let mut defaults = Config::default();
    defaults.http.listen.set_port(P::PORT);
    defaults.identity = P::IDENTITY.map(Into::into);
    config::load(&defaults, file, environment, P::RANGES, P::IDENTITY.is_some())
}

/// Binds a program to its address and starts it in the background. It connects, and retries for as long as
/// the broker is unreachable. Must be called inside an actix system.
///
/// # Errors
/// [`Error::Identity`], [`Error::Listen`].
pub async fn build<P: Program>(config: Config<P::Options>) -> Result<Bound, Error> {
    let identity = config.identity.as_deref().map(identity::read_or_create).transpose()?;
    if let Some(identity) = &identity {
        let key = identity.verifying_key();
        tracing::info!(%key, "receipts verify under this key");
    }
    let registry = Registry::new();
    let metrics = Metrics::new(P::NAME, &registry)?;
    let state = watch::Sender::new(State::Starting("starting".into()));
    let listen = config.http.listen;
    let (address, server, serving) = health::serve(listen, state.subscribe(), registry)
        .map_err(|source| Error::Listen { address: listen, source })?;
    spawn_local(serving);
    let (stop, stopped) = watch::channel(false);
    let life = Life { config, identity, metrics, state, stopped };
    let life = spawn_local(life.live::<P>());
    tracing::info!(program = P::NAME, version = env!("CARGO_PKG_VERSION"), %address, "listening");
    Ok(Bound { address, server, stop: Stopper(Arc::new(stop)), life })
}

/// A running program.
pub struct Bound {
    address: SocketAddr,
    server: ServerHandle,
    stop: Stopper,
    life: JoinHandle<Result<(), Error>>,
}

impl Bound {
    /// Where it serves health and metrics.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a handle that stops the program.
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Service`] if it could not start.
    pub async fn ended(self) -> Result<(), Error> {
        let ended = self.life.await.unwrap_or(Err(Error::Died));
        self.server.stop(true).await;
        ended
    }
}

/// Stops a program: it is no longer ready, accepts no more work, and finishes or returns the work in hand.
#[derive(Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Begins the shutdown.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Whether retrying is useless. Errors of the broker may pass: it may be starting too.
fn hopeless(error: &MeshError) -> bool {
    matches!(error, MeshError::QueueMismatch { .. } | MeshError::Malformed { .. })
}

/// The stages of a program from connecting to draining.
struct Life<O> {
    config: Config<O>,
    identity: Option<SigningKey>,
    metrics: Metrics,
    state: watch::Sender<State>,
    stopped: watch::Receiver<bool>,
}

impl<O: Clone> Life<O> {
    async fn live<P: Program<Options = O>>(mut self) -> Result<(), Error> {
        let mut stopped = self.stopped.clone();
        let (bus, service) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            started = self.start::<P>() => started?,
        };
        tracing::info!("ready");
        self.state.send_replace(State::Serving(bus.clone()));
        // A closed channel counts as a stop: its sender is gone.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
        tracing::info!(seconds = self.config.drain.as_secs_f64(), "draining");
        self.state.send_replace(State::Draining);
        P::stop(service, self.config.drain).await;
        bus.close().await;
        tracing::info!("drained");
        Ok(())
    }

    /// Connects and starts the service, retrying until it succeeds.
    async fn start<P: Program<Options = O>>(&self) -> Result<(NatsBus, P::Handle), Error> {
        loop {
            let error = match self.connect::<P>().await {
                Ok(bus) => match self.serve::<P>(&bus).await {
                    Ok(handle) => return Ok((bus, handle)),
                    Err(error) => {
                        bus.close().await;
                        error
                    }
                },
                Err(error) => error,
            };
            if hopeless(&error) {
                return Err(Error::Service(Box::new(error)));
            }
            let url = &self.config.nats.url;
            tracing::warn!(url, %error, "not started yet; retrying in {} s", RETRY.as_secs());
            self.state.send_replace(State::Starting(error.to_string()));
            sleep(RETRY).await;
        }
    }

    async fn connect<P: Program>(&self) -> Result<NatsBus, MeshError> {
        let nats = &self.config.nats;
        NatsBus::connect(NatsOptions {
            url: nats.url.clone(),
            name: nats.name.clone().unwrap_or_else(|| P::COMMAND.into()),
            replicas: nats.replicas,
            request_timeout: nats.request_timeout,
            publish_patience: nats.publish_patience,
            inbox: Some(nats.inbox.clone().unwrap_or_else(|| inbox("service", P::NAME))),
            ..NatsOptions::default()
        })
        .await
    }

    async fn serve<P: Program<Options = O>>(&self, bus: &NatsBus) -> Result<P::Handle, MeshError> {
        let environment = Environment {
            bus: Arc::new(bus.clone()),
            clock: Arc::new(SystemClock),
            metrics: self.metrics.clone(),
        };
        P::start(self.config.service.clone(), environment, self.identity.clone()).await
    }
}
