//! What key management knows: facts on the bus that are written once and never change, so that any
//! replica may write them, and of two that do at the same time the first counts.

use super::{Reader, Wire};
use crate::{Digest, Error, Message, TenantId, UnixMillis, VerifyingKey};

/// The fact that a tenant's name is bound to a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// The name.
    pub tenant: TenantId,
    /// The key that signs the tenant's statements.
    pub key: VerifyingKey,
    /// Since when.
    pub created: UnixMillis,
}

impl TenantRecord {
    /// All tenants.
    pub const FILTER: &'static str = "hermesh.registry.tenant.*";

    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId) -> String {
        format!("hermesh.registry.tenant.{tenant}")
    }
}

impl Wire for TenantRecord {
    const TYPE: &'static str = "hermesh.tenant-record";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.tenant", self.tenant)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Verifying-Key", self.key);
        message.headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Verifying-Key")?,
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}

/// The fact that a tenant's evaluation key has been checked and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose key it is.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The name of its parameter set.
    pub parameters: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Which of the tenant's keys for this parameter set it is, counted from 1.
    pub version: u32,
    /// Since when.
    pub created: UnixMillis,
}

impl KeyRecord {
    /// All keys of one tenant.
    pub fn tenant_filter(tenant: &TenantId) -> String {
        format!("hermesh.registry.key.{tenant}.*")
    }

    /// All tenants' records of one key: it is public, so several may have uploaded it.
    pub fn key_filter(key: Digest) -> String {
        format!("hermesh.registry.key.*.{key}")
    }

    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId, key: Digest) -> String {
        format!("hermesh.registry.key.{tenant}.{key}")
    }

    /// Whose key, and which, out of the fact's subject.
    pub fn parse_subject(subject: &str) -> Option<(TenantId, Digest)> {
        let mut tokens = subject.rsplit('.');
        let key = tokens.next()?.parse().ok()?;
        Some((tokens.next()?.parse().ok()?, key))
    }
}

impl Wire for KeyRecord {
    const TYPE: &'static str = "hermesh.key-record";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.key)
    }

    fn id(&self) -> String {
        format!("{}.{}.key", self.tenant, self.key)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Key", self.key);
        headers.set("Hermesh-Parameters", &self.parameters);
        headers.set("Hermesh-Bytes", self.bytes);
        headers.set("Hermesh-Key-Version", self.version);
        headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Key")?,
            parameters: reader.text("Hermesh-Parameters")?.to_owned(),
            bytes: reader.number("Hermesh-Bytes")?,
            version: reader.number("Hermesh-Key-Version")?,
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}

/// The fact that a version number is taken, so that no two keys get the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersion {
    /// Whose key it is.
    pub tenant: TenantId,
    /// The name of its parameter set; one token of a subject.
    pub parameters: String,
    /// The number.
    pub version: u32,
    /// The key that has it.
    pub key: Digest,
}

impl KeyVersion {
    /// All numbers taken of one tenant and parameter set.
    pub fn filter(tenant: &TenantId, parameters: &str) -> String {
        format!("hermesh.registry.version.{tenant}.{parameters}.*")
    }

    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId, parameters: &str, version: u32) -> String {
        format!("hermesh.registry.version.{tenant}.{parameters}.{version}")
    }

    /// The number, out of the fact's subject.
    pub fn parse_subject(subject: &str) -> Option<u32> {
        subject.rsplit('.').next()?.parse().ok()
    }
}

impl Wire for KeyVersion {
    const TYPE: &'static str = "hermesh.key-version";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, &self.parameters, self.version)
    }

    fn id(&self) -> String {
        format!("{}.{}.version", self.tenant, self.key)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Parameters", &self.parameters);
        headers.set("Hermesh-Key-Version", self.version);
        headers.set("Hermesh-Key", self.key);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            parameters: reader.text("Hermesh-Parameters")?.to_owned(),
            version: reader.number("Hermesh-Key-Version")?,
            key: reader.parse("Hermesh-Key")?,
        })
    }
}

/// The fact that a key has been replaced, and from when on no new job may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRetires {
    /// Whose key it is.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The key that takes its place.
    pub successor: Digest,
    /// When it retires.
    pub retires: UnixMillis,
    /// When that was stated.
    pub created: UnixMillis,
}

impl KeyRetires {
    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId, key: Digest) -> String {
        format!("hermesh.registry.retires.{tenant}.{key}")
    }
}

impl Wire for KeyRetires {
    const TYPE: &'static str = "hermesh.key-retires";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.key)
    }

    fn id(&self) -> String {
        format!("{}.{}.retires", self.tenant, self.key)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Key", self.key);
        headers.set("Hermesh-Successor", self.successor);
        headers.set("Hermesh-Retires", self.retires.0);
        headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Key")?,
            successor: reader.parse("Hermesh-Successor")?,
            retires: UnixMillis(reader.number("Hermesh-Retires")?),
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}

/// The fact that this tenant's evaluation key must not be used any more, whatever else is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRevoked {
    /// Whose key it is.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// Since when.
    pub created: UnixMillis,
}

impl KeyRevoked {
    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId, key: Digest) -> String {
        format!("hermesh.revoked.{tenant}.{key}")
    }
}

impl Wire for KeyRevoked {
    const TYPE: &'static str = "hermesh.key-revoked";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.key)
    }

    fn id(&self) -> String {
        format!("{}.{}.revoked", self.tenant, self.key)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Key", self.key);
        message.headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Key")?,
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}

/// The fact that a model has been checked and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// The model.
    pub model: Digest,
    /// The first tenant to register it.
    pub owner: TenantId,
    /// The name of its parameter set.
    pub parameters: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Since when.
    pub created: UnixMillis,
}

impl ModelRecord {
    /// Where the fact is kept.
    pub fn subject_of(model: Digest) -> String {
        format!("hermesh.registry.model.{model}")
    }
}

impl Wire for ModelRecord {
    const TYPE: &'static str = "hermesh.model-record";

    fn subject(&self) -> String {
        Self::subject_of(self.model)
    }

    fn id(&self) -> String {
        format!("{}.model", self.model)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Model", self.model);
        headers.set("Hermesh-Tenant", &self.owner);
        headers.set("Hermesh-Parameters", &self.parameters);
        headers.set("Hermesh-Bytes", self.bytes);
        headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            model: reader.parse("Hermesh-Model")?,
            owner: reader.parse("Hermesh-Tenant")?,
            parameters: reader.text("Hermesh-Parameters")?.to_owned(),
            bytes: reader.number("Hermesh-Bytes")?,
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}

/// The fact that a tenant has registered a model, which others may have registered too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOffer {
    /// Who has registered it.
    pub tenant: TenantId,
    /// The model.
    pub model: Digest,
    /// Since when.
    pub created: UnixMillis,
}

impl ModelOffer {
    /// All models that one tenant has registered.
    pub fn filter(tenant: &TenantId) -> String {
        format!("hermesh.registry.offer.{tenant}.*")
    }

    /// Where the fact is kept.
    pub fn subject_of(tenant: &TenantId, model: Digest) -> String {
        format!("hermesh.registry.offer.{tenant}.{model}")
    }

    /// The model, out of the fact's subject.
    pub fn parse_subject(subject: &str) -> Option<Digest> {
        subject.rsplit('.').next()?.parse().ok()
    }
}

impl Wire for ModelOffer {
    const TYPE: &'static str = "hermesh.model-offer";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.model)
    }

    fn id(&self) -> String {
        format!("{}.{}.offer", self.tenant, self.model)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Model", self.model);
        message.headers.set("Hermesh-Created", self.created.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            model: reader.parse("Hermesh-Model")?,
            created: UnixMillis(reader.number("Hermesh-Created")?),
        })
    }
}
