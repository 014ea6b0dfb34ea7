//! A tenant's signed requests to key management.

use std::time::Duration;

use super::{Reader, Wire};
use crate::{Digest, Error, Message, Signature, SigningKey, TenantId, Transcript, VerifyingKey};

/// Binds a tenant's name to a signing key. The first registration of a name counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterTenant {
    /// The name.
    pub tenant: TenantId,
    /// The public half of the key that will sign this tenant's requests.
    pub key: VerifyingKey,
    /// Made with that key: proves that the sender holds it.
    pub signature: Signature,
}

impl RegisterTenant {
    /// Signs a registration.
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

/// The replacement of an older key by a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaces {
    /// The older key; it belongs to the same tenant and parameter set.
    pub key: Digest,
    /// How long new jobs may still use the older key; whole milliseconds.
    pub overlap: Duration,
}

impl Replaces {
    fn overlap_millis(&self) -> u64 {
        u64::try_from(self.overlap.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Offers an evaluation key, whose bytes are among the tenant's uploads. If it replaces an older one, jobs under both
/// keys are admitted until the overlap ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadEvaluationKey {
    /// The key's owner.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The key it replaces.
    pub replaces: Option<Replaces>,
    /// The owner's signature.
    pub signature: Signature,
}

impl UploadEvaluationKey {
    /// Signs an offer of a key that replaces none.
    pub fn new(tenant: TenantId, key: Digest, signing: &SigningKey) -> Self {
        Self::signed(tenant, key, None, signing)
    }

    /// Signs an offer of a key that replaces an older one.
    pub fn rotation(
        tenant: TenantId,
        key: Digest,
        replaces: Replaces,
        signing: &SigningKey,
    ) -> Self {
        Self::signed(tenant, key, Some(replaces), signing)
    }

    fn signed(
        tenant: TenantId,
        key: Digest,
        replaces: Option<Replaces>,
        signing: &SigningKey,
    ) -> Self {
        let signature = signing.sign(&Self::transcript(&tenant, key, replaces));
        Self { tenant, key, replaces, signature }
    }

    /// Checks the owner's signature.
    pub fn verify(&self, owner: &VerifyingKey) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, self.key, self.replaces);
        owner.verify("the key's upload", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, key: Digest, replaces: Option<Replaces>) -> Transcript {
        let transcript = Transcript::new("hermesh upload key v1")
            .field(tenant.as_str().as_bytes())
            .field(&key.0);
        match replaces {
            Some(old) => transcript.field(&old.key.0).number(old.overlap_millis()),
            None => transcript,
        }
    }
}

impl Wire for UploadEvaluationKey {
    const TYPE: &'static str = "hermesh.upload-evaluation-key";

    fn subject(&self) -> String {
        format!("hermesh.keys.upload.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.upload", self.key)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Key", self.key);
        message.headers.set("Hermesh-Signature", self.signature);
        if let Some(replaces) = &self.replaces {
            message.headers.set("Hermesh-Replaces", replaces.key);
            message.headers.set("Hermesh-Overlap", replaces.overlap_millis());
        }
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        let replaces = match reader.parse_optional("Hermesh-Replaces")? {
            Some(key) => Some(Replaces {
                key,
                overlap: Duration::from_millis(reader.number("Hermesh-Overlap")?),
            }),
            None => None,
        };
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            key: reader.parse("Hermesh-Key")?,
            replaces,
            signature: reader.parse("Hermesh-Signature")?,
        })
    }
}

/// Revokes an evaluation key at once and permanently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeKey {
    /// The key's owner.
    pub tenant: TenantId,
    /// The key.
    pub key: Digest,
    /// The owner's signature.
    pub signature: Signature,
}

impl RevokeKey {
    /// Signs a revocation.
    pub fn new(tenant: TenantId, key: Digest, signing: &SigningKey) -> Self {
        let signature = signing.sign(&Self::transcript(&tenant, key));
        Self { tenant, key, signature }
    }

    /// Checks the owner's signature.
    pub fn verify(&self, owner: &VerifyingKey) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, self.key);
        owner.verify("the key's revocation", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, key: Digest) -> Transcript {
        Transcript::new("hermesh revoke key v1").field(tenant.as_str().as_bytes()).field(&key.0)
    }
}

impl Wire for RevokeKey {
    const TYPE: &'static str = "hermesh.revoke-key";

    fn subject(&self) -> String {
        format!("hermesh.keys.revoke.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.revoke", self.key)
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

/// Offers a model, whose bytes are among the tenant's uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterModel {
    /// The tenant that offers it.
    pub tenant: TenantId,
    /// The model.
    pub model: Digest,
    /// The tenant's signature.
    pub signature: Signature,
}

impl RegisterModel {
    /// Signs an offer.
    pub fn new(tenant: TenantId, model: Digest, signing: &SigningKey) -> Self {
        let signature = signing.sign(&Self::transcript(&tenant, model));
        Self { tenant, model, signature }
    }

    /// Checks the tenant's signature.
    pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, self.model);
        tenant.verify("the model's registration", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, model: Digest) -> Transcript {
        Transcript::new("hermesh register model v1")
            .field(tenant.as_str().as_bytes())
            .field(&model.0)
    }
}

impl Wire for RegisterModel {
    const TYPE: &'static str = "hermesh.register-model";

    fn subject(&self) -> String {
        format!("hermesh.keys.model.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.{}.register", self.tenant, self.model)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Model", self.model);
        message.headers.set("Hermesh-Signature", self.signature);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            model: reader.parse("Hermesh-Model")?,
            signature: reader.parse("Hermesh-Signature")?,
        })
    }
}
