//! Registration and look-up: requests that key management answers.

use super::{FailureCode, Reader, Wire};
use crate::{Digest, Error, Message, Signature, SigningKey, TenantId, Transcript, VerifyingKey};

/// Binds a tenant's name to a signing key: the first to come keeps the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterTenant {
    /// The name.
    pub tenant: TenantId,
    /// The key that will sign this tenant's statements.
    pub key: VerifyingKey,
    /// Made with that key: proof that the sender holds it.
    pub signature: Signature,
}

impl RegisterTenant {
    /// A signed registration.
    pub fn new(tenant: TenantId, key: &SigningKey) -> Self {
        let public = key.verifying_key();
        let signature = key.sign(&Self::transcript(&tenant, &public));
        Self { tenant, key: public, signature }
    }

    /// Checks that the sender holds the key.
    pub fn verify(&self) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, &self.key);
        self.key.verify("registration", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, key: &VerifyingKey) -> Transcript {
        Transcript::new("hermesh register tenant v1")
            .field(tenant.as_str().as_bytes())
            .field(key.as_bytes())
    }
}

impl Wire for RegisterTenant {
    const TYPE: &'static str = "hermesh.register-tenant";

    fn subject(&self) -> String {
        format!("hermesh.keys.tenant.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.register", self.tenant)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Verifying-Key", self.key);
        message.headers.set("Hermesh-Signature", self.signature);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Verifying-Key")?,
            signature: reader.parse("Hermesh-Signature")?,
        })
    }
}

/// A tenant's signed statement about one of its evaluation keys.
macro_rules! key_statement {
    ($(#[$doc:meta])* $name:ident, $type:literal, $verb:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            /// The key's owner.
            pub tenant: TenantId,
            /// The key.
            pub key: Digest,
            /// The owner's signature.
            pub signature: Signature,
        }

        impl $name {
            /// A signed statement.
            pub fn new(tenant: TenantId, key: Digest, signing: &SigningKey) -> Self {
                let signature = signing.sign(&Self::transcript(&tenant, key));
                Self { tenant, key, signature }
            }

            /// Checks the owner's signature.
            pub fn verify(&self, owner: &VerifyingKey) -> Result<(), Error> {
                let transcript = Self::transcript(&self.tenant, self.key);
                owner.verify(concat!($verb, " key"), &transcript, &self.signature)
            }

            fn transcript(tenant: &TenantId, key: Digest) -> Transcript {
                Transcript::new(concat!("hermesh ", $verb, " key v1"))
                    .field(tenant.as_str().as_bytes())
                    .field(&key.0)
            }
        }

        impl Wire for $name {
            const TYPE: &'static str = $type;

            fn subject(&self) -> String {
                format!(concat!("hermesh.keys.", $verb, ".{}"), self.tenant)
            }

            fn id(&self) -> String {
                format!(concat!("{}.", $verb), self.key)
            }

            fn write(&self, message: &mut Message) {
                message.headers.set("Hermesh-Tenant", &self.tenant);
                message.headers.set("Hermesh-Key", self.key);
                message.headers.set("Hermesh-Signature", self.signature);
            }

            fn read(message: &Message) -> Result<Self, Error> {
                let reader = Reader::new(message, Self::TYPE);
                Ok(Self {
                    tenant: reader.parse("Hermesh-Tenant")?,
                    key: reader.parse("Hermesh-Key")?,
                    signature: reader.parse("Hermesh-Signature")?,
                })
            }
        }
    };
}

key_statement!(
    /// Offers an evaluation key, whose bytes the tenant has put into the uploads bucket.
    UploadEvaluationKey,
    "hermesh.upload-evaluation-key",
    "upload"
);

key_statement!(
    /// Withdraws an evaluation key at once and for good.
    RevokeKey,
    "hermesh.revoke-key",
    "revoke"
);

/// Offers a model, whose bytes are in the uploads bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterModel {
    /// The model.
    pub model: Digest,
}

impl Wire for RegisterModel {
    const TYPE: &'static str = "hermesh.register-model";

    fn subject(&self) -> String {
        "hermesh.keys.model".into()
    }

    fn id(&self) -> String {
        format!("{}.register", self.model)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Model", self.model);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let model = Reader::new(message, Self::TYPE).parse("Hermesh-Model")?;
        Ok(Self { model })
    }
}

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
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            code: reader.parse("Hermesh-Code")?,
            message: reader.text("Hermesh-Reason")?.to_owned(),
            retryable: reader.flag("Hermesh-Retryable")?,
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
