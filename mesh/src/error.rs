//! The error type of this crate.

use std::time::Duration;

/// What can go wrong between processes. Each text says what was expected, what came, and what to do.
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
    /// A header is present but malformed.
    #[error("header {header}: expected {expected}")]
    BadHeader {
        /// The header's name.
        header: String,
        /// The required form.
        expected: &'static str,
    },
    /// A message of another type than the reader expected.
    #[error("expected a message of type {expected}, got {got:?}")]
    WrongType {
        /// The type that the reader handles.
        expected: &'static str,
        /// The type that the message names.
        got: String,
    },
    /// A message written for another version of the protocol.
    #[error(
        "this program speaks protocol version {expected}, the message says {got:?}; upgrade the older side"
    )]
    WrongVersion {
        /// The version that this program speaks.
        expected: u32,
        /// The version of the message.
        got: String,
    },
    /// A malformed name, digest or identifier.
    #[error("{what}: expected {expected}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// The required form.
        expected: &'static str,
    },
    /// The content is larger than the receiver accepts.
    #[error("{what} is {got} bytes, the limit is {limit}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size in bytes.
        got: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The content does not match the announced digest.
    #[error("the content's SHA-256 is {got}, but {expected} was announced")]
    DigestMismatch {
        /// The announced digest.
        expected: crate::Digest,
        /// The digest of the received content.
        got: crate::Digest,
    },
    /// A signature does not verify.
    #[error("the signature on {what} does not verify under the expected key")]
    BadSignature {
        /// What was signed.
        what: &'static str,
    },
    /// A receipt signed by a service that the client does not trust.
    #[error("the receipt is signed by {got}, which is not a key that this client trusts")]
    UntrustedService {
        /// The key that the receipt names as its signer.
        got: crate::VerifyingKey,
    },
    /// No declared queue catches the subject, so the message would not be stored.
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
        /// The existing queue's value.
        found: String,
        /// The requested value.
        expected: String,
    },
    /// The queue or store has reached its bound.
    #[error("{what} is full; try again later")]
    Full {
        /// What is full.
        what: String,
    },
    /// No service answers requests on this subject.
    #[error("nothing answers requests on {subject}; is the service running?")]
    NoResponders {
        /// The request's subject.
        subject: String,
    },
    /// No reply within the time limit.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection to the broker failed.
    #[error("cannot connect to NATS at {url}: {why}; is nats-server running there?")]
    Connect {
        /// The address tried, without credentials.
        url: String,
        /// Why it failed.
        why: String,
    },
    /// The broker refused a request.
    #[error("the NATS server refuses {what}: {why} (error {code})")]
    Broker {
        /// The request.
        what: String,
        /// JetStream's error code.
        code: u64,
        /// The server's explanation.
        why: String,
    },
    /// A nats-server child process could not be started.
    #[error("cannot start nats-server: {why}")]
    Start {
        /// The reason, and what to do.
        why: String,
    },
    /// The policy does not allow it.
    #[error("{0}")]
    Denied(Box<crate::policy::Denied>),
    /// No object with this digest is stored, or some of its parts are missing.
    #[error("there is no object {digest} in {bucket}")]
    NoObject {
        /// The bucket searched.
        bucket: String,
        /// The digest searched for.
        digest: crate::Digest,
    },
    /// The peer has gone away, or this process is shutting down.
    #[error("{0} has stopped")]
    Stopped(&'static str),
    /// The service refused the request, with an error code.
    #[error("{}: {}", .0.code.as_str(), .0.message)]
    Refused(Box<crate::wire::Refusal>),
    /// The job ended without an answer.
    #[error(transparent)]
    Failed(Box<crate::wire::Failure>),
    /// A stored object does not decode, although it decoded when it was accepted.
    #[error("object {digest} does not decode: {why}")]
    Undecodable {
        /// The object.
        digest: crate::Digest,
        /// The decoder's reason.
        why: crate::wire::Refused,
    },
    /// A computation panicked.
    #[error("the computation panicked; this is a defect, its log has the details")]
    Panicked,
}

impl From<crate::policy::Denied> for Error {
    fn from(denied: crate::policy::Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl Error {
    /// Whether the bus, or a service asked over it, lacked capacity or time. The message itself is fine: the caller
    /// should wait and try again.
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
