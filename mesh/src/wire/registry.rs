//! Key management's records on the bus. A record is written once and never changed, so any replica may write it; if two
//! write the same record, the first counts.

use super::{Reader, Wire};
use crate::{Digest, Error, Message, TenantId, UnixMillis, VerifyingKey};

/// Record that a tenant's name is bound to a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// The name.
    pub tenant: TenantId,
    /// The tenant signing key's public half.
    pub key: VerifyingKey,
    /// When it was registered.
    pub created: UnixMillis,
}

impl TenantRecord {
    /// All tenants.
    pub const FILTER: &'static str = "hermesh.registry.tenant.*";

    /// The subject of the record.
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

/// Record that a tenant's evaluation key was checked and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The name of its parameter set.
    pub parameters: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its number among the tenant's keys for this parameter set, counted from 1.
    pub version: u32,
    /// When it was accepted.
    pub created: UnixMillis,
}

impl KeyRecord {
    /// All keys of one tenant.
    pub fn tenant_filter(tenant: &TenantId) -> String {
        format!("hermesh.registry.key.{tenant}.*")
    }

    /// Records of one key by any tenant: evaluation keys are public, so several tenants may have uploaded the same one.
    pub fn key_filter(key: Digest) -> String {
        format!("hermesh.registry.key.*.{key}")
    }

    /// The subject of the record.
    pub fn subject_of(tenant: &TenantId, key: Digest) -> String {
        format!("hermesh.registry.key.{tenant}.{key}")
    }

    /// Tenant and key, from the record's subject.
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

/// Record that a version number is taken. It prevents two keys from getting the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersion {
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The name of its parameter set; one token of a subject.
    pub parameters: String,
    /// The number.
    pub version: u32,
    /// The key with this number.
    pub key: Digest,
}

impl KeyVersion {
    /// All version numbers taken by one tenant for one parameter set.
    pub fn filter(tenant: &TenantId, parameters: &str) -> String {
        format!("hermesh.registry.version.{tenant}.{parameters}.*")
    }

    /// The subject of the record.
    pub fn subject_of(tenant: &TenantId, parameters: &str, version: u32) -> String {
        format!("hermesh.registry.version.{tenant}.{parameters}.{version}")
    }

    /// The number, from the record's subject.
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

/// Record that a key was replaced, and from when no new job may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRetires {
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The key that replaces it.
    pub successor: Digest,
    /// When it retires.
    pub retires: UnixMillis,
    /// When the record was made.
    pub created: UnixMillis,
}

impl KeyRetires {
    /// The subject of the record.
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

/// Record that a tenant's evaluation key is revoked; it overrides all other records of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRevoked {
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// When it was revoked.
    pub created: UnixMillis,
}

impl KeyRevoked {
    /// The subject of the record.
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

/// Record that a model was checked and accepted.
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
    /// When it was accepted.
    pub created: UnixMillis,
}

impl ModelRecord {
    /// The subject of the record.
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

/// Record that a tenant registered a model. Other tenants may have registered the same model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOffer {
    /// The tenant that registered it.
    pub tenant: TenantId,
    /// The model.
    pub model: Digest,
    /// When it was registered.
    pub created: UnixMillis,
}

impl ModelOffer {
    /// All models that one tenant has registered.
    pub fn filter(tenant: &TenantId) -> String {
        format!("hermesh.registry.offer.{tenant}.*")
    }

    /// The subject of the record.
    pub fn subject_of(tenant: &TenantId, model: Digest) -> String {
        format!("hermesh.registry.offer.{tenant}.{model}")
    }

    /// The model, from the record's subject.
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
