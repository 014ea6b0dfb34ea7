//! Why a connection cannot go on.

/// Why bytes are no operation. There is no going on after it: where the next one begins is not known, or
/// not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Not a verb of this direction.
    #[error("expected {0}, something else came")]
    UnknownOperation(&'static str),
    /// Not the arguments of this verb.
    #[error("expected {0}, other arguments came")]
    Arguments(&'static str),
    /// A CR or LF by itself, or another control character.
    #[error("a line has a control character; expected none but the CR LF at its end")]
    ControlCharacter,
    /// A line without end.
    #[error("a line of more than {limit} bytes came")]
    LineTooLong {
        /// The limit, with CR LF.
        limit: usize,
    },
    /// Not a number.
    #[error("expected a number of one to nine digits, something else came")]
    Number,
    /// More than is taken.
    #[error("a message of {got} bytes was announced; headers and body may have {limit}")]
    PayloadTooLarge {
        /// What was announced.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// More headers than message.
    #[error("headers of {headers} bytes were announced in a message of {total}")]
    HeaderSize {
        /// The headers' size.
        headers: usize,
        /// The size of headers and body.
        total: usize,
    },
    /// Headers without their first or last line.
    #[error("expected headers that begin with NATS/1.0 and end with an empty line")]
    Headers,
    /// A message of another length than announced.
    #[error("expected CR LF after as many bytes as were announced")]
    PayloadEnd,
    /// Not where messages can go.
    #[error(
        "expected a subject of visible ASCII, without empty tokens and wildcards, of at most {0} bytes"
    )]
    PublishSubject(usize),
    /// Not what can be subscribed.
    #[error(
        "expected a subject of visible ASCII, without empty tokens, with wildcards only as whole tokens, \
         of at most {0} bytes"
    )]
    SubscribeSubject(usize),
    /// A name of a queue group or of a subscription that cannot be one.
    #[error("expected a name of visible ASCII, of at most {0} bytes")]
    Name(usize),
}

impl ProtocolError {
    /// What nats-server says, in `-ERR`, before it hangs up.
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
