//! The issuer over HTTPS.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hermesh_mesh::{Clock, identity::Chain, issuer::Issuer};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    http::{Caller, Endpoints},
    tls,
};

/// The maximum number of simultaneous connections; more wait.
const CONNECTIONS: usize = 256;
/// How long the TLS handshake may take: a silent client must not occupy a connection for long.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// How long a connection may last, from the handshake to the end of the response.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 32;
/// The maximum size of these headers, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// How long to wait after a failed accept, for example when file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The server's options.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Host names and addresses in the server's certificate, for clients that check them. hermesh's own
    /// workloads check the issuer's SPIFFE ID only.
    pub hosts: Vec<String>,
}

/// An issuer that listens.
pub struct Bound {
    address: SocketAddr,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    endpoints: Arc<Endpoints>,
}

/// Listens.
///
/// # Errors
/// The address cannot be bound, or the issuer cannot make its own certificate.
pub async fn bind(
    issuer: Arc<Issuer>,
    options: Options,
    clock: Arc<dyn Clock>,
) -> io::Result<Bound> {
    let config = tls::server(issuer.clone(), options.hosts, clock.clone());
    let acceptor = TlsAcceptor::from(Arc::new(config.map_err(io::Error::other)?));
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    Ok(Bound { address, listener, acceptor, endpoints: Arc::new(Endpoints::new(issuer, clock)) })
}

impl Bound {
    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes, then finishes the open connections.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                // Cannot fail: the semaphore is never closed.
                let place = room.clone().acquire_owned().await.ok();
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                () = &mut stop => break,
                accepted = accepted => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, address)) => {
                    let (acceptor, endpoints) = (self.acceptor.clone(), self.endpoints.clone());
                    connections.spawn(async move {
                        let _place = place;
                        let served = serve(stream, address, acceptor, endpoints);
                        match timeout(PATIENCE, served).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => {
                                tracing::debug!(%error, %address, "a connection broke")
                            }
                            Err(_) => tracing::debug!(%address, "a connection took too long"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take connections");
                    sleep(PAUSE).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    endpoints: Arc<Endpoints>,
) -> io::Result<()> {
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let chain = stream.get_ref().1.peer_certificates().map(|certificates| {
        Chain::new(certificates.iter().map(|each| each.clone().into_owned()).collect())
    });
    let chain = chain.transpose().map_err(io::Error::other)?;
    let caller = Caller { address: address.ip(), chain };
    let service = service_fn(move |request: Request<Incoming>| {
        let (endpoints, caller) = (endpoints.clone(), caller.clone());
        async move { Ok::<_, Infallible>(endpoints.answer(request, caller).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
