//! Health and metrics over HTTP.
//!
//! | request | response |
//! |---|---|
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 while it accepts work, else 503 and the reason |
//! | `GET /metrics` | the metrics, for Prometheus |

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::{Server, ServerHandle},
    http::header::ContentType,
    web,
};
use hermesh_mesh::bus::nats::NatsBus;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::sync::watch;

/// How long a client may take to send the head of a request, or to disconnect.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an idle connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Enough for probes and one or two scrapers; further connections wait.
const MAX_CONNECTIONS: usize = 64;
/// How long to wait for requests in hand during shutdown.
const DRAIN_SECONDS: u64 = 1;

/// The state of a program.
#[derive(Clone)]
pub(crate) enum State {
    /// It does not accept work yet, for this reason.
    Starting(String),
    /// It accepts work from this bus.
    Serving(NatsBus),
    /// It accepts no more work.
    Draining,
}

impl State {
    fn not_ready(&self) -> Option<String> {
        match self {
            Self::Starting(reason) => Some(reason.clone()),
            Self::Serving(bus) => {
                (!bus.connected()).then(|| "NATS is unreachable; reconnecting".into())
            }
            Self::Draining => Some("draining: no more work is taken".into()),
        }
    }
}

/// Serves health and metrics. The server runs while it is polled.
pub(crate) fn serve(
    listen: SocketAddr,
    state: watch::Receiver<State>,
    registry: Registry,
) -> io::Result<(SocketAddr, ServerHandle, Server)> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let (state, registry) = (web::Data::new(state), web::Data::new(registry));
    let app = move || {
        App::new()
            .app_data(state.clone())
            .app_data(registry.clone())
            .route("/healthz", web::get().to(async || HttpResponse::Ok().body("alive\n")))
            .route("/readyz", web::get().to(ready))
            .route("/metrics", web::get().to(metrics))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(PATIENCE)
        .client_disconnect_timeout(PATIENCE)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(DRAIN_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok((address, server.handle(), server))
}

async fn ready(state: web::Data<watch::Receiver<State>>) -> HttpResponse {
    let not_ready = state.borrow().not_ready();
    match not_ready {
        None => HttpResponse::Ok().body("ready\n"),
        Some(reason) => HttpResponse::ServiceUnavailable().body(format!("not ready: {reason}\n")),
    }
}

async fn metrics(registry: web::Data<Registry>) -> HttpResponse {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => HttpResponse::Ok().insert_header(("content-type", TEXT_FORMAT)).body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            HttpResponse::InternalServerError().content_type(ContentType::plaintext()).finish()
        }
    }
}
