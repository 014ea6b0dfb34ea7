//! Health and metrics over HTTP/1.1.
//!
//! Others reach those of the service, and the sidecar's own, through a [`Gateway`]: over mutual TLS, if
//! the policy allows it. Probes on this machine reach the sidecar's own without, see [`serve_local`].
//!
//! | request | answers |
//! |---|---|
//! | `GET /sidecar/healthz` | 200 while the sidecar lives |
//! | `GET /sidecar/readyz` | 200 while it takes messages, else 503 and why not |
//! | `GET /sidecar/metrics` | the sidecar's metrics, for Prometheus |
//! | `GET` of anything else | what the service answers; 502 if it is away, 504 if it takes too long |
//!
//! The service learns who asks from `Hermesh-Identity`. It gets a request that the sidecar has written,
//! with few of the client's headers and no body, so that nothing of what the client wrote can be taken for
//! the sidecar's word, or for another request.

mod connection;
mod forward;
mod gateway;
mod metrics;
mod own;

use std::{io, time::Duration};

use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue},
};
use tokio::{net::TcpListener, sync::watch};

pub use forward::Service;
pub use gateway::{Access, Gateway, Tls};
pub use metrics::Metrics;
pub use own::{Own, Ready};

/// The header that tells the service who asks.
pub const IDENTITY: &str = "hermesh-identity";

/// How much, and how long, at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; further ones wait.
    pub connections: usize,
    /// How long TLS may take to begin.
    pub handshake: Duration,
    /// How long until the head of a request is there, or the next one.
    pub head: Duration,
    /// How long a connection may live; then it is ended after the request in hand.
    pub life: Duration,
    /// How long that one may take at the end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(15),
            life: Duration::from_secs(300),
            drain: Duration::from_secs(5),
        }
    }
}

/// Serves the sidecar's own health and metrics to this machine, until `stop` holds or its sender is gone.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if others could reach the listener, for nobody is authenticated here.
pub async fn serve_local(
    listener: TcpListener,
    own: Own,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let told = format!("{address}: expected a loopback address");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    }
    connection::accept(listener, limits.connections, stop.clone(), |stream, _| {
        let own = own.clone();
        let answer = move |request: Request<Incoming>| {
            let answer = match refusal(&request) {
                Some(refusal) => refusal,
                None => own.answer(request.uri().path()).map(Either::Left),
            };
            std::future::ready(answer)
        };
        let never = std::future::pending();
        connection::serve(stream, answer, limits, stop.clone(), never)
    })
    .await;
    Ok(())
}

/// The body of an answer: our own, or the service's.
type Body = Either<Full<Bytes>, forward::Answer>;

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The answer to a request of a form that nobody needs, whoever sends it.
fn refusal(request: &Request<Incoming>) -> Option<Response<Body>> {
    use hyper::{Method, body::Body as _, header::TRANSFER_ENCODING};
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let told = plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD\n");
        let mut response = told.map(Either::Left);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(closing(response));
    }
    if !request.body().is_end_stream() || request.headers().contains_key(TRANSFER_ENCODING) {
        let told = plain(StatusCode::BAD_REQUEST, "expected a request without a body\n");
        return Some(closing(told.map(Either::Left)));
    }
    if !is_plain(request.uri().path()) {
        let told = "expected a path of letters, digits, -, _ and ., written in one way only\n";
        return Some(plain(StatusCode::BAD_REQUEST, told).map(Either::Left));
    }
    None
}

/// Ends the connection: what else is in it may be a body.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether the policy and the service must understand the path in the same way.
fn is_plain(path: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(fits);
    path.len() <= 1024 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_path_is_written_in_one_way() {
        for path in ["/metrics", "/sidecar/healthz", "/a.b/c-d_e"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "*",
            "metrics",
            "/",
            "//metrics",
            "/metrics/",
            "/a//b",
            "/a/../metrics",
            "/./metrics",
            "/%6detrics",
            "/metrics%2f",
            "/metrics;a",
            "/a b",
            "/metrics\\",
            "/métrics",
        ] {
            assert!(!is_plain(path), "{path}");
        }
        assert!(!is_plain(&format!("/{}", "a".repeat(1024))));
    }
}
