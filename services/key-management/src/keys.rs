//! The life of an evaluation key: accepted, replaced, retired, revoked.

use std::time::Duration;

use hermesh_mesh::{
    Digest, TenantId, UnixMillis, topology,
    wire::{
        AuditKind, FRESH, KeyRecord, KeyRetires, KeyRevoked, KeyStatus, KeyVersion, ModelRecord,
        ModelStatus, Replaces, UploadEvaluationKey,
    },
};

use crate::{
    Effect, Error, Options, Records,
    logic::{Fact, accepted, audit, bound},
};

/// How long a replaced key is kept after its overlap: jobs admitted under it must run to their end.
const LINGERS: Duration = Duration::from_secs(topology::MAX_DEADLINE.as_secs() + FRESH.as_secs());

/// The records of one tenant's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The record that it was accepted.
    pub record: KeyRecord,
    /// The record that it was replaced.
    pub retires: Option<KeyRetires>,
    /// The record that it was revoked.
    pub revoked: Option<KeyRevoked>,
}

impl Key {
    /// The status that the tenant sees.
    pub fn status(&self) -> KeyStatus {
        let KeyRecord { key, parameters, version, bytes, created, .. } = self.record.clone();
        KeyStatus {
            key,
            parameters,
            version,
            bytes,
            created,
            retires: self.retires.as_ref().map(|fact| fact.retires),
            revoked: self.revoked.as_ref().map(|fact| fact.created),
        }
    }

    /// When its bytes are no longer needed, if it was replaced.
    fn ends(&self) -> Option<UnixMillis> {
        self.retires.as_ref().map(|fact| fact.retires.plus(LINGERS))
    }

    fn needed(&self, now: UnixMillis) -> bool {
        self.revoked.is_none() && self.ends().is_none_or(|end| end > now)
    }
}

pub(crate) fn model_status(record: &ModelRecord) -> ModelStatus {
    let ModelRecord { model, owner, parameters, bytes, created } = record.clone();
    ModelStatus { model, owner, parameters, bytes, created }
}

pub(crate) fn upload(
    options: &Options,
    request: &UploadEvaluationKey,
    records: &Records,
    now: UnixMillis,
) -> Result<Vec<Effect>, Error> {
    let UploadEvaluationKey { tenant, key, replaces, .. } = request;
    let find = |key: Digest| records.keys.iter().find(|known| known.record.key == key);
    if records.revoked.is_some() {
        // Another replica may have stored the bytes while the key was being revoked.
        let refusal = Effect::Refuse(Error::KeyRevoked(*key));
        return Ok(vec![Effect::Discard, Effect::Release(*key), refusal]);
    }
    let own = find(*key);
    match own {
        Some(own) => in_time(own, now)?,
        // Its size is known only after inspection.
        None => room(options, records, now)?,
    }
    let old = match replaces {
        Some(old) if old.key == *key => return Err(Error::ReplacesItself(*key)),
        Some(old) => Some((*old, find(old.key).ok_or(Error::UnknownKey(old.key))?)),
        None => None,
    };
    if own.is_none() || !records.kept {
        let Some(inspected) = &records.inspected else {
            return Ok(vec![Effect::Inspect, Effect::Consult]);
        };
        same_parameters(&inspected.parameters, old)?;
        let mut effects = accept(request, records, inspected.clone(), own.is_some(), now);
        effects.push(Effect::Consult);
        return Ok(effects);
    }
    let own = own.ok_or(Error::UnknownKey(*key))?;
    same_parameters(&own.record.parameters, old)?;
    let mut effects = vec![audit(tenant, own.record.created, AuditKind::KeyAccepted, Some(*key))];
    if let Some((replaces, old)) = old {
        match (&old.retires, &old.revoked) {
            (None, None) => {
                let fact = KeyRetires {
                    tenant: tenant.clone(),
                    key: replaces.key,
                    successor: *key,
                    retires: now.plus(replaces.overlap),
                    created: now,
                };
                return Ok(vec![Effect::Record(Fact::Retires(fact)), Effect::Consult]);
            }
            (Some(fact), _) => {
                let kind = AuditKind::KeyReplaced;
                effects.push(audit(tenant, fact.created, kind, Some(fact.key)));
            }
            // A revoked key is out of use already.
            (None, Some(_)) => {}
        }
    }
    effects.push(Effect::Discard);
    let over = records.keys.iter().filter(|known| !known.needed(now) && known.revoked.is_none());
    effects.extend(over.map(|known| Effect::Release(known.record.key)));
    effects.push(accepted());
    Ok(effects)
}

/// The next records of a key that passed inspection: first its version number, then the key.
fn accept(
    request: &UploadEvaluationKey,
    records: &Records,
    inspected: crate::Inspected,
    recorded: bool,
    now: UnixMillis,
) -> Vec<Effect> {
    let UploadEvaluationKey { tenant, key, .. } = request;
    if recorded {
        return vec![Effect::Keep];
    }
    let mine = records.claims.iter().filter(|claim| claim.key == *key);
    match mine.map(|claim| claim.version).min() {
        None => {
            let claim = KeyVersion {
                tenant: tenant.clone(),
                parameters: inspected.parameters,
                version: records.last_version.saturating_add(1),
                key: *key,
            };
            vec![Effect::Record(Fact::Version(claim))]
        }
        Some(version) => {
            let record = KeyRecord {
                tenant: tenant.clone(),
                key: *key,
                parameters: inspected.parameters,
                bytes: inspected.bytes,
                version,
                created: now,
            };
            vec![Effect::Keep, Effect::Record(Fact::Key(record))]
        }
    }
}

fn in_time(own: &Key, now: UnixMillis) -> Result<(), Error> {
    match &own.retires {
        Some(fact) if fact.retires <= now => {
            Err(Error::KeyRetired { key: fact.key, successor: fact.successor })
        }
        _ => Ok(()),
    }
}

fn same_parameters(new: &str, old: Option<(Replaces, &Key)>) -> Result<(), Error> {
    match old {
        Some((_, old)) if old.record.parameters != new => Err(Error::ParameterMismatch {
            new: new.to_owned(),
            old: old.record.parameters.clone(),
        }),
        _ => Ok(()),
    }
}

/// Checks that the tenant may have one more key.
fn room(options: &Options, records: &Records, now: UnixMillis) -> Result<(), Error> {
    let limit = options.max_key_records_per_tenant;
    bound(
        "keys of one tenant, including revoked and retired ones,",
        records.keys.len(),
        limit,
        "ask the mesh's operator for more",
    )?;
    let needed = || records.keys.iter().filter(|key| key.needed(now));
    let bytes: u64 = needed().map(|key| key.record.bytes).sum();
    let new = records.inspected.as_ref().map_or(0, |inspected| inspected.bytes);
    let (number, size) = (options.max_keys_per_tenant, options.max_key_bytes_per_tenant);
    let (what, limit) = match (needed().count() >= number, bytes + new > size as u64) {
        (true, _) => ("evaluation keys of one tenant", number),
        (_, true) => ("bytes of evaluation keys of one tenant", size),
        _ => return Ok(()),
    };
    Err(Error::NoRoom {
        what,
        limit,
        advice: "revoke one that is no longer used",
        retry_after: needed().filter_map(Key::ends).min().map(|end| now.until(end)),
    })
}

/// The actions for a key's bytes when `tenant` no longer needs them.
pub(crate) fn release(
    tenant: &TenantId,
    key: Digest,
    holders: &[Key],
    now: UnixMillis,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    let own = holders.iter().find(|holder| holder.record.tenant == *tenant);
    if let Some(Key { retires: Some(fact), revoked: None, .. }) = own {
        effects.push(audit(tenant, fact.retires, AuditKind::KeyRetired, Some(key)));
    }
    // Keys are public, so other tenants may have uploaded the same one.
    if !holders.iter().any(|holder| holder.needed(now)) {
        effects.push(Effect::Delete(key));
    }
    effects
}

/// The actions for a stored key during a sweep. A key without records is just being uploaded.
pub(crate) fn sweep(key: Digest, holders: &[Key], now: UnixMillis) -> Vec<Effect> {
    let over = holders.iter().filter(|holder| !holder.needed(now));
    over.flat_map(|holder| release(&holder.record.tenant, key, holders, now)).collect()
}
