//! Asks an issuer for a certificate.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use hermesh_mesh::{
    Clock,
    identity::{Credentials, Trust},
    issuer::Token,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Body, CERTIFICATE, MAX_BODY, Secret, tls};

/// How long a request may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum length of a refusal's text that is reported.
const MAX_TOLD: usize = 500;

/// A request for a certificate.
#[derive(Debug)]
pub struct Ask {
    /// Roots and trust domain that identify the issuer.
    pub trust: Trust,
    /// The credentials to be renewed.
    pub credentials: Option<Credentials>,
    /// The signing request, in PEM.
    pub csr: String,
    /// The join token.
    pub token: Option<Token>,
}

/// A certificate and what comes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The chain, leaf first, in PEM.
    pub certificate: String,
    /// The roots, in PEM.
    pub roots: String,
    /// When the certificate expires, in milliseconds since 1970.
    pub expires: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The issuer cannot be reached, or the server is not the issuer.
    #[error("the issuer at {address}: {source}")]
    Connect {
        /// The address that was tried.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// The issuer takes too long.
    #[error("the issuer at {0} did not answer within 10 s")]
    Slow(String),
    /// The response is not HTTP, or too large.
    #[error("no valid response from the issuer at {address}: {told}")]
    Broken {
        /// The issuer's address.
        address: String,
        /// What went wrong.
        told: String,
    },
    /// The issuer refuses.
    #[error("the issuer at {address} refused ({status}): {told}")]
    Refused {
        /// The issuer's address.
        address: String,
        /// The status of HTTP.
        status: u16,
        /// The issuer's reason.
        told: String,
    },
}

/// Certifies keys.
pub trait CertificateAuthority: Send + Sync + 'static {
    /// Asks for a certificate.
    fn certificate(&self, ask: Ask) -> impl Future<Output = Result<Answer, ClientError>> + Send;
}

/// An issuer reached over the network.
pub struct Client {
    address: String,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// The issuer at `HOST:PORT`.
    pub fn new(address: String, clock: Arc<dyn Clock>) -> Self {
        Self { address, clock }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, ClientError> {
        let connect = |source| ClientError::Connect { address: self.address.clone(), source };
        let config = tls::client(ask.trust, ask.credentials.as_ref(), self.clock.clone());
        let config = config.map_err(|error| connect(io::Error::other(error)))?;
        let stream = TcpStream::connect(&self.address).await.map_err(connect)?;
        // TLS needs a name, but the issuer is recognised by its SPIFFE ID only.
        let name =
            ServerName::try_from("issuer").map_err(|error| connect(io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = TokioIo::new(stream.map_err(connect)?);
        let token = ask.token.map(|token| Secret(token.reveal()));
        // A copy of the token stays in the body, in memory; the token is used up by then.
        let body = serde_json::to_vec(&Body { csr: ask.csr, token });
        let request = Request::builder()
            .method(Method::POST)
            .uri(CERTIFICATE)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map_err(|error| self.broken(error))?)))
            .map_err(|error| self.broken(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| self.broken(error))?;
        let mut task = JoinSet::new();
        task.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| self.broken(error))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.broken(error));
        }
        let told = String::from_utf8_lossy(&body);
        let told = told.chars().filter(|character| !character.is_control()).take(MAX_TOLD);
        let (address, status) = (self.address.clone(), status.as_u16());
        Err(ClientError::Refused { address, status, told: told.collect() })
    }

    fn broken(&self, told: impl ToString) -> ClientError {
        ClientError::Broken { address: self.address.clone(), told: told.to_string() }
    }
}

impl CertificateAuthority for Client {
    async fn certificate(&self, ask: Ask) -> Result<Answer, ClientError> {
        let asked = timeout(PATIENCE, self.ask(ask)).await;
        asked.unwrap_or_else(|_| Err(ClientError::Slow(self.address.clone())))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}
