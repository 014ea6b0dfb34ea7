//! The message types: metadata in headers, opaque bytes in the body.
//!
//! Every message carries the CloudEvents attributes `ce-id`, `ce-type`, `ce-source` and
//! `ce-specversion`, the protocol's `Hermesh-Version`, and the headers of its type. Reading is
//! strict: missing or malformed headers and other versions are typed errors.

/// Implements `Debug` so that it prints only the length of the body, which is large and
/// confidential.
macro_rules! debug_without_body {
    ($name:ident { $($field:ident),* } $body:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &self.$field))*
                    .field("bytes", &self.$body.len())
                    .finish()
            }
        }
    };
}

mod admission;
mod failure;
mod job;
mod listing;
mod open;
mod outcome;
mod parts;
mod registry;
mod statement;
mod step;
mod work;

pub use admission::{
    Accepted, Facts, FactsQuery, KeyFacts, ModelFacts, Refusal, accepted, answer_to,
};
pub use failure::{Failure, FailureCode};
pub use job::{CancelJob, Context, Job, Lane, Priority, TraceParent, submission};
pub use listing::{
    AuditEntry, AuditKind, AuditLog, FRESH, KeyList, KeyStatus, ListKeys, ListModels, ModelList,
    ModelStatus, ReadAudit,
};
pub use open::{Admitted, Cancelled, OpenEntry, OpenJob};
pub use outcome::{Answer, Outcome, Receipt, ServiceKey, Status};
pub use parts::{ListParts, PartList};
pub use registry::{
    KeyRecord, KeyRetires, KeyRevoked, KeyVersion, ModelOffer, ModelRecord, TenantRecord,
};
pub use statement::{RegisterModel, RegisterTenant, Replaces, RevokeKey, UploadEvaluationKey};
pub use step::{Computed, OperatorTime, Refused, Shard, Step};
pub use work::{Arrived, Joined, Partial, Position, Task};

use std::str::FromStr;

use crate::{Error, Headers, Message};

/// The protocol version that this program speaks.
pub const VERSION: u32 = 1;

/// A type that is sent as a message.
pub trait Wire: Sized {
    /// Its `ce-type`.
    const TYPE: &'static str;

    /// The subject it is sent to.
    fn subject(&self) -> String;

    /// Its message id; the same content always has the same id.
    fn id(&self) -> String;

    /// Writes its headers and body.
    fn write(&self, message: &mut Message);

    /// Reads the headers and body back.
    fn read(message: &Message) -> Result<Self, Error>;

    /// Encodes the whole message, sent by the process called `source`.
    fn encode(&self, source: &str) -> Message {
        let mut message = Message::new(self.subject(), bytes::Bytes::new()).with_id(self.id());
        let headers = &mut message.headers;
        headers.set("ce-type", Self::TYPE);
        headers.set("ce-source", source);
        headers.set("ce-specversion", "1.0");
        headers.set("Hermesh-Version", VERSION);
        self.write(&mut message);
        message
    }

    /// Reads a message that came over the bus. The policy grants rights by subject, so the subject
    /// must match the content.
    fn receive(message: &Message) -> Result<Self, Error> {
        let value = Self::decode(message)?;
        expect_subject(message, &value.subject())?;
        Ok(value)
    }

    /// Reads a message from any source: a reply, a dead letter, HTTP.
    fn decode(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        let version = reader.text("Hermesh-Version")?;
        if version != "1" {
            return Err(Error::WrongVersion { expected: VERSION, got: version.to_owned() });
        }
        let got = reader.text("ce-type")?;
        if got != Self::TYPE {
            return Err(Error::WrongType { expected: Self::TYPE, got: got.to_owned() });
        }
        Self::read(message)
    }
}

fn expect_subject(message: &Message, subject: &str) -> Result<(), Error> {
    if message.subject == subject {
        return Ok(());
    }
    Err(Error::Malformed { what: "message", expected: "the subject that belongs to its content" })
}

/// Reads headers of a message of one type.
pub(crate) struct Reader<'a> {
    headers: &'a Headers,
    message: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a Message, kind: &'static str) -> Self {
        Self { headers: &message.headers, message: kind }
    }

    pub(crate) fn text(&self, header: &'static str) -> Result<&'a str, Error> {
        self.headers.get(header).ok_or(Error::MissingHeader { message: self.message, header })
    }

    /// Parses a header's value.
    pub(crate) fn parse<T: FromStr<Err = Error>>(&self, header: &'static str) -> Result<T, Error> {
        self.text(header)?.parse().map_err(|error| match error {
            Error::Malformed { expected, .. } => {
                Error::BadHeader { header: header.to_owned(), expected }
            }
            other => other,
        })
    }

    pub(crate) fn parse_optional<T: FromStr<Err = Error>>(
        &self,
        header: &'static str,
    ) -> Result<Option<T>, Error> {
        match self.headers.get(header) {
            Some(_) => self.parse(header).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn number<T: FromStr>(&self, header: &'static str) -> Result<T, Error> {
        let text = self.text(header)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let canonical = digits && (text == "0" || !text.starts_with('0'));
        let number = canonical.then(|| text.parse().ok()).flatten();
        number.ok_or(Error::BadHeader {
            header: header.to_owned(),
            expected: "a decimal number in range",
        })
    }

    pub(crate) fn number_optional<T: FromStr>(
        &self,
        header: &'static str,
    ) -> Result<Option<T>, Error> {
        match self.headers.get(header) {
            Some(_) => self.number(header).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn flag(&self, header: &'static str) -> Result<bool, Error> {
        match self.text(header)? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Error::BadHeader { header: header.to_owned(), expected: "true or false" }),
        }
    }
}
