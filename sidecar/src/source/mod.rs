//! Where a workload's certificate comes from, and how it is renewed.
//!
//! Each source is a task that publishes the newest identity that is consistent and valid. An invalid one is
//! logged and counted, and the present one stays.

mod backoff;
mod enrolment;
mod files;
mod keep;
#[cfg(feature = "workload-api")]
mod workload_api;

use std::{fmt, io, path::PathBuf, sync::Arc};

use hermesh_mesh::{
    Clock, UnixMillis,
    identity::{CertificateError, Chain, Credentials, Purpose, SpiffeId, Trust},
    issuer::TokenError,
};
use tokio::{sync::watch, task::JoinSet};

use crate::issuer::{CertificateAuthority, Client, ClientError};

pub use enrolment::Enrolment;
pub use files::Files;
#[cfg(feature = "workload-api")]
pub use workload_api::WorkloadApi;

/// A workload's certificate and key, and the roots that it trusts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The workload's certificate and key.
    pub credentials: Credentials,
    /// The roots of its trust domain.
    pub trust: Trust,
}

impl Identity {
    /// Reads a chain, its key and the roots, in PEM. The chain must be valid now under these roots, for a
    /// client.
    ///
    /// # Errors
    /// The chain is invalid, or the parts do not belong together.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        roots: &[u8],
        now: UnixMillis,
    ) -> Result<Self, CertificateError> {
        Self::new(Credentials::from_pem(chain, key)?, roots, now)
    }

    fn new(
        credentials: Credentials,
        roots: &[u8],
        now: UnixMillis,
    ) -> Result<Self, CertificateError> {
        let trust = Trust::from_pem(credentials.id().trust_domain(), roots)?;
        trust.verify(credentials.chain(), Purpose::Client, now)?;
        Ok(Self { credentials, trust })
    }

    /// The workload.
    pub fn id(&self) -> &SpiffeId {
        self.credentials.id()
    }

    /// When the certificate expires.
    pub fn expires(&self) -> UnixMillis {
        self.credentials.peer().not_after
    }

    /// Whether both identities are the same to every peer.
    fn is(&self, other: &Self) -> bool {
        let (mine, theirs): (&Chain, &Chain) =
            (self.credentials.chain(), other.credentials.chain());
        mine == theirs && self.trust.roots() == other.trust.roots()
    }
}

/// Why there is no new identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Certificate, key and roots do not make an identity.
    #[error("{from}: {source}")]
    Certificate {
        /// Where they come from.
        from: String,
        /// The reason.
        source: CertificateError,
    },
    /// The new certificate belongs to another workload.
    #[error("the new certificate is that of {got}; expected {expected}, which does not change")]
    Changed {
        /// The workload of the new certificate.
        got: SpiffeId,
        /// Our workload.
        expected: SpiffeId,
    },
    /// There is neither a certificate nor a token.
    #[error("no valid certificate, and no join token to get one: set the token's file")]
    NoToken,
    /// The token's file does not hold a token.
    #[error("{}: {source}", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: TokenError,
    },
    /// The issuer is unreachable or refuses.
    #[error(transparent)]
    Issuer(#[from] ClientError),
    /// The Workload API is unreachable or refuses.
    #[cfg(feature = "workload-api")]
    #[error("the Workload API at {socket}: {told}")]
    WorkloadApi {
        /// Its address.
        socket: String,
        /// What went wrong.
        told: String,
    },
}

/// Where a certificate comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files that another program keeps up to date.
    Files(Files),
    /// The issuer of hermesh.
    Issuer(Enrolment),
    /// A SPIFFE Workload API.
    #[cfg(feature = "workload-api")]
    WorkloadApi(WorkloadApi),
}

impl Source {
    /// Waits for the first identity, without a time limit, then keeps it up to date for as long as a handle
    /// exists.
    pub async fn start(self, clock: Arc<dyn Clock>) -> Handle {
        match self {
            Self::Files(files) => keep::keep(files::Polled::new(files, clock)).await,
            Self::Issuer(enrolment) => {
                let client = Client::new(enrolment.address.clone(), clock.clone());
                start_enrolment(enrolment, client, clock).await
            }
            #[cfg(feature = "workload-api")]
            Self::WorkloadApi(options) => {
                keep::keep(workload_api::Streamed::new(options, clock)).await
            }
        }
    }
}

/// Like [`Source::start`] for an enrolment, with another client for the issuer.
pub async fn start_enrolment(
    enrolment: Enrolment,
    authority: impl CertificateAuthority,
    clock: Arc<dyn Clock>,
) -> Handle {
    keep::keep(enrolment::Enrolled::new(enrolment, authority, clock)).await
}

/// The state of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// When the current certificate expires.
    pub expires: UnixMillis,
    /// How many new identities were accepted.
    pub taken: u64,
    /// How often a new identity was due and could not be had.
    pub failures: u64,
    /// The last error, if there was no success since.
    pub error: Option<String>,
}

/// The current identity. Cheap to clone; the source stops when its last handle is dropped.
#[derive(Clone)]
pub struct Handle {
    identity: watch::Receiver<Arc<Identity>>,
    health: watch::Receiver<Health>,
    _task: Arc<JoinSet<()>>,
}

impl Handle {
    /// The identity as it is now.
    pub fn current(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }

    /// The identity and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.identity.clone()
    }

    /// The state of the source.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// The state of the source and its changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("health", &*self.health.borrow()).finish_non_exhaustive()
    }
}
