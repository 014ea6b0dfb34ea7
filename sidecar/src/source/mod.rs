//! Where a workload's certificate comes from, and how it stays valid.
//!
//! Each source is a task that publishes the newest identity that is consistent and valid. What is not is
//! told and counted, and changes nothing: the one before stays.

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

/// A workload's certificate and key, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its own.
    pub credentials: Credentials,
    /// The roots of its trust domain.
    pub trust: Trust,
}

impl Identity {
    /// From a chain, its key and the roots, in PEM. The chain is valid now under these roots, for a
    /// workload that connects.
    ///
    /// # Errors
    /// It is not, or they do not belong together.
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

    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        self.credentials.id()
    }

    /// Until when it is valid.
    pub fn expires(&self) -> UnixMillis {
        self.credentials.peer().not_after
    }

    /// Whether nothing differs that anybody sees.
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
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate, key and roots do not make an identity.
    #[error("{from}: {source}")]
    Certificate {
        /// Where they are from.
        from: String,
        /// Why not.
        source: CertificateError,
    },
    /// They are another workload's.
    #[error("the new certificate is that of {got}; expected {expected}, which does not change")]
    Changed {
        /// Theirs.
        got: SpiffeId,
        /// Ours.
        expected: SpiffeId,
    },
    /// There is nothing to enrol with.
    #[error("no valid certificate, and no join token to get one: set the token's file")]
    NoToken,
    /// The token's file holds something else.
    #[error("{}: {source}", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TokenError,
    },
    /// The issuer is away or refuses.
    #[error(transparent)]
    Issuer(#[from] ClientError),
    /// The Workload API is away or refuses.
    #[cfg(feature = "workload-api")]
    #[error("the Workload API at {socket}: {told}")]
    WorkloadApi {
        /// Where it is.
        socket: String,
        /// What is wrong.
        told: String,
    },
}

/// Where a certificate comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files that somebody else keeps fresh.
    Files(Files),
    /// The issuer of hermesh.
    Issuer(Enrolment),
    /// A SPIFFE Workload API.
    #[cfg(feature = "workload-api")]
    WorkloadApi(WorkloadApi),
}

impl Source {
    /// Waits for the first identity, for as long as it takes, and keeps it fresh from then on for as
    /// long as a handle is there.
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

/// As [`Source::start`] of an enrolment, with another way to its issuer.
pub async fn start_enrolment(
    enrolment: Enrolment,
    authority: impl CertificateAuthority,
    clock: Arc<dyn Clock>,
) -> Handle {
    keep::keep(enrolment::Enrolled::new(enrolment, authority, clock)).await
}

/// How a source fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Until when the current certificate is valid.
    pub expires: UnixMillis,
    /// How often a new identity was taken.
    pub taken: u64,
    /// How often there was none to take though there should have been.
    pub failures: u64,
    /// Why, since the last time that all was well.
    pub error: Option<String>,
}

/// The current identity. Cheap to clone; the source ends with its last handle.
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

    /// How the source fares.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// How it fares, and changes of that.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("health", &*self.health.borrow()).finish_non_exhaustive()
    }
}
