//! What admission asks key management, and the answers that all requests have in common.

use std::time::Duration;

use super::{
    FailureCode, Reader, Wire,
    failure::{read_retry_after, write_retry_after},
};
use crate::{Digest, Error, Message, TenantId, UnixMillis, VerifyingKey};

/// Asks what admission needs to know about a job's tenant, key and model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactsQuery {
    /// The job's tenant.
    pub tenant: TenantId,
    /// The job's evaluation key.
    pub key: Digest,
    /// The job's model.
    pub model: Digest,
}

impl Wire for FactsQuery {
    const TYPE: &'static str = "hermesh.facts-query";

    fn subject(&self) -> String {
        "hermesh.keys.facts".into()
    }

    fn id(&self) -> String {
        format!("{}.{}.facts", self.tenant, self.key)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Key", self.key);
        message.headers.set("Hermesh-Model", self.model);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Key")?,
            model: reader.parse("Hermesh-Model")?,
        })
    }
}

/// What is known of an evaluation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Whose it is.
    pub owner: TenantId,
    /// The name of its parameter set.
    pub parameters: String,
    /// Whether it has been withdrawn.
    pub revoked: bool,
    /// From when on no new job may use it, if it has been replaced.
    pub retires: Option<UnixMillis>,
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// The name of its parameter set.
    pub parameters: String,
}

/// The answer to a [`FactsQuery`]; what is unknown is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The tenant's verifying key.
    pub tenant: Option<VerifyingKey>,
    /// The evaluation key.
    pub key: Option<KeyFacts>,
    /// The model.
    pub model: Option<ModelFacts>,
}

impl Wire for Facts {
    const TYPE: &'static str = "hermesh.facts";

    fn subject(&self) -> String {
        "hermesh.keys.facts".into()
    }

    fn id(&self) -> String {
        "facts".into()
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        if let Some(key) = &self.tenant {
            headers.set("Hermesh-Verifying-Key", key);
        }
        if let Some(key) = &self.key {
            headers.set("Hermesh-Key-Owner", &key.owner);
            headers.set("Hermesh-Key-Parameters", &key.parameters);
            headers.set("Hermesh-Key-Revoked", key.revoked);
            if let Some(retires) = key.retires {
                headers.set("Hermesh-Key-Retires", retires.0);
            }
        }
        if let Some(model) = &self.model {
            headers.set("Hermesh-Model-Parameters", &model.parameters);
        }
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        let key = match reader.parse_optional("Hermesh-Key-Owner")? {
            Some(owner) => Some(KeyFacts {
                owner,
                parameters: reader.text("Hermesh-Key-Parameters")?.to_owned(),
                revoked: reader.flag("Hermesh-Key-Revoked")?,
                retires: reader.number_optional("Hermesh-Key-Retires")?.map(UnixMillis),
            }),
            None => None,
        };
        let model = message.headers.get("Hermesh-Model-Parameters");
        Ok(Self {
            tenant: reader.parse_optional("Hermesh-Verifying-Key")?,
            key,
            model: model.map(|parameters| ModelFacts { parameters: parameters.to_owned() }),
        })
    }
}

/// The answer to a request that was granted and has nothing more to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted;

impl Wire for Accepted {
    const TYPE: &'static str = "hermesh.accepted";

    fn subject(&self) -> String {
        "hermesh.reply".into()
    }

    fn id(&self) -> String {
        "accepted".into()
    }

    fn write(&self, _: &mut Message) {}

    fn read(_: &Message) -> Result<Self, Error> {
        Ok(Self)
    }
}

/// The answer to a request that was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs.
    pub code: FailureCode,
    /// Why, for people.
    pub message: String,
    /// Whether the same request may be granted later.
    pub retryable: bool,
    /// After how long, if that is known.
    pub retry_after: Option<Duration>,
}

impl Wire for Refusal {
    const TYPE: &'static str = "hermesh.refusal";

    fn subject(&self) -> String {
        "hermesh.reply".into()
    }

    fn id(&self) -> String {
        "refusal".into()
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Code", self.code.as_str());
        message.headers.set("Hermesh-Reason", &self.message);
        message.headers.set("Hermesh-Retryable", self.retryable);
        write_retry_after(&mut message.headers, self.retry_after);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            code: reader.parse("Hermesh-Code")?,
            message: reader.text("Hermesh-Reason")?.to_owned(),
            retryable: reader.flag("Hermesh-Retryable")?,
            retry_after: read_retry_after(&reader)?,
        })
    }
}

/// Reads the answer to a request: a `T`, or the refusal as an error.
pub fn answer_to<T: Wire>(reply: &Message) -> Result<T, Error> {
    if reply.headers.get("ce-type") == Some(Refusal::TYPE) {
        return Err(Error::Refused(Box::new(Refusal::decode(reply)?)));
    }
    T::decode(reply)
}

/// Reads the answer to a request that is only granted or refused.
pub fn accepted(reply: &Message) -> Result<(), Error> {
    answer_to::<Accepted>(reply).map(drop)
}
