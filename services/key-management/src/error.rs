//! Why a request is refused.

use std::time::Duration;

use hermesh_mesh::{Digest, Error as Mesh, TenantId, UnixMillis, wire::FailureCode};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name belongs to another signing key.
    #[error("tenant {0} is registered with another signing key; choose another name")]
    TenantTaken(TenantId),
    /// The operator's list lacks the name, or has it with another signing key.
    #[error(
        "tenant {0} with this signing key is not on this mesh's list; \
         ask its operator to add the name with your verifying key"
    )]
    NotListed(TenantId),
    /// The tenant is unknown.
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    /// The evaluation key is unknown.
    #[error("evaluation key {0} has not been uploaded by this tenant; upload it first")]
    UnknownKey(Digest),
    /// The evaluation key was revoked, which is final.
    #[error("evaluation key {0} has been revoked; make a new one")]
    KeyRevoked(Digest),
    /// The evaluation key was replaced, and its overlap has ended.
    #[error(
        "evaluation key {key} has been replaced by {successor}; use that one, or make a new one"
    )]
    KeyRetired {
        /// The key.
        key: Digest,
        /// The key that replaced it.
        successor: Digest,
    },
    /// A key cannot replace itself.
    #[error("evaluation key {0} cannot replace itself; name the older key")]
    ReplacesItself(Digest),
    /// A key can only replace one for the same parameter set.
    #[error("the new key is for {new}, the one it replaces for {old}; upload it without replacing")]
    ParameterMismatch {
        /// Parameter set of the new key.
        new: String,
        /// Parameter set of the old one.
        old: String,
    },
    /// A limit is reached.
    #[error("the limit of {limit} {what} is reached; {advice}")]
    NoRoom {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What to do.
        advice: &'static str,
        /// When there will be room, if known.
        retry_after: Option<Duration>,
    },
    /// Parts of the upload are missing.
    #[error("the upload of {0} is not complete; send the parts that are missing, then ask again")]
    Incomplete(Digest),
    /// The uploaded bytes do not match the digest.
    #[error("the upload of {0} was damaged and has been deleted; send it again")]
    Damaged(Digest),
    /// The inspection rejected the bytes.
    #[error("{0}")]
    Rejected(String),
    /// The request's date is too far from now: a replay, or a wrong clock.
    #[error(
        "the request is dated {at}, here it is {now} (milliseconds since 1970); \
         check this machine's clock, then ask again",
        at = .at.0, now = .now.0
    )]
    Stale {
        /// The request's date.
        at: UnixMillis,
        /// The time of this service.
        now: UnixMillis,
    },
    /// A record in the registry is malformed for this version.
    #[error("the registry's {subject} cannot be read here: {why}")]
    Unreadable {
        /// The record's subject.
        subject: String,
        /// The reason.
        why: Mesh,
    },
    /// A message is malformed, or the bus failed.
    #[error(transparent)]
    Mesh(#[from] Mesh),
}

/// After how long to retry when the mesh lacks a resource.
const SHORTLY: Duration = Duration::from_secs(5);

impl Error {
    /// The code on the wire.
    pub fn code(&self) -> FailureCode {
        match self {
            Self::TenantTaken(_) | Self::NotListed(_) => FailureCode::TenantRefused,
            Self::UnknownTenant(_) => FailureCode::UnknownTenant,
            Self::UnknownKey(_) => FailureCode::UnknownKey,
            Self::KeyRevoked(_) => FailureCode::KeyRevoked,
            Self::KeyRetired { .. } => FailureCode::KeyRetired,
            Self::ParameterMismatch { .. } => FailureCode::ParameterMismatch,
            Self::NoRoom { .. } => FailureCode::Overloaded,
            Self::Incomplete(_) | Self::Damaged(_) => FailureCode::DigestMismatch,
            Self::Rejected(_) | Self::ReplacesItself(_) => FailureCode::Malformed,
            Self::Stale { .. } => FailureCode::Expired,
            Self::Unreadable { .. } => FailureCode::Internal,
            Self::Mesh(Mesh::BadSignature { .. }) => FailureCode::BadSignature,
            Self::Mesh(Mesh::TooLarge { .. }) => FailureCode::TooLarge,
            Self::Mesh(Mesh::Full { .. }) => FailureCode::Overloaded,
            Self::Mesh(error) if error.retryable() => FailureCode::Internal,
            Self::Mesh(_) => FailureCode::Malformed,
        }
    }

    /// Whether the same request may be accepted later.
    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }

    /// After how long to retry, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoRoom { retry_after, .. } => *retry_after,
            Self::Mesh(error) if error.retryable() => Some(SHORTLY),
            _ => None,
        }
    }
}
