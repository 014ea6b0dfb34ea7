//! Lets other workloads reach the service's health and metrics.

use std::{net::SocketAddr, sync::Arc};

use hermesh_mesh::{Clock, identity::Peer};
use http_body_util::Either;
use hyper::{Request, Response, StatusCode, body::Incoming};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Body, Limits, Metrics, Own, Service, connection, plain, refusal};
use crate::tls;

/// Makes the TLS configuration of a connection, with the newest certificate; see [`tls::server`].
pub type Tls = Box<dyn Fn() -> Result<Arc<ServerConfig>, rustls::Error> + Send + Sync>;

/// The policy's decisions about requests, at one moment.
pub trait Access: Send + Sync + 'static {
    /// Whether `peer` may GET `path`.
    fn allowed(&self, peer: &Peer, path: &str) -> bool;

    /// Whether `peer` was revoked.
    fn revoked(&self, peer: &Peer) -> bool;
}

/// Forwards permitted requests of other workloads to the service.
pub struct Gateway<A> {
    /// Makes the TLS configuration of each connection.
    pub tls: Tls,
    /// The policy and its changes.
    pub access: watch::Receiver<Arc<A>>,
    /// The service to which requests are forwarded.
    pub service: Service,
    /// The sidecar's own health and metrics.
    pub own: Own,
    /// Counters.
    pub metrics: Metrics,
    /// The clock that tells when certificates expire.
    pub clock: Arc<dyn Clock>,
    /// Limits on connections and times.
    pub limits: Limits,
}

impl<A: Access> Gateway<A> {
    /// Serves until `stop` holds or its sender is gone, then finishes the requests in hand.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let connections = self.limits.connections;
        let gateway = Arc::new(self);
        let serve = |stream, from| gateway.clone().meet(stream, from, stop.clone());
        connection::accept(listener, connections, stop.clone(), serve).await;
    }

    async fn meet(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        stop: watch::Receiver<bool>,
    ) {
        let (stream, peer) = match self.handshake(stream).await {
            Ok(met) => met,
            Err(reason) => {
                self.metrics.refused("handshake");
                // Debug level: anyone who can reach the port can cause any number of these.
                tracing::debug!(%from, reason, "connection refused");
                return;
            }
        };
        let _connected = self.metrics.connected();
        let answer = |request| self.answer(&peer, request);
        let cut = self.cut(&peer);
        connection::serve(stream, answer, self.limits, stop, cut).await;
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Peer), String> {
        let tls = (self.tls)().map_err(|error| error.to_string())?;
        let accepted = timeout(self.limits.handshake, TlsAcceptor::from(tls).accept(stream)).await;
        let accepted = accepted.map_err(|_| "TLS did not begin in time".to_owned())?;
        let stream = accepted.map_err(|error| match tls::refused(&error) {
            Some(refused) => refused.to_string(),
            None => error.to_string(),
        })?;
        let peer = tls::peer(stream.get_ref().1).map_err(|error| error.to_string())?;
        Ok((stream, peer))
    }

    /// Completes when the peer must be cut off: its certificate expired or was revoked.
    async fn cut(&self, peer: &Peer) {
        let mut access = self.access.clone();
        let revoked = async {
            if access.wait_for(|access| access.revoked(peer)).await.is_err() {
                // The sender is gone, so the policy will not change again.
                std::future::pending::<()>().await;
            }
        };
        let reason = tokio::select! {
            () = revoked => "revoked",
            () = sleep(self.clock.now().until(peer.not_after)) => "expired",
        };
        self.metrics.refused(reason);
        tracing::info!(identity = %peer.id, reason, "connection cut");
    }

    async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        let response = match refusal(&request) {
            Some(refusal) => refusal,
            None => self.permitted(peer, &request).await,
        };
        self.metrics.answered(response.status());
        response
    }

    async fn permitted(&self, peer: &Peer, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let allowed = self.access.borrow().allowed(peer, path);
        if !allowed {
            tracing::info!(identity = %peer.id, path, "request denied");
            let told = format!("the policy does not let {} GET {path}\n", peer.id);
            return plain(StatusCode::FORBIDDEN, told).map(Either::Left);
        }
        if Own::has(path) {
            return self.own.answer(path).map(Either::Left);
        }
        match self.service.ask(&peer.id, request).await {
            Ok(response) => response.map(Either::Right),
            Err(away) => {
                tracing::warn!(path, %away, "request not passed on");
                plain(away.status(), format!("{away}\n")).map(Either::Left)
            }
        }
    }
}
