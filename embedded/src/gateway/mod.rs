//! The mesh for other programs on the same machine, over HTTP on a loopback address.
//!
//! It adds nothing to the protocol: HTTP headers are a message's headers, the HTTP body is its body,
//! tenants sign as on any bus and the services check as on any bus. Only what a tenant may send has a
//! path.
//!
//! | request | does |
//! |---|---|
//! | `PUT /v1/uploads` | puts the body into the uploads bucket; answers with its digest |
//! | `POST /v1/requests` | asks key management, and answers with its reply |
//! | `POST /v1/jobs` | publishes a job; 202 once it is admitted, or its refusal |
//! | `GET /v1/jobs/{tenant}/{job}` | waits: 200 with the outcome, or 202 with the progress, if any |
//! | `GET /healthz` | answers with the key that signs receipts |
//! | `GET /metrics` | the services' metrics, for Prometheus |

mod convert;
mod guard;
mod refusal;
mod routes;
mod staging;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    middleware::from_fn,
    rt::System,
    web::{Data, ServiceConfig},
};
use hermesh_mesh::telemetry::Metrics;
use tokio::sync::Semaphore;

use self::{routes::State, staging::Staging};
use crate::{Embedded, Error};

pub use convert::message_from_http;

/// Threads that serve HTTP; they copy and hash bodies, the services compute elsewhere.
const WORKERS: usize = 2;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests in hand are waited for at the end; a long poll is cut off.
const DRAIN_SECONDS: u64 = 1;
/// The unit in which room for bodies is counted.
const ROOM_UNIT: usize = 1024;

/// Bounds of a [`Gateway`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; a loopback address, port 0 for any free one.
    pub listen: SocketAddr,
    /// The largest evaluation key or model, in bytes.
    pub max_upload_bytes: usize,
    /// The largest encrypted input, in bytes.
    pub max_input_bytes: usize,
    /// The most bytes of bodies being received at the same time; further ones wait.
    pub max_receiving_bytes: usize,
    /// The most bytes of uploads that no request has asked to check yet; beyond it the oldest go.
    pub max_unclaimed_bytes: usize,
    /// The most connections.
    pub max_connections: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long the outcome of a job is waited for before a request for it is answered without.
    pub poll: Duration,
    /// Whether SIGINT and SIGTERM end the gateway.
    pub signals: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            max_upload_bytes: 256 << 20,
            max_input_bytes: 16 << 20,
            max_receiving_bytes: 512 << 20,
            max_unclaimed_bytes: 512 << 20,
            max_connections: 256,
            body_timeout: Duration::from_secs(60),
            poll: Duration::from_secs(30),
            signals: false,
        }
    }
}

/// A running gateway. Dropping it stops it.
pub struct Gateway {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Gateway {
    /// Opens the mesh to programs on this machine.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], or [`Error::Listen`] if the port is taken.
    pub fn start(mesh: &Embedded, options: &Options) -> Result<Self, Error> {
        let address = options.listen;
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let listen_error = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let state = Data::new(State {
            bus: Arc::new(mesh.bus().clone()),
            registry: mesh.registry().clone(),
            metrics: Metrics::new("gateway", mesh.registry())?,
            service: mesh.identity(),
            room: Semaphore::new(
                options.max_receiving_bytes.max(options.max_upload_bytes).div_ceil(ROOM_UNIT),
            ),
            staging: Staging::new(options.max_unclaimed_bytes),
            max_upload_bytes: options.max_upload_bytes,
            max_input_bytes: options.max_input_bytes,
            body_timeout: options.body_timeout,
            poll: options.poll,
        });
        let connections = options.max_connections.div_ceil(WORKERS);
        let signals = options.signals;
        let (ready, is_ready) = mpsc::channel();
        let serve = move || {
            System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let configure = |config: &mut ServiceConfig| routes::configure(config, &state);
                    App::new().wrap(from_fn(guard::check)).configure(configure)
                })
                .workers(WORKERS)
                .max_connections(connections)
                .client_request_timeout(HEAD_TIMEOUT)
                .keep_alive(KEEP_ALIVE)
                .shutdown_timeout(DRAIN_SECONDS)
                .listen(listener)?;
                let server = if signals { server } else { server.disable_signals() }.run();
                // If nobody waits any more, the handle is gone and the server ends by itself.
                let _ = ready.send(server.handle());
                server.await
            })
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        let handle = is_ready.recv().map_err(|_| Error::Died)?;
        Ok(Self { address, handle, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a signal ends it.
    ///
    /// # Errors
    /// [`Error::Listen`] if connections could not be accepted any more.
    pub fn wait(mut self) -> Result<(), Error> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => {
                ended.map_err(|source| Error::Listen { address: self.address, source })
            }
            Some(Err(_)) => Err(Error::Died),
            None => Ok(()),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The command is sent by the call; its future only reports the end, as the thread does.
            drop(self.handle.stop(true));
            let _ = thread.join();
        }
    }
}
