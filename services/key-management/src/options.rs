//! The operator's options.

use std::collections::BTreeMap;

use hermesh_mesh::{TenantId, VerifyingKey, wire::TenantRecord};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Which tenants may register.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Registration {
    /// Any tenant; the first to register a name keeps it.
    #[default]
    Open,
    /// Only these tenants, with these signing keys. The list overrides the registry: a tenant removed from
    /// it is no longer a tenant, and a signing key changed in it is changed.
    Listed(BTreeMap<TenantId, VerifyingKey>),
}

impl Registration {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// The tenant signing key, given the tenant's record in the registry.
    pub fn signing_key(
        &self,
        tenant: &TenantId,
        record: Option<&TenantRecord>,
    ) -> Option<VerifyingKey> {
        match self {
            Self::Open => record.map(|record| record.key),
            Self::Listed(list) => list.get(tenant).copied(),
        }
    }
}

/// Options of key management.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which tenants may register. In a configuration: tenants and their signing keys; without any,
    /// registration is open.
    #[serde(rename = "tenants", with = "tenants", skip_serializing_if = "Registration::is_open")]
    pub registration: Registration,
    /// The maximum number of tenants.
    pub max_tenants: usize,
    /// The maximum number of stored evaluation keys of a tenant.
    pub max_keys_per_tenant: usize,
    /// The maximum number of evaluation keys of a tenant on record, including revoked and retired ones.
    pub max_key_records_per_tenant: usize,
    /// The maximum number of models of a tenant.
    pub max_models_per_tenant: usize,
    /// The maximum size of all stored evaluation keys of a tenant, in bytes.
    pub max_key_bytes_per_tenant: usize,
    /// The maximum size of all models of a tenant, in bytes.
    pub max_model_bytes_per_tenant: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// The maximum number of audit entries in one reply.
    pub max_audit_entries: usize,
    /// Uploads inspected at the same time; each of them is held in memory.
    pub inspections: usize,
    /// Requests that may wait for the actor.
    pub mailbox: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registration: Registration::default(),
            max_tenants: 10_000,
            max_keys_per_tenant: 16,
            max_key_records_per_tenant: 256,
            max_models_per_tenant: 256,
            max_key_bytes_per_tenant: 1 << 30,
            max_model_bytes_per_tenant: 512 << 20,
            max_key_bytes: 256 << 20,
            max_model_bytes: 64 << 20,
            max_audit_entries: 1_000,
            inspections: 2,
            mailbox: 64,
        }
    }
}

/// The list of tenants in a configuration: `name = "verifying key"`.
mod tenants {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        registration: &Registration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let listed = match registration {
            Registration::Open => None,
            Registration::Listed(list) => Some(list),
        };
        let written = listed.into_iter().flatten();
        to.collect_map(written.map(|(name, key)| (name.to_string(), key.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Registration, D::Error> {
        let written = BTreeMap::<String, String>::deserialize(from)?;
        let read = written.into_iter().map(|(name, key)| {
            let name = name.parse().map_err(D::Error::custom)?;
            Ok((name, key.parse().map_err(D::Error::custom)?))
        });
        read.collect::<Result<_, _>>().map(Registration::Listed)
    }
}
