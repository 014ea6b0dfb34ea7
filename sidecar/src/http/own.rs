//! The sidecar's own health and metrics.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use super::plain;

/// Whether the sidecar accepts messages; if not, the reason.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The sidecar's health and metrics.
#[derive(Clone)]
pub struct Own {
    /// Its metrics.
    pub registry: Registry,
    /// Whether it is ready.
    pub ready: Ready,
}

impl Own {
    /// Whether a path is one of the sidecar's own.
    pub(super) fn has(path: &str) -> bool {
        path.strip_prefix("/sidecar").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(super) fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/sidecar/healthz" => plain(StatusCode::OK, "alive\n"),
            "/sidecar/readyz" => match (self.ready)() {
                Ok(()) => plain(StatusCode::OK, "ready\n"),
                Err(reason) => {
                    plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
                }
            },
            "/sidecar/metrics" => self.metrics(),
            _ => plain(StatusCode::NOT_FOUND, "expected healthz, readyz or metrics in /sidecar/\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => {
                let mut response = plain(StatusCode::OK, text);
                let format = HeaderValue::from_static(TEXT_FORMAT);
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(error) => {
                tracing::error!(%error, "the metrics could not be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n")
            }
        }
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}
