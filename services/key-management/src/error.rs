//! Why a request is refused.

use std::time::Duration;

use hermesh_mesh::{Digest, Error as Mesh, TenantId, UnixMillis, wire::FailureCode};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is bound to another key.
    #[error("tenant {0} is registered with another signing key; choose another name")]
    TenantTaken(TenantId),
    /// The name is not on the operator's list, or with another key.
    #[error(
        "tenant {0} with this signing key is not on this mesh's list; \
         ask its operator to add the name with your verifying key"
    )]
    NotListed(TenantId),
    /// No such tenant.
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    /// No such key.
    #[error("evaluation key {0} has not been uploaded by this tenant; upload it first")]
    UnknownKey(Digest),
    /// The key was withdrawn, which is final.
    #[error("evaluation key {0} has been revoked; make a new one")]
    KeyRevoked(Digest),
    /// The key was replaced, and its time is over.
    #[error(
        "evaluation key {key} has been replaced by {successor}; use that one, or make a new one"
    )]
    KeyRetired {
        /// The key.
        key: Digest,
        /// The key that took its place.
        successor: Digest,
    },
    /// A key cannot take its own place.
    #[error("evaluation key {0} cannot replace itself; name the older key")]
    ReplacesItself(Digest),
    /// A key takes the place of one for the same parameter set only.
    #[error("the new key is for {new}, the one it replaces for {old}; upload it without replacing")]
    ParameterMismatch {
        /// Parameter set of the new key.
        new: String,
        /// Parameter set of the old one.
        old: String,
    },
    /// A bound is reached.
    #[error("there is no room for more than {limit} {what}; {advice}")]
    NoRoom {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// What to do.
        advice: &'static str,
        /// When there will be room, if that is known.
        retry_after: Option<Duration>,
    },
    /// Not all parts of the upload are there.
    #[error("the upload of {0} is not complete; send the parts that are missing, then ask again")]
    Incomplete(Digest),
    /// The uploaded bytes are not the ones the digest names.
    #[error("the upload of {0} was damaged and has been deleted; send it again")]
    Damaged(Digest),
    /// The bytes are not what they should be.
    #[error("{0}")]
    Rejected(String),
    /// A question dated too far from now: it may be an overheard one, or a clock is wrong.
    #[error(
        "the request is dated {at}, here it is {now} (milliseconds since 1970); \
         check this machine's clock, then ask again",
        at = .at.0, now = .now.0
    )]
    Stale {
        /// The question's date.
        at: UnixMillis,
        /// The time here.
        now: UnixMillis,
    },
    /// What the registry holds cannot be read by this program.
    #[error("the registry's {subject} cannot be read here: {why}")]
    Unreadable {
        /// Where it is.
        subject: String,
        /// Why.
        why: Mesh,
    },
    /// A message or the bus.
    #[error(transparent)]
    Mesh(#[from] Mesh),
}

/// After how long to try again when the mesh is short of something.
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

    /// Whether the same request may be granted later.
    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }

    /// After how long, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoRoom { retry_after, .. } => *retry_after,
            Self::Mesh(error) if error.retryable() => Some(SHORTLY),
            _ => None,
        }
    }
}
