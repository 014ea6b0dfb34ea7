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
    /// A receipt of a service that is not trusted.
    #[error("the receipt is signed by {got}, which is not a key that this client trusts")]
    UntrustedService {
        /// The key that signed it, as the receipt says.
        got: crate::VerifyingKey,
    },
    /// The subject is not caught by any declared queue, so a publish could not be durable.
    #[error("no queue takes messages on {subject}; declare it first")]
    NoQueue {
        /// The subject published to.
        subject: String,
    },
    /// A queue of that name exists with other options.
    #[error(
        "queue {name} exists with {field} {found}, where {expected} is expected; \
         delete it when it is empty, or change the options to match"
    )]
    QueueMismatch {
        /// The queue's name.
        name: String,
        /// The option that differs.
        field: &'static str,
        /// What the existing queue has.
        found: String,
        /// What was asked for.
        expected: String,
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
    /// No connection to the broker could be made.
    #[error("cannot connect to NATS at {url}: {why}; is nats-server running there?")]
    Connect {
        /// The address tried, without credentials.
        url: String,
        /// Why it failed.
        why: String,
    },
    /// The broker refuses a request for a reason of its own.
    #[error("the NATS server refuses {what}: {why} (error {code})")]
    Broker {
        /// What was asked of it.
        what: String,
        /// JetStream's error code.
        code: u64,
        /// What the server says.
        why: String,
    },
    /// A broker of our own could not be started.
    #[error("cannot start nats-server: {why}")]
    Start {
        /// Why, and what to do.
        why: String,
    },
    /// The policy does not allow it.
    #[error("{0}")]
    Denied(Box<crate::policy::Denied>),
    /// No object under that digest, or not all of it.
    #[error("there is no object {digest} in {bucket}")]
    NoObject {
        /// The bucket searched.
        bucket: String,
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

impl From<crate::policy::Denied> for Error {
    fn from(denied: crate::policy::Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl Error {
    /// Whether the bus, or a service asked over it, had no room or no time: nothing is wrong with the
    /// message in hand, and waiting is what helps.
    pub fn back_pressure(&self) -> bool {
        self.retryable() && !matches!(self, Self::Panicked | Self::Stopped(_) | Self::Failed(_))
    }

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
