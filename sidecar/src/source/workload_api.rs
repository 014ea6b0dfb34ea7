//! Certificates from a SPIFFE Workload API, such as SPIRE's, which pushes them.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use hermesh_mesh::{
    Clock, UnixMillis,
    identity::{CertificateError, Chain, Credentials},
    issuer::files,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::time::timeout;

use super::{Identity, SourceError, backoff::Backoff, keep::Kind};

/// How long the Workload API may take to accept a call.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Workload API. Of several identities for this workload, the first is used.
#[derive(Debug, Clone)]
pub struct WorkloadApi {
    /// Its address, for example `unix:/run/spire/agent.sock`.
    pub socket: String,
}

type Contexts = Pin<Box<dyn Stream<Item = Result<X509Context, WorkloadApiError>> + Send>>;

pub(super) struct Streamed {
    options: WorkloadApi,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    contexts: Option<Contexts>,
}

impl Streamed {
    pub(super) fn new(options: WorkloadApi, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, backoff: Backoff::default(), contexts: None }
    }

    async fn context(&mut self) -> Result<X509Context, SourceError> {
        let contexts = match &mut self.contexts {
            Some(contexts) => contexts,
            none => {
                self.backoff.wait().await;
                none.insert(self.options.call().await?)
            }
        };
        match contexts.next().await {
            Some(Ok(context)) => Ok(context),
            Some(Err(error)) => Err(self.options.told(error)),
            None => Err(self.options.told("it ended the stream, expected it to stay open")),
        }
    }
}

impl WorkloadApi {
    async fn call(&self) -> Result<Contexts, SourceError> {
        let connected = timeout(PATIENCE, WorkloadApiClient::connect_to(&self.socket)).await;
        let connected = connected.map_err(|_| self.told("no answer within 10 s"))?;
        let client = connected.map_err(|error| self.told(error))?;
        let contexts = client.stream_x509_contexts().await.map_err(|error| self.told(error))?;
        Ok(Box::pin(contexts))
    }

    fn told(&self, told: impl ToString) -> SourceError {
        SourceError::WorkloadApi { socket: self.socket.clone(), told: told.to_string() }
    }

    fn identity(&self, context: &X509Context, now: UnixMillis) -> Result<Identity, SourceError> {
        let svid = context.default_svid().ok_or_else(|| self.told("no certificate"))?;
        let domain = svid.spiffe_id().trust_domain();
        let bundle = context.bundle_set().get(domain);
        let bundle = bundle.ok_or_else(|| self.told(format!("no roots of {domain}")))?;
        let roots: Vec<CertificateDer<'_>> =
            bundle.authorities().iter().map(|root| root.as_bytes().into()).collect();
        let chain: Vec<CertificateDer<'static>> =
            svid.cert_chain().iter().map(|der| der.as_bytes().to_vec().into()).collect();
        let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
        let make = || {
            let credentials = Credentials::new(Chain::new(chain)?, PrivateKeyDer::Pkcs8(key))?;
            Identity::new(credentials, files::to_pem(&roots).as_bytes(), now)
        };
        make().map_err(|error: CertificateError| self.told(error))
    }
}

impl Kind for Streamed {
    async fn next(&mut self, _: Option<&Identity>) -> Result<Identity, SourceError> {
        match self.context().await {
            Ok(context) => {
                self.backoff.reset();
                self.options.identity(&context, self.clock.now())
            }
            Err(error) => {
                self.contexts = None;
                self.backoff.failed();
                Err(error)
            }
        }
    }
}
