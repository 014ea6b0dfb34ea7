//! Decides what to do with a task: a pure function of the task, the known state and the time.

use std::time::Duration;

use hermesh_mesh::{
    Digest, UnixMillis, actor,
    handling::JobError,
    wire::{FailureCode, Task},
};
use serde::{Deserialize, Serialize};

/// Options of evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Threads of the compute pool.
    pub threads: usize,
    /// Shards in progress at the same time; about as many as threads, so that no thread is idle.
    pub in_flight: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// Bytes of expanded keys in the cache.
    pub key_cache_bytes: usize,
    /// Bytes of decoded models in the cache.
    pub model_cache_bytes: usize,
    /// Tasks that may wait for the actor.
    pub mailbox: usize,
    /// How often to report a task as in progress; well below the queue's `ack_wait`.
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

/// An input of the decision.
#[derive(Debug, Clone)]
pub enum Input {
    /// A task has arrived.
    Task {
        /// The task.
        task: Box<Task>,
        /// Whether the shard's result is stored already.
        done: bool,
        /// Whether the result is no longer needed: the job has ended, or has reached the next stage.
        ended: bool,
        /// Whether the tenant has revoked the key.
        revoked: bool,
    },
}

/// An action to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Compute the shard, publish its result, then the partial-stored notice.
    Compute(Box<Task>),
    /// Publish the notice only: the result is stored, but the worker that stored it may have died before.
    Announce(Box<Task>),
    /// Purge the shard's result: it was stored when it was no longer needed.
    Forget(Box<Task>),
}

/// Why a shard has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline has passed.
    #[error("the deadline passed {0:?} ago, before all shards were computed")]
    Expired(Duration),
    /// The key was revoked after admission.
    #[error("evaluation key {0} was revoked while the job ran")]
    KeyRevoked(Digest),
    /// The computation rejected its input.
    #[error("{0}")]
    Rejected(String),
    /// A message is malformed, the bus failed, or a computation panicked.
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

/// The decision; it has no state.
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
