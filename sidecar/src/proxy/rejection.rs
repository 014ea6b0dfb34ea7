//! Why something was not let through.

use hermesh_mesh::{identity::CertificateError, seal::SealError};

/// Why a message, a subscription or a connection was refused. Each is counted by name, and logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The policy does not list it for this workload.
    #[error("the policy does not allow it")]
    Denied,
    /// The place for the answer is not this workload's.
    #[error("the place for the answer is not under the workload's own inbox")]
    ForeignInbox,
    /// Nobody asked for this answer, or not any more.
    #[error("nobody asked for it")]
    Unasked,
    /// It came on a subscription that does not cover it.
    #[error("it is not what the subscription is for")]
    Readdressed,
    /// The seal is missing, broken, or nobody's whom we trust.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// The sealer is known, and may not say this.
    #[error("its sealer may not send it")]
    Sealer,
    /// The sealer, or its certificate, was revoked.
    #[error("its sealer was revoked")]
    Revoked,
    /// It was sealed too long ago, or in the future.
    #[error("it was sealed at another time than it may be of; compare the clocks")]
    Stale,
    /// It came before.
    #[error("it came before")]
    Replayed,
    /// Too many requests came to remember them all.
    #[error("more requests came than can be told from repetitions")]
    Overrun,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(&'static str),
    /// The workload's own certificate is past its end.
    #[error("the workload's certificate has expired, and no newer one was to be had")]
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

    /// Its name, as a label.
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

    /// Whether the same message may be good later: trust and clocks change, seals do not.
    pub(super) fn passing(&self) -> bool {
        match self {
            Self::Seal(SealError::Certificate(why)) => {
                matches!(why, CertificateError::Untrusted(_) | CertificateError::NotYetValid(_))
            }
            // Also what was altered: on its way perhaps, and not where it is stored.
            Self::Seal(SealError::Broken) | Self::Stale | Self::Sealer | Self::Overrun => true,
            _ => false,
        }
    }
}
