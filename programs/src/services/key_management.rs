use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hermesh_key_management as service;
use hermesh_mesh::{Error, SigningKey, TenantId, VerifyingKey, actor::Environment};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Program, config::Range};

/// Key management as a program.
#[derive(Debug)]
pub struct KeyManagement;

/// The written form of its options; see there for what they mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct KeyManagementOptions {
    pub max_tenants: usize,
    pub max_keys_per_tenant: usize,
    pub max_key_records_per_tenant: usize,
    pub max_models_per_tenant: usize,
    pub max_key_bytes: usize,
    pub max_model_bytes: usize,
    pub max_audit_entries: usize,
    pub inspections: usize,
    pub mailbox: usize,
    /// The tenants and their signing keys; none: whoever asks may become one.
    #[serde(with = "tenants", skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeMap<TenantId, VerifyingKey>>,
}

impl Default for KeyManagementOptions {
    fn default() -> Self {
        let options = service::Options::default();
        Self {
            max_tenants: options.max_tenants,
            max_keys_per_tenant: options.max_keys_per_tenant,
            max_key_records_per_tenant: options.max_key_records_per_tenant,
            max_models_per_tenant: options.max_models_per_tenant,
            max_key_bytes: options.max_key_bytes,
            max_model_bytes: options.max_model_bytes,
            max_audit_entries: options.max_audit_entries,
            inspections: options.inspections,
            mailbox: options.mailbox,
            tenants: None,
        }
    }
}

impl From<KeyManagementOptions> for service::Options {
    fn from(options: KeyManagementOptions) -> Self {
        Self {
            registration: options
                .tenants
                .map_or(service::Registration::Open, service::Registration::Listed),
            max_tenants: options.max_tenants,
            max_keys_per_tenant: options.max_keys_per_tenant,
            max_key_records_per_tenant: options.max_key_records_per_tenant,
            max_models_per_tenant: options.max_models_per_tenant,
            max_key_bytes: options.max_key_bytes,
            max_model_bytes: options.max_model_bytes,
            max_audit_entries: options.max_audit_entries,
            inspections: options.inspections,
            mailbox: options.mailbox,
        }
    }
}

mod tenants {
    use super::*;

    type Tenants = Option<BTreeMap<TenantId, VerifyingKey>>;

    pub(super) fn serialize<S: Serializer>(tenants: &Tenants, to: S) -> Result<S::Ok, S::Error> {
        let written =
            tenants.iter().flatten().map(|(name, key)| (name.to_string(), key.to_string()));
        to.collect_map(written)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tenants, D::Error> {
        let written = BTreeMap::<String, String>::deserialize(from)?;
        let read = written.into_iter().map(|(name, key)| {
            let name = name.parse().map_err(D::Error::custom)?;
            Ok((name, key.parse().map_err(D::Error::custom)?))
        });
        read.collect::<Result<_, _>>().map(Some)
    }
}

impl Program for KeyManagement {
    const NAME: &'static str = "key-management";
    const COMMAND: &'static str = "hermesh-key-management";
    const PORT: u16 = 9401;
    const DOCUMENTED: &'static str = include_str!("../../config/key-management.toml");
    const RANGES: &'static [Range] = &[
        Range::kept("service.max_tenants", "tenants"),
        Range::kept("service.max_keys_per_tenant", "keys"),
        Range::kept("service.max_key_records_per_tenant", "keys"),
        Range::kept("service.max_models_per_tenant", "models"),
        Range::bytes("service.max_key_bytes"),
        Range::bytes("service.max_model_bytes"),
        Range::kept("service.max_audit_entries", "entries"),
        Range::count("service.inspections", "uploads"),
        Range::count("service.mailbox", "requests"),
    ];

    type Options = KeyManagementOptions;
    type Handle = service::Handle;

    async fn start(
        options: Self::Options,
        environment: Environment,
        _: Option<SigningKey>,
    ) -> Result<Self::Handle, Error> {
        service::start(options.into(), environment, Arc::new(service::Engine)).await
    }

    async fn stop(handle: Self::Handle, patience: Duration) {
        // Requests are short and their askers repeat them: what takes longer is left.
        let _ = tokio::time::timeout(patience, handle.stop()).await;
    }
}
