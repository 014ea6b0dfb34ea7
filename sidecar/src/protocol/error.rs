//! Why a connection cannot go on.

/// Why bytes are not an operation. The connection must end: the start of the next operation is unknown, or
/// cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The verb does not exist in this direction.
    #[error("expected {0}, got something else")]
    UnknownOperation(&'static str),
    /// The arguments do not fit the verb.
    #[error("expected {0}, got other arguments")]
    Arguments(&'static str),
    /// The line has a bare CR or LF, or another control character.
    #[error("a line has a control character; expected none but the CR LF at its end")]
    ControlCharacter,
    /// The line is too long.
    #[error("a line of more than {limit} bytes came")]
    LineTooLong {
        /// The limit, with CR LF.
        limit: usize,
    },
    /// A number was expected.
    #[error("expected a number of one to nine digits, got something else")]
    Number,
    /// The message is too large.
    #[error("a message of {got} bytes was announced; headers and body may have {limit}")]
    PayloadTooLarge {
        /// The size that was announced.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The headers are announced as larger than the whole message.
    #[error("headers of {headers} bytes were announced in a message of {total}")]
    HeaderSize {
        /// The headers' size.
        headers: usize,
        /// The size of headers and body.
        total: usize,
    },
    /// The headers lack their first or last line.
    #[error("expected headers that begin with NATS/1.0 and end with an empty line")]
    Headers,
    /// The message's length differs from the announced one.
    #[error("expected CR LF after as many bytes as were announced")]
    PayloadEnd,
    /// The subject is not valid for publishing.
    #[error(
        "expected a subject of visible ASCII, without empty tokens and wildcards, of at most {0} bytes"
    )]
    PublishSubject(usize),
    /// The subject is not valid for subscribing.
    #[error(
        "expected a subject of visible ASCII, without empty tokens, with wildcards only as whole tokens, \
         of at most {0} bytes"
    )]
    SubscribeSubject(usize),
    /// The name of a queue group or of a subscription is invalid.
    #[error("expected a name of visible ASCII, of at most {0} bytes")]
    Name(usize),
}

impl ProtocolError {
    /// The text that nats-server sends in `-ERR` before it closes the connection.
    pub fn violation(&self) -> &'static str {
        match self {
            Self::LineTooLong { .. } => "maximum control line exceeded",
            Self::PayloadTooLarge { .. } => "Maximum Payload Violation",
            Self::PublishSubject(_) => "Invalid Publish Subject",
            Self::SubscribeSubject(_) => "Invalid Subject",
            Self::Headers => "bad message header detected",
            _ => "Unknown Protocol Operation",
        }
    }
}
