use std::{sync::Arc, time::Duration};

use hermesh_mesh::{Error, SigningKey, actor::Environment};

use crate::{Program, config::Range};

/// Aggregation as a program, the only one that signs.
#[derive(Debug)]
pub struct Aggregation;

impl Program for Aggregation {
    const NAME: &'static str = "aggregation";
    const COMMAND: &'static str = "hermesh-aggregation";
    const PORT: u16 = 9404;
    const DOCUMENTED: &'static str = include_str!("../../config/aggregation.toml");
    const IDENTITY: Option<&'static str> = Some("aggregation.key");
    const RANGES: &'static [Range] = &[
        Range::count("service.lookups_per_shard", "lookups"),
        Range::bytes("service.max_key_bytes"),
        Range::bytes("service.max_model_bytes"),
        Range::bytes("service.key_cache_bytes"),
        Range::bytes("service.model_cache_bytes"),
        Range::count("service.in_flight", "partials"),
        Range::count("service.mailbox", "partials"),
        Range::heartbeat("service.heartbeat_seconds"),
        Range::new("service.sweep_seconds", 0.1, 3600.0, "seconds"),
    ];

    type Options = hermesh_aggregation::Options;
    type Handle = hermesh_aggregation::Handle;

    async fn start(
        options: Self::Options,
        environment: Environment,
        identity: Option<SigningKey>,
    ) -> Result<Self::Handle, Error> {
        let identity = identity.ok_or(Error::Stopped("the identity"))?;
        let engine = Arc::new(hermesh_aggregation::Engine);
        hermesh_aggregation::start(options, environment, engine, identity).await
    }

    async fn stop(handle: Self::Handle, patience: Duration) {
        handle.stop(patience).await;
    }
}
