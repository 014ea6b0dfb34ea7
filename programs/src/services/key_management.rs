use std::{sync::Arc, time::Duration};

use hermesh_key_management as service;
use hermesh_mesh::{Error, SigningKey, actor::Environment};

use crate::{Program, config::Range};

/// Key management as a program.
#[derive(Debug)]
pub struct KeyManagement;

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
        Range::bytes("service.max_key_bytes_per_tenant"),
        Range::bytes("service.max_model_bytes_per_tenant"),
        Range::bytes("service.max_key_bytes"),
        Range::bytes("service.max_model_bytes"),
        Range::kept("service.max_audit_entries", "entries"),
        Range::count("service.inspections", "uploads"),
        Range::count("service.mailbox", "requests"),
    ];

    type Options = service::Options;
    type Handle = service::Handle;

    async fn start(
        options: Self::Options,
        environment: Environment,
        _: Option<SigningKey>,
    ) -> Result<Self::Handle, Error> {
        service::start(options, environment, Arc::new(service::Engine)).await
    }

    async fn stop(handle: Self::Handle, patience: Duration) {
        // Tenants repeat their requests, so unfinished ones may be dropped.
        let _ = tokio::time::timeout(patience, handle.stop()).await;
    }
}
