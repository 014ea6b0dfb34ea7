//! A tenant's question before an upload: which parts are already stored.

use super::{
    Reader, Wire,
    listing::{read_json, write_json},
};
use crate::{
    Digest, Error, Message, Signature, SigningKey, TenantId, Transcript, UnixMillis, VerifyingKey,
    objects::Part,
};

/// Asks which parts of an object are already among the tenant's uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    /// The tenant that asks.
    pub tenant: TenantId,
    /// The key or model.
    pub object: Digest,
    /// The time of the question; valid for [`FRESH`](super::FRESH) before and after.
    pub at: UnixMillis,
    /// The tenant's signature.
    pub signature: Signature,
}

impl ListParts {
    /// Signs a question.
    pub fn new(tenant: TenantId, object: Digest, at: UnixMillis, signing: &SigningKey) -> Self {
        let signature = signing.sign(&Self::transcript(&tenant, object, at));
        Self { tenant, object, at, signature }
    }

    /// Checks the tenant's signature.
    pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, self.object, self.at);
        tenant.verify("the list-parts request", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, object: Digest, at: UnixMillis) -> Transcript {
        Transcript::new("hermesh list-parts v1")
            .field(tenant.as_str().as_bytes())
            .field(&object.0)
            .number(at.0)
    }
}

impl Wire for ListParts {
    const TYPE: &'static str = "hermesh.list-parts";

    fn subject(&self) -> String {
        format!("hermesh.keys.list-parts.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.{}.{}.list-parts", self.tenant, self.object, self.at.0)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Object", self.object);
        message.headers.set("Hermesh-At", self.at.0);
        message.headers.set("Hermesh-Signature", self.signature);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            object: reader.parse("Hermesh-Object")?,
            at: UnixMillis(reader.number("Hermesh-At")?),
            signature: reader.parse("Hermesh-Signature")?,
        })
    }
}

/// The reply to [`ListParts`], in order. It may be incomplete: sending a stored part again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartList(pub Vec<Part>);

impl Wire for PartList {
    const TYPE: &'static str = "hermesh.part-list";

    fn subject(&self) -> String {
        "hermesh.reply".into()
    }

    fn id(&self) -> String {
        "part-list".into()
    }

    fn write(&self, message: &mut Message) {
        write_json(message, &self.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        read_json(message, "a JSON array of parts").map(Self)
    }
}
