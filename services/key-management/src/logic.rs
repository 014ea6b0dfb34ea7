//! The decisions: a pure function from a request and the registry's records to a list of actions.
//!
//! A request is granted in steps, one record at a time: the first missing record is written, then the
//! registry is read again. The request is granted when all records exist. So a repeated request, at any
//! replica, continues where the first was interrupted, and when two requests race, the first record counts.

use hermesh_mesh::{
    Digest, Message, TenantId, UnixMillis, actor,
    objects::Part,
    wire::{
        AuditEntry, AuditKind, AuditLog, FRESH, KeyList, KeyRecord, KeyRetires, KeyRevoked,
        KeyVersion, ModelList, ModelOffer, ModelRecord, PartList, RegisterModel, RegisterTenant,
        RevokeKey, TenantRecord, Wire,
    },
};

use crate::{Error, Key, Options, Registration, Reply, Request, keys};

/// An input of the decision.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and soon gone")]
pub enum Input {
    /// A request has arrived; with the record of its tenant, if any.
    Asked(Request, Option<TenantRecord>),
    /// The registry's records about an authentic request.
    Known(Request, Box<Records>),
    /// The tenants of a key that one of them no longer needs.
    Held(TenantId, Digest, Vec<Key>),
    /// The tenants of a key whose bytes are stored.
    Kept(Digest, Vec<Key>),
}

/// The registry's records that matter to a request.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The tenant.
    pub tenant: Option<TenantRecord>,
    /// How many tenants there are, if this one is new.
    pub tenants: usize,
    /// The tenant's keys.
    pub keys: Vec<Key>,
    /// The revocation of the key in question.
    pub revoked: Option<KeyRevoked>,
    /// The highest version number taken for the inspected key's parameter set.
    pub last_version: u32,
    /// Version numbers taken for keys that have no record yet.
    pub claims: Vec<KeyVersion>,
    /// The tenant's models.
    pub models: Vec<ModelRecord>,
    /// The model in question.
    pub model: Option<ModelRecord>,
    /// The tenant's offers of models.
    pub offers: Vec<ModelOffer>,
    /// Whether the object's bytes are stored.
    pub kept: bool,
    /// The parts of the object that are uploaded.
    pub parts: Vec<Part>,
    /// The result of inspecting the uploaded bytes.
    pub inspected: Option<Inspected>,
    /// The tenant's newest audit entries, by time.
    pub audit: Vec<AuditEntry>,
}

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The name of the parameter set they are for.
    pub parameters: String,
    /// The number of bytes.
    pub bytes: u64,
}

/// An action; actions are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Inspect the uploaded bytes.
    Inspect,
    /// Store the inspected bytes for the workers.
    Keep,
    /// Publish a record, unless its subject has one already; then that one counts.
    Record(Fact),
    /// Read the registry's records about the request, and return with [`Input::Known`].
    Consult,
    /// Delete the upload.
    Discard,
    /// Read which tenants have this key, and return with [`Input::Held`].
    Release(Digest),
    /// Delete the bytes of this key.
    Delete(Digest),
    /// Grant the request.
    Reply(Reply),
    /// Refuse the request.
    Refuse(Error),
}

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        /// A record in the registry.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $name($type),)*
        }

        impl Fact {
            /// Encodes the whole message.
            pub fn encode(&self, source: &str) -> Message {
                match self { $(Self::$name(fact) => fact.encode(source),)* }
            }
        }
    };
}

facts! {
    /// A tenant's name is bound to a signing key.
    Tenant(TenantRecord),
    /// A version number is taken.
    Version(KeyVersion),
    /// A key is accepted.
    Key(KeyRecord),
    /// A key is replaced.
    Retires(KeyRetires),
    /// A key is revoked.
    Revoked(KeyRevoked),
    /// A tenant offers a model.
    Offer(ModelOffer),
    /// A model is accepted.
    Model(ModelRecord),
    /// An action for the audit log.
    Audit(AuditEntry),
}

/// An entry of the audit log.
pub(crate) fn audit(
    tenant: &TenantId,
    at: UnixMillis,
    kind: AuditKind,
    object: Option<Digest>,
) -> Effect {
    Effect::Record(Fact::Audit(AuditEntry { tenant: tenant.clone(), at, kind, object }))
}

pub(crate) fn accepted() -> Effect {
    Effect::Reply(Reply::Accepted)
}

/// Decides what each tenant may do.
#[derive(Debug)]
pub struct Logic {
    pub(crate) options: Options,
}

impl Logic {
    /// A decision with these options.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Checks that the tenant signed the request, and recently.
    fn asked(
        &self,
        request: &Request,
        record: Option<&TenantRecord>,
        now: UnixMillis,
    ) -> Result<Vec<Effect>, Error> {
        let tenant = request.tenant();
        let known = self.options.registration.signing_key(tenant, record);
        let key = match (request, known) {
            (Request::RegisterTenant(request), _) => request.key,
            (_, Some(key)) => key,
            (_, None) => return Err(Error::UnknownTenant(tenant.clone())),
        };
        if let Err(error) = request.verify(&key) {
            let mut effects = Vec::new();
            if known.is_some() {
                effects.push(audit(tenant, minute(now), AuditKind::SignatureRefused, None));
            }
            effects.push(Effect::Refuse(error.into()));
            return Ok(effects);
        }
        match request {
            Request::ListKeys(question) => fresh(question.at, now)?,
            Request::ListModels(question) => fresh(question.at, now)?,
            Request::ListParts(question) => fresh(question.at, now)?,
            Request::ReadAudit(question) => fresh(question.at, now)?,
            _ => {}
        }
        Ok(vec![Effect::Consult])
    }

    fn known(
        &self,
        request: &Request,
        records: Records,
        now: UnixMillis,
    ) -> Result<Vec<Effect>, Error> {
        match request {
            Request::RegisterTenant(request) => self.register_tenant(request, &records, now),
            Request::UploadKey(request) => keys::upload(&self.options, request, &records, now),
            Request::RevokeKey(request) => revoke(request, &records, now),
            Request::RegisterModel(request) => self.register_model(request, &records, now),
            Request::ListKeys(_) => {
                let mut list: Vec<_> = records.keys.iter().map(Key::status).collect();
                list.sort_by(|a, b| {
                    (&a.parameters, a.version, a.key).cmp(&(&b.parameters, b.version, b.key))
                });
                Ok(vec![Effect::Reply(Reply::Keys(KeyList(list)))])
            }
            Request::ListModels(_) => {
                let mut list: Vec<_> = records.models.iter().map(keys::model_status).collect();
                list.sort_by_key(|model| (model.created, model.model));
                Ok(vec![Effect::Reply(Reply::Models(ModelList(list)))])
            }
            Request::ListParts(_) => Ok(vec![Effect::Reply(Reply::Parts(PartList(records.parts)))]),
            Request::ReadAudit(_) => Ok(vec![Effect::Reply(Reply::Audit(AuditLog(records.audit)))]),
        }
    }

    fn register_tenant(
        &self,
        request: &RegisterTenant,
        records: &Records,
        now: UnixMillis,
    ) -> Result<Vec<Effect>, Error> {
        let tenant = &request.tenant;
        let holder = match (&self.options.registration, &records.tenant) {
            (Registration::Listed(list), _) => {
                let listed = list.get(tenant).filter(|key| **key == request.key);
                Some(*listed.ok_or_else(|| Error::NotListed(tenant.clone()))?)
            }
            (Registration::Open, standing) => standing.as_ref().map(|record| record.key),
        };
        if holder.is_some_and(|key| key != request.key) {
            return Err(Error::TenantTaken(tenant.clone()));
        }
        match &records.tenant {
            Some(standing) => {
                let kind = AuditKind::TenantRegistered;
                Ok(vec![audit(tenant, standing.created, kind, None), accepted()])
            }
            None => {
                let limit = self.options.max_tenants;
                bound("tenants", records.tenants, limit, "ask the mesh's operator for more")?;
                let record =
                    TenantRecord { tenant: tenant.clone(), key: request.key, created: now };
                Ok(vec![Effect::Record(Fact::Tenant(record)), Effect::Consult])
            }
        }
    }

    fn register_model(
        &self,
        request: &RegisterModel,
        records: &Records,
        now: UnixMillis,
    ) -> Result<Vec<Effect>, Error> {
        let RegisterModel { tenant, model, .. } = request;
        let offer = records.offers.iter().find(|offer| offer.model == *model);
        if offer.is_none() {
            let limit = self.options.max_models_per_tenant;
            let advice = "ask the mesh's operator for more";
            bound("models of one tenant", records.offers.len(), limit, advice)?;
            let known = records.model.as_ref().map(|model| model.bytes);
            let new = known.or(records.inspected.as_ref().map(|inspected| inspected.bytes));
            let offered = |known: &&ModelRecord| {
                records.offers.iter().any(|offer| offer.model == known.model)
            };
            let bytes: u64 = records.models.iter().filter(offered).map(|model| model.bytes).sum();
            let limit = self.options.max_model_bytes_per_tenant;
            if bytes + new.unwrap_or_default() > limit as u64 {
                let what = "bytes of models of one tenant";
                return Err(Error::NoRoom { what, limit, advice, retry_after: None });
            }
        }
        let mut effects = Vec::new();
        if records.model.is_none() || !records.kept {
            let Some(inspected) = &records.inspected else {
                return Ok(vec![Effect::Inspect, Effect::Consult]);
            };
            let record = ModelRecord {
                model: *model,
                owner: tenant.clone(),
                parameters: inspected.parameters.clone(),
                bytes: inspected.bytes,
                created: now,
            };
            effects.extend([Effect::Keep, Effect::Record(Fact::Model(record))]);
        }
        match offer {
            None => {
                let (tenant, model) = (tenant.clone(), *model);
                let offer = Fact::Offer(ModelOffer { tenant, model, created: now });
                effects.push(Effect::Record(offer));
            }
            Some(offer) if effects.is_empty() => {
                let kind = AuditKind::ModelAccepted;
                let entry = audit(tenant, offer.created, kind, Some(*model));
                return Ok(vec![entry, Effect::Discard, accepted()]);
            }
            Some(_) => {}
        }
        effects.push(Effect::Consult);
        Ok(effects)
    }
}

fn revoke(request: &RevokeKey, records: &Records, now: UnixMillis) -> Result<Vec<Effect>, Error> {
    let RevokeKey { tenant, key, .. } = request;
    match &records.revoked {
        Some(standing) => Ok(vec![
            audit(tenant, standing.created, AuditKind::KeyRevoked, Some(*key)),
            Effect::Release(*key),
            accepted(),
        ]),
        None if records.keys.iter().any(|known| known.record.key == *key) => {
            let fact = KeyRevoked { tenant: tenant.clone(), key: *key, created: now };
            Ok(vec![Effect::Record(Fact::Revoked(fact)), Effect::Consult])
        }
        None => Err(Error::UnknownKey(*key)),
    }
}

fn fresh(at: UnixMillis, now: UnixMillis) -> Result<(), Error> {
    if at.until(now).max(now.until(at)) <= FRESH { Ok(()) } else { Err(Error::Stale { at, now }) }
}

fn minute(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0 - now.0 % 60_000)
}

pub(crate) fn bound(
    what: &'static str,
    count: usize,
    limit: usize,
    advice: &'static str,
) -> Result<(), Error> {
    if count < limit {
        return Ok(());
    }
    Err(Error::NoRoom { what, limit, advice, retry_after: None })
}

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        match input {
            Input::Asked(request, tenant) => self.asked(&request, tenant.as_ref(), now),
            Input::Known(request, records) => self.known(&request, *records, now),
            Input::Held(tenant, key, holders) => Ok(keys::release(&tenant, key, &holders, now)),
            Input::Kept(key, holders) => Ok(keys::sweep(key, &holders, now)),
        }
    }
}
