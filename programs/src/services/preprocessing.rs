use std::{sync::Arc, time::Duration};

use hermesh_mesh::{Error, SigningKey, actor::Environment};

use crate::{Program, config::Range};

/// Preprocessing as a program.
#[derive(Debug)]
pub struct Preprocessing;

impl Program for Preprocessing {
    const NAME: &'static str = "preprocessing";
    const COMMAND: &'static str = "hermesh-preprocessing";
    const PORT: u16 = 9402;
    const DOCUMENTED: &'static str = include_str!("../../config/preprocessing.toml");
    const RANGES: &'static [Range] = &[
        Range::bytes("service.max_input_bytes"),
        Range::new("service.max_deadline_seconds", 1.0, 86_400.0, "seconds"),
        Range::kept("service.max_open_jobs", "jobs"),
        Range::bytes("service.max_open_bytes"),
        Range::new("service.max_job_lookups", 1.0, 1_099_511_627_776.0, "lookups"),
        Range::bytes("service.max_job_memory_bytes"),
        Range::count("service.lookups_per_shard", "lookups"),
        Range::bytes("service.max_model_bytes"),
        Range::bytes("service.model_cache_bytes"),
        Range::count("service.in_flight", "jobs"),
        Range::count("service.mailbox", "jobs"),
        Range::heartbeat("service.heartbeat_seconds"),
    ];

    type Options = hermesh_preprocessing::Options;
    type Handle = hermesh_preprocessing::Handle;

    async fn start(
        options: Self::Options,
        environment: Environment,
        _: Option<SigningKey>,
    ) -> Result<Self::Handle, Error> {
        hermesh_preprocessing::start(options, environment, Arc::new(hermesh_preprocessing::Engine))
            .await
    }

    async fn stop(handle: Self::Handle, patience: Duration) {
        handle.stop(patience).await;
    }
}
