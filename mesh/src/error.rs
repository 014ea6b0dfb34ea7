//! The one error type of this crate.

use std::time::Duration;

/// What can go wrong between processes. The text says what was expected, what came, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header that the message's type requires is absent.
    #[error("the {message} message has no {header} header")]
    MissingHeader {
        /// The message's `ce-type`.
        message: &'static str,
        /// The absent header.
        header: &'static str,
    },
    /// A header is there but not of the form it must have.
    #[error("header {header}: expected {expected}")]
    BadHeader {
        /// The header's name.
        header: String,
        /// The form it must have.
        expected: &'static str,
    },
    /// A message of another type than the reader expected.
    #[error("expected a message of type {expected}, got {got:?}")]
    WrongType {
        /// The type the reader handles.
        expected: &'static str,
        /// What the message says it is.
        got: String,
    },
    /// A message written for another version of the protocol.
    #[error(
        "this program speaks protocol version {expected}, the message says {got:?}; upgrade the older side"
    )]
    WrongVersion {
        /// The version spoken here.
        expected: u32,
        /// The version of the message.
        got: String,
    },
    /// A name, digest or identifier that is not well formed.
    #[error("{what}: expected {expected}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// The form it must have.
        expected: &'static str,
    },
    /// More bytes than the receiver is willing to hold.
    #[error("{what} is {got} bytes, the limit is {limit}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size in bytes.
        got: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes are not the ones the digest names.
    #[error("the content's SHA-256 is {got}, but {expected} was announced")]
    DigestMismatch {
        /// The announced digest.
        expected: crate::Digest,
        /// The digest of what came.
        got: crate::Digest,
    },
    /// A signature that does not verify.
    #[error("the signature on {what} does not verify under the expected key")]
    BadSignature {
        /// What was signed.
        what: &'static str,
    },
    /// The subject is not caught by any declared queue, so a publish could not be durable.
    #[error("no queue takes messages on {subject}; declare it first")]
    NoQueue {
        /// The subject published to.
        subject: String,
    },
    /// A queue of that name exists with other options.
    #[error(
        "queue {name} exists with a different {field}; delete it or change the options to match"
    )]
    QueueMismatch {
        /// The queue's name.
        name: String,
        /// The option that differs.
        field: &'static str,
    },
    /// The queue or store has reached its bound.
    #[error("{what} is full; try again later")]
    Full {
        /// What is full.
        what: String,
    },
    /// Nobody answers requests on this subject.
    #[error("nothing answers requests on {subject}; is the service running?")]
    NoResponders {
        /// The request's subject.
        subject: String,
    },
    /// The answer did not come in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No object under that digest.
    #[error("there is no object {digest} in bucket {bucket}")]
    NoObject {
        /// The bucket searched.
        bucket: &'static str,
        /// The digest searched for.
        digest: crate::Digest,
    },
    /// The other side has gone away, or this one is shutting down.
    #[error("{0} has stopped")]
    Stopped(&'static str),
    /// The other side refused, with a code of its own.
    #[error("{}: {}", .0.code.as_str(), .0.message)]
    Refused(Box<crate::wire::Refusal>),
    /// The job ended without an answer.
    #[error(transparent)]
    Failed(Box<crate::wire::Failure>),
    /// A stored object does not decode, though it did when it was accepted.
    #[error("object {digest} does not decode: {why}")]
    Undecodable {
        /// The object.
        digest: crate::Digest,
        /// Why.
        why: crate::wire::Refused,
    },
    /// Code that computes has panicked.
    #[error("the computation panicked; this is a defect, its log has the details")]
    Panicked,
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::NoResponders { .. }
            | Self::Timeout(_)
            | Self::Stopped(_)
            | Self::Panicked => true,
            Self::Refused(refusal) => refusal.retryable,
            Self::Failed(failure) => failure.retryable(),
            _ => false,
        }
    }
}
