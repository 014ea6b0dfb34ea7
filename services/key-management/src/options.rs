//! What an operator may choose.

use std::collections::BTreeMap;

use hermesh_mesh::{TenantId, VerifyingKey, wire::TenantRecord};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Who may become a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Registration {
    /// Whoever asks: the first to come keeps a name.
    #[default]
    Open,
    /// These, with these signing keys, and nobody else. The list is the last word: a tenant that is
    /// taken off it is no tenant any more, and a signing key that is changed in it is changed.
    Listed(BTreeMap<TenantId, VerifyingKey>),
}

impl Registration {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// The key that signs a tenant's statements, given what the registry says of the tenant.
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

/// Bounds of key management.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Who may become a tenant. In a configuration: the tenants and their signing keys; none means
    /// whoever asks.
    #[serde(rename = "tenants", with = "tenants", skip_serializing_if = "Registration::is_open")]
    pub registration: Registration,
    /// The most tenants.
    pub max_tenants: usize,
    /// The most evaluation keys of one tenant whose bytes are kept.
    pub max_keys_per_tenant: usize,
    /// The most evaluation keys of one tenant that are remembered, withdrawn and retired ones included.
    pub max_key_records_per_tenant: usize,
    /// The most models of one tenant.
    pub max_models_per_tenant: usize,
    /// The most bytes of evaluation keys of one tenant that are kept.
    pub max_key_bytes_per_tenant: usize,
    /// The most bytes of models of one tenant.
    pub max_model_bytes_per_tenant: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// The most audit entries in one answer.
    pub max_audit_entries: usize,
    /// Uploads inspected at the same time; each is held in memory.
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

/// The list of tenants as it is written: `name = "verifying key"`.
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
