//! The registry: a plain state machine.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use hermesh_mesh::{
    Digest, TenantId, UnixMillis, VerifyingKey, actor,
    wire::{
        Facts, FactsQuery, FailureCode, KeyFacts, ModelFacts, RegisterModel, RegisterTenant,
        RevokeKey, UploadEvaluationKey,
    },
};

/// Bounds of key management.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most tenants.
    pub max_tenants: usize,
    /// The most evaluation keys of one tenant, revoked ones included.
    pub max_keys_per_tenant: usize,
    /// The most models.
    pub max_models: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// The most entries of the audit log held in memory.
    pub max_audit_entries: usize,
    /// Requests that may wait for the actor.
    pub mailbox: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_tenants: 10_000,
            max_keys_per_tenant: 16,
            max_models: 1_000,
            max_key_bytes: 256 << 20,
            max_model_bytes: 256 << 20,
            max_audit_entries: 10_000,
            mailbox: 64,
        }
    }
}

/// Which kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An evaluation key of this tenant.
    Key(TenantId),
    /// A model.
    Model,
}

/// What key management is told or asked.
#[derive(Debug, Clone)]
pub enum Input {
    /// A tenant wants a name.
    RegisterTenant(RegisterTenant),
    /// A tenant offers a key.
    UploadKey(UploadEvaluationKey),
    /// A tenant withdraws a key.
    RevokeKey(RevokeKey),
    /// Somebody offers a model.
    RegisterModel(RegisterModel),
    /// An offered object turned out well formed, for this parameter set.
    Inspected(Kind, Digest, String),
    /// A service asks about a job.
    Query(FactsQuery),
    /// The audit log, newest entry last.
    Audit,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at the uploaded bytes; if they are well formed, keep them for the workers and come back
    /// with [`Input::Inspected`].
    Inspect(Kind, Digest),
    /// Tell everybody, and delete the key's bytes if nobody else uses them.
    Withdraw {
        /// Whose key it is.
        tenant: TenantId,
        /// The key.
        key: Digest,
        /// Whether nobody uses the same bytes.
        unused: bool,
    },
    /// Answer the request.
    Reply(Reply),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Granted.
    Accepted,
    /// What is known.
    Facts(Box<Facts>),
    /// The audit log.
    Audit(Vec<AuditEntry>),
}

/// One line of the audit log. No payload and no key material is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMillis,
    /// Who, as far as a tenant is concerned.
    pub tenant: Option<TenantId>,
    /// What was done.
    pub action: &'static str,
    /// To what.
    pub object: Option<Digest>,
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at.0, self.action)?;
        if let Some(tenant) = &self.tenant {
            write!(f, " tenant={tenant}")?;
        }
        if let Some(object) = &self.object {
            write!(f, " object={object}")?;
        }
        Ok(())
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is bound to another key.
    #[error("tenant {0} is registered with another signing key; choose another name")]
    TenantTaken(TenantId),
    /// No such tenant.
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    /// No such key.
    #[error("evaluation key {0} has not been uploaded by this tenant")]
    UnknownKey(Digest),
    /// The key was withdrawn, which is final.
    #[error("evaluation key {0} has been revoked; make a new one")]
    KeyRevoked(Digest),
    /// A bound is reached.
    #[error("there is no room for more than {limit} {what}")]
    NoRoom {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The bytes are not what they should be.
    #[error("{0}")]
    Rejected(String),
    /// A message or the bus.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl Error {
    /// The code on the wire.
    pub fn code(&self) -> FailureCode {
        use hermesh_mesh::Error as Mesh;
        match self {
            Self::TenantTaken(_) => FailureCode::TenantRefused,
            Self::UnknownTenant(_) => FailureCode::UnknownTenant,
            Self::UnknownKey(_) => FailureCode::UnknownKey,
            Self::KeyRevoked(_) => FailureCode::KeyRevoked,
            Self::NoRoom { .. } => FailureCode::Overloaded,
            Self::Rejected(_) => FailureCode::Malformed,
            Self::Mesh(Mesh::BadSignature { .. }) => FailureCode::BadSignature,
            Self::Mesh(Mesh::DigestMismatch { .. } | Mesh::NoObject { .. }) => {
                FailureCode::DigestMismatch
            }
            Self::Mesh(Mesh::TooLarge { .. }) => FailureCode::TooLarge,
            Self::Mesh(Mesh::Full { .. }) => FailureCode::Overloaded,
            Self::Mesh(error) if error.retryable() => FailureCode::Internal,
            Self::Mesh(_) => FailureCode::Malformed,
        }
    }

    /// Whether the same request may be granted later.
    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }
}

/// Tenants, keys and models.
#[derive(Debug)]
pub struct Logic {
    options: Options,
    tenants: HashMap<TenantId, Tenant>,
    // By owner: an evaluation key is public, so somebody else may have uploaded the same bytes.
    keys: HashMap<(TenantId, Digest), KeyFacts>,
    models: HashMap<Digest, ModelFacts>,
    audit: VecDeque<AuditEntry>,
}

#[derive(Debug)]
struct Tenant {
    key: VerifyingKey,
    evaluation_keys: usize,
}

impl Logic {
    /// An empty registry.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            tenants: HashMap::new(),
            keys: HashMap::new(),
            models: HashMap::new(),
            audit: VecDeque::new(),
        }
    }

    fn register_tenant(&mut self, request: RegisterTenant, now: UnixMillis) -> Result<(), Error> {
        request.verify()?;
        if let Some(tenant) = self.tenants.get(&request.tenant) {
            return if tenant.key == request.key {
                Ok(())
            } else {
                Err(Error::TenantTaken(request.tenant))
            };
        }
        bound("tenants", self.tenants.len(), self.options.max_tenants)?;
        let tenant = Tenant { key: request.key, evaluation_keys: 0 };
        self.tenants.insert(request.tenant.clone(), tenant);
        self.log(now, Some(&request.tenant), "tenant registered", None);
        Ok(())
    }

    fn tenant(&self, name: &TenantId) -> Result<&Tenant, Error> {
        self.tenants.get(name).ok_or_else(|| Error::UnknownTenant(name.clone()))
    }

    fn offer_key(&self, request: &UploadEvaluationKey) -> Result<Effect, Error> {
        let tenant = self.tenant(&request.tenant)?;
        request.verify(&tenant.key)?;
        match self.keys.get(&(request.tenant.clone(), request.key)) {
            Some(key) if key.revoked => Err(Error::KeyRevoked(request.key)),
            Some(_) => Ok(Effect::Reply(Reply::Accepted)),
            None => {
                let limit = self.options.max_keys_per_tenant;
                bound("evaluation keys of one tenant", tenant.evaluation_keys, limit)?;
                Ok(Effect::Inspect(Kind::Key(request.tenant.clone()), request.key))
            }
        }
    }

    fn revoke_key(&mut self, request: &RevokeKey, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        request.verify(&self.tenant(&request.tenant)?.key)?;
        let key = self
            .keys
            .get_mut(&(request.tenant.clone(), request.key))
            .ok_or(Error::UnknownKey(request.key))?;
        if !std::mem::replace(&mut key.revoked, true) {
            self.log(now, Some(&request.tenant), "key revoked", Some(request.key));
        }
        // Repeated for a key that is revoked already, should the first announcement have been lost.
        let unused = !self.keys.iter().any(|((_, key), f)| *key == request.key && !f.revoked);
        let withdraw =
            Effect::Withdraw { tenant: request.tenant.clone(), key: request.key, unused };
        Ok(vec![withdraw, Effect::Reply(Reply::Accepted)])
    }

    fn offer_model(&self, request: &RegisterModel) -> Result<Effect, Error> {
        if self.models.contains_key(&request.model) {
            return Ok(Effect::Reply(Reply::Accepted));
        }
        bound("models", self.models.len(), self.options.max_models)?;
        Ok(Effect::Inspect(Kind::Model, request.model))
    }

    fn inspected(
        &mut self,
        kind: Kind,
        object: Digest,
        parameters: String,
        now: UnixMillis,
    ) -> Result<Vec<Effect>, Error> {
        // Looked at again: other requests have been handled while this object was inspected.
        match &kind {
            Kind::Key(owner) => match self.keys.get(&(owner.clone(), object)) {
                Some(key) if key.revoked => return Err(Error::KeyRevoked(object)),
                Some(_) => {}
                None => {
                    let limit = self.options.max_keys_per_tenant;
                    let tenant = self
                        .tenants
                        .get_mut(owner)
                        .ok_or_else(|| Error::UnknownTenant(owner.clone()))?;
                    bound("evaluation keys of one tenant", tenant.evaluation_keys, limit)?;
                    tenant.evaluation_keys += 1;
                    let facts = KeyFacts { owner: owner.clone(), parameters, revoked: false };
                    self.keys.insert((owner.clone(), object), facts);
                    self.log(now, Some(owner), "key accepted", Some(object));
                }
            },
            Kind::Model => {
                bound("models", self.models.len(), self.options.max_models)?;
                let new = self.models.insert(object, ModelFacts { parameters });
                if new.is_none() {
                    self.log(now, None, "model accepted", Some(object));
                }
            }
        }
        Ok(vec![Effect::Reply(Reply::Accepted)])
    }

    fn facts(&self, query: &FactsQuery) -> Facts {
        Facts {
            tenant: self.tenants.get(&query.tenant).map(|tenant| tenant.key),
            key: self.keys.get(&(query.tenant.clone(), query.key)).cloned(),
            model: self.models.get(&query.model).cloned(),
        }
    }

    fn log(
        &mut self,
        at: UnixMillis,
        tenant: Option<&TenantId>,
        action: &'static str,
        object: Option<Digest>,
    ) {
        let entry = AuditEntry { at, tenant: tenant.cloned(), action, object };
        tracing::info!(target: "audit", "{entry}");
        if self.audit.len() >= self.options.max_audit_entries {
            self.audit.pop_front();
        }
        self.audit.push_back(entry);
    }
}

fn bound(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    if count < limit { Ok(()) } else { Err(Error::NoRoom { what, limit }) }
}

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        let effect = match input {
            Input::RegisterTenant(request) => {
                self.register_tenant(request, now)?;
                Effect::Reply(Reply::Accepted)
            }
            Input::UploadKey(request) => self.offer_key(&request)?,
            Input::RevokeKey(request) => return self.revoke_key(&request, now),
            Input::RegisterModel(request) => self.offer_model(&request)?,
            Input::Inspected(kind, object, parameters) => {
                return self.inspected(kind, object, parameters, now);
            }
            Input::Query(query) => Effect::Reply(Reply::Facts(Box::new(self.facts(&query)))),
            Input::Audit => Effect::Reply(Reply::Audit(self.audit.iter().cloned().collect())),
        };
        Ok(vec![effect])
    }
}
