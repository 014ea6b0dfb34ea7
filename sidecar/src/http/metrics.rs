//! Counters for requests of other workloads.

use hyper::StatusCode;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The counters of a [`Gateway`](super::Gateway). Labels are status codes and a fixed list of reasons.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refused: IntCounterVec,
    connections: IntGauge,
}

impl Metrics {
    /// Makes and registers the counters.
    ///
    /// # Errors
    /// The registry already has metrics with these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new("hermesh_sidecar_http_requests_total", "Requests answered.");
        let refused = Opts::new(
            "hermesh_sidecar_http_connections_refused_total",
            "Connections that were refused or cut, by reason.",
        );
        let connections =
            IntGauge::new("hermesh_sidecar_http_connections", "Connections after TLS began.")?;
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["code"])?,
            refused: IntCounterVec::new(refused, &["reason"])?,
            connections,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.requests.with_label_values(&[status.as_str()]).inc();
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }
}

/// Counts a connection for as long as it exists.
pub(super) struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
