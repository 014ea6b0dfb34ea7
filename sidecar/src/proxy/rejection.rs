//! Why a message, a subscription or a connection was rejected.

use hermesh_mesh::{identity::CertificateError, seal::SealError};

/// Why a message, a subscription or a connection was rejected. Each is counted by name, and logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The policy does not list it for this workload.
    #[error("the policy does not allow it")]
    Denied,
    /// The reply subject is outside this workload's inbox.
    #[error("the reply subject is not in the workload's own inbox")]
    ForeignInbox,
    /// The workload did not send a request for it, or the request already has its reply.
    #[error("the workload did not ask for it")]
    Unasked,
    /// The subscription on which it came does not cover it.
    #[error("the subscription does not cover it")]
    Readdressed,
    /// The message signature is missing or invalid, or its certificate is not trusted.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// The signer is known, but the policy does not let it send this.
    #[error("the policy does not let its signer send it")]
    Sealer,
    /// The signer, or its certificate, was revoked.
    #[error("its signer was revoked")]
    Revoked,
    /// It was signed too long ago, or in the future.
    #[error("it was signed too long ago or in the future; compare the clocks")]
    Stale,
    /// It is a replay.
    #[error("it is a replay")]
    Replayed,
    /// Too many requests came to remember them all.
    #[error("too many requests came to check them for replays")]
    Overrun,
    /// It cannot be parsed.
    #[error("it cannot be read: {0}")]
    Unreadable(&'static str),
    /// The workload's own certificate has expired.
    #[error("the workload's certificate has expired, and there is no newer one")]
    Expired,
}

impl Rejection {
    /// All names, for counters that start at 0.
    pub const NAMES: [&'static str; 15] = [
        "denied",
        "foreign_inbox",
        "unasked",
        "readdressed",
        "unsealed",
        "broken_seal",
        "bad_seal",
        "untrusted",
        "sealer",
        "revoked",
        "stale",
        "replayed",
        "overrun",
        "unreadable",
        "expired",
    ];

    /// The name, as a label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::ForeignInbox => "foreign_inbox",
            Self::Unasked => "unasked",
            Self::Readdressed => "readdressed",
            Self::Seal(SealError::Missing) => "unsealed",
            Self::Seal(SealError::Broken) => "broken_seal",
            Self::Seal(SealError::Certificate(_)) => "untrusted",
            Self::Seal(_) => "bad_seal",
            Self::Sealer => "sealer",
            Self::Revoked => "revoked",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Overrun => "overrun",
            Self::Unreadable(_) => "unreadable",
            Self::Expired => "expired",
        }
    }

    /// Whether the same message may be accepted later: trust and clocks change, message signatures do not.
    pub(super) fn passing(&self) -> bool {
        match self {
            Self::Seal(SealError::Certificate(why)) => {
                matches!(why, CertificateError::Untrusted(_) | CertificateError::NotYetValid(_))
            }
            // A changed message may have been changed on its way and may be intact in its stream.
            Self::Seal(SealError::Broken) | Self::Stale | Self::Sealer | Self::Overrun => true,
            _ => false,
        }
    }
}
