//! What to do with a task: a plain function of the task, what is known and the time.

use std::time::Duration;

use hermesh_mesh::{
    Digest, UnixMillis, actor,
    handling::JobError,
    wire::{FailureCode, Task},
};
use serde::{Deserialize, Serialize};

/// Bounds of evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Threads of the compute pool.
    pub threads: usize,
    /// Shards in work at the same time; about as many as threads, so that none is idle.
    pub in_flight: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// Bytes of expanded keys kept.
    pub key_cache_bytes: usize,
    /// Bytes of decoded models kept.
    pub model_cache_bytes: usize,
    /// Tasks that may wait for the actor.
    pub mailbox: usize,
    /// How often a task in work is reported as such; well below the queue's `ack_wait`.
    #[serde(rename = "heartbeat_seconds", with = "hermesh_mesh::seconds")]
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads,
            in_flight: threads,
            max_key_bytes: 256 << 20,
            max_model_bytes: 64 << 20,
            key_cache_bytes: 2 << 30,
            model_cache_bytes: 512 << 20,
            mailbox: 64,
            heartbeat: Duration::from_secs(3),
        }
    }
}

/// What evaluation is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// A task has come.
    Task {
        /// The task.
        task: Box<Task>,
        /// Whether the shard's result is stored already.
        done: bool,
        /// Whether nobody needs the result any more: the job has ended, or gone on to the next stage.
        ended: bool,
        /// Whether the tenant has withdrawn the key.
        revoked: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Compute the shard, publish its result, and say so.
    Compute(Box<Task>),
    /// Say that the shard's result is stored: whoever stored it may have died before saying so.
    Announce(Box<Task>),
    /// Purge the shard's result: it came when nobody needed it any more.
    Forget(Box<Task>),
}

/// Why a shard comes to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too late.
    #[error("the deadline passed {0:?} ago, before all shards were computed")]
    Expired(Duration),
    /// The key was there at admission and is gone now.
    #[error("evaluation key {0} has been revoked while the job ran")]
    KeyRevoked(Digest),
    /// The computation did not take its input.
    #[error("{0}")]
    Rejected(String),
    /// A message, the bus, or a panic.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl JobError for Error {
    fn code(&self) -> Option<FailureCode> {
        match self {
            Self::Expired(_) => Some(FailureCode::Expired),
            Self::KeyRevoked(_) => Some(FailureCode::KeyRevoked),
            Self::Rejected(_) => Some(FailureCode::Computation),
            Self::Mesh(hermesh_mesh::Error::TooLarge { .. }) => Some(FailureCode::TooLarge),
            Self::Mesh(_) => None,
        }
    }

    fn into_mesh(self) -> Option<hermesh_mesh::Error> {
        match self {
            Self::Mesh(error) => Some(error),
            _ => None,
        }
    }
}

/// The decision; it remembers nothing.
#[derive(Debug, Default)]
pub struct Logic;

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        let Input::Task { task, done, ended, revoked } = input;
        if ended {
            return Ok(if done { vec![Effect::Forget(task)] } else { Vec::new() });
        }
        if done {
            return Ok(vec![Effect::Announce(task)]);
        }
        if revoked {
            return Err(Error::KeyRevoked(task.context.key));
        }
        if task.context.deadline <= now {
            return Err(Error::Expired(task.context.deadline.until(now)));
        }
        Ok(vec![Effect::Compute(task)])
    }
}
