use std::{sync::Arc, time::Duration};

use hermesh_mesh::{Error, SigningKey, actor::Environment};

use crate::{Program, config::Range};

/// Evaluation as a program.
#[derive(Debug)]
pub struct Evaluation;

impl Program for Evaluation {
    const NAME: &'static str = "evaluation";
    const COMMAND: &'static str = "hermesh-evaluation";
    const PORT: u16 = 9403;
    const DOCUMENTED: &'static str = include_str!("../../config/evaluation.toml");
    const RANGES: &'static [Range] = &[
        Range::count("service.threads", "threads"),
        Range::count("service.in_flight", "shards"),
        Range::bytes("service.max_key_bytes"),
        Range::bytes("service.max_model_bytes"),
        Range::bytes("service.key_cache_bytes"),
        Range::bytes("service.model_cache_bytes"),
        Range::count("service.mailbox", "tasks"),
        Range::heartbeat("service.heartbeat_seconds"),
    ];

    type Options = hermesh_evaluation::Options;
    type Handle = hermesh_evaluation::Handle;

    async fn start(
        options: Self::Options,
        environment: Environment,
        _: Option<SigningKey>,
    ) -> Result<Self::Handle, Error> {
        hermesh_evaluation::start(options, environment, Arc::new(hermesh_evaluation::Engine)).await
    }

    async fn stop(handle: Self::Handle, patience: Duration) {
        handle.stop(patience).await;
    }
}
