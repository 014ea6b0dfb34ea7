//! Admission's questions to key management, and the replies common to all requests.

use std::time::Duration;

use super::{
    FailureCode, Reader, Wire,
    failure::{read_retry_after, write_retry_after},
};
use crate::{Digest, Error, Message, TenantId, UnixMillis, VerifyingKey};

/// Asks for everything that admission needs to know about a job's tenant, key and model.
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

/// What key management knows about an evaluation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// The tenant that owns the key.
    pub owner: TenantId,
    /// The name of its parameter set.
    pub parameters: String,
    /// Whether it has been revoked.
    pub revoked: bool,
    /// If it has been replaced, the time from which no new job may use it.
    pub retires: Option<UnixMillis>,
}

/// What key management knows about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// The name of its parameter set.
    pub parameters: String,
}

/// The reply to a [`FactsQuery`]; unknown items are absent.
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

/// The reply to a granted request that returns no data.
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

/// The reply to a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: FailureCode,
    /// The reason, for people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// When to retry, if known.
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

/// Reads the reply to a request: a `T`, or the refusal as an error.
pub fn answer_to<T: Wire>(reply: &Message) -> Result<T, Error> {
    if reply.headers.get("ce-type") == Some(Refusal::TYPE) {
        return Err(Error::Refused(Box::new(Refusal::decode(reply)?)));
    }
    T::decode(reply)
}

/// Reads the reply to a request that returns no data.
pub fn accepted(reply: &Message) -> Result<(), Error> {
    answer_to::<Accepted>(reply).map(drop)
}
