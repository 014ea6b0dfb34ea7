//! Health and metrics over HTTP/1.1.
//!
//! Other workloads reach the service's and the sidecar's own through a [`Gateway`], over mutual TLS, if the
//! policy allows it. Probes on this machine reach the sidecar's own without TLS; see [`serve_local`].
//!
//! | request | response |
//! |---|---|
//! | `GET /sidecar/healthz` | 200 while the sidecar runs |
//! | `GET /sidecar/readyz` | 200 while it accepts messages, else 503 and the reason |
//! | `GET /sidecar/metrics` | the sidecar's metrics, for Prometheus |
//! | other `GET`s | the service's response; 502 if it is unreachable, 504 if it takes too long |
//!
//! The header `Hermesh-Identity` names the caller to the service. The sidecar writes each request anew,
//! with few of the client's headers and without a body. So a client cannot forge that header, and cannot
//! smuggle in a second request.

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

/// The header that names the caller to the service.
pub const IDENTITY: &str = "hermesh-identity";

/// Limits on connections and times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of simultaneous connections; further ones wait.
    pub connections: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, or the pause before the next one.
    pub head: Duration,
    /// How long a connection may live; it is then closed after the current request.
    pub life: Duration,
    /// How long that last request may take.
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
/// [`io::ErrorKind::InvalidInput`] if the listener is not on loopback: callers are not authenticated here.
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

/// The body of a response: the sidecar's own, or the service's.
type Body = Either<Full<Bytes>, forward::Answer>;

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The refusal of a request whose form is not supported, from any caller.
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

/// Closes the connection after this response, because the remaining bytes may be a request body.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether the path is so simple that policy and service must read it alike.
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
