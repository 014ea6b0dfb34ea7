//! The decisions of aggregation: a state machine whose only state is the receipt signing key.

use std::time::Duration;

use hermesh_mesh::{
    Digest, Message, SigningKey, UnixMillis, actor,
    handling::JobError,
    wire::{Answer, Context, FailureCode, Partial, Position, Receipt, Status, Step, Wire},
};
use serde::{Deserialize, Serialize};

/// The name under which aggregation publishes.
pub(crate) const SOURCE: &str = "aggregation";

/// Options of aggregation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Lookups in one shard; must equal preprocessing's.
    pub lookups_per_shard: usize,
    /// The largest evaluation key, in bytes.
    pub max_key_bytes: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// Bytes of expanded packing keys in the cache.
    pub key_cache_bytes: usize,
    /// Bytes of decoded models in the cache.
    pub model_cache_bytes: usize,
    /// Partials handled at the same time.
    pub in_flight: usize,
    /// Partials that may wait for the actor.
    pub mailbox: usize,
    /// How often to report a partial as in progress; well below the queue's `ack_wait`.
    #[serde(rename = "heartbeat_seconds", with = "hermesh_mesh::seconds")]
    pub heartbeat: Duration,
    /// How often to look for jobs whose deadline has passed.
    #[serde(rename = "sweep_seconds", with = "hermesh_mesh::seconds")]
    pub sweep: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookups_per_shard: 16,
            max_key_bytes: 256 << 20,
            max_model_bytes: 64 << 20,
            key_cache_bytes: 512 << 20,
            model_cache_bytes: 512 << 20,
            in_flight: 4,
            mailbox: 64,
            heartbeat: Duration::from_secs(5),
            sweep: Duration::from_secs(10),
        }
    }
}

/// An input of the state machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// A partial has been stored.
    Stored {
        /// The job.
        context: Context,
        /// The partial's position.
        position: Position,
        /// How many partials of its stage are stored now.
        stored: usize,
        /// Whether the job has ended, with an answer or a failure.
        ended: bool,
        /// Whether the stage has its stage-complete marker.
        joined: bool,
        /// Whether the tenant has revoked the key.
        revoked: bool,
    },
    /// A stage has been joined.
    Joined {
        /// The job.
        context: Context,
        /// Any partial of the stage.
        position: Position,
        /// The next step of the job.
        step: Step,
    },
    /// The outputs have been packed.
    Packed {
        /// The job.
        context: Context,
        /// The answer ciphertext.
        answer: Vec<u8>,
        /// Fresh random bytes for the receipt.
        nonce: [u8; 16],
    },
}

/// An action to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish the progress.
    Progress(Status),
    /// Read the stage's partials back and join them.
    Join(Box<Context>, Position),
    /// Purge the job's partials.
    Clean(Box<Context>),
    /// Purge the partials of a stage.
    CleanStage(Box<Context>, u32),
    /// Publish a message.
    Publish(Message),
}

/// Why a job ends without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline has passed.
    #[error("the deadline passed {0:?} ago, before the answer was ready")]
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

/// The state machine of aggregation.
#[derive(Debug)]
pub struct Logic {
    identity: SigningKey,
}

impl Logic {
    /// A state machine that signs receipts with `identity`.
    pub fn new(identity: SigningKey) -> Self {
        Self { identity }
    }
}

fn stored(
    context: Context,
    position: Position,
    stored: usize,
    revoked: bool,
    now: UnixMillis,
) -> Result<Vec<Effect>, Error> {
    if revoked {
        return Err(Error::KeyRevoked(context.key));
    }
    if context.deadline <= now {
        return Err(Error::Expired(context.deadline.until(now)));
    }
    let stored = stored.min(position.of as usize) as u64;
    let done = position.done_before + position.stage_lookups * stored / u64::from(position.of);
    let mut effects = vec![Effect::Progress(Status::new(&context, done, position.total))];
    if stored == u64::from(position.of) {
        effects.push(Effect::Join(Box::new(context), position));
    }
    Ok(effects)
}

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        match input {
            Input::Stored { context, ended: true, .. } => {
                Ok(vec![Effect::Clean(Box::new(context))])
            }
            Input::Stored { joined: true, stored: 0, .. } => Ok(Vec::new()),
            // The replica that joined the stage died before the purge, or partials were stored after it.
            Input::Stored { joined: true, context, position, .. } => {
                Ok(vec![Effect::CleanStage(Box::new(context), position.stage)])
            }
            Input::Stored { context, position, stored: count, revoked, .. } => {
                stored(context, position, count, revoked, now)
            }
            Input::Joined { context, position, step } => {
                let done = position.done_before + position.stage_lookups;
                let next = position.stage.saturating_add(1);
                let messages =
                    step.messages(&context, position.lane, next, done, position.total, SOURCE)?;
                Ok(messages.into_iter().map(Effect::Publish).collect())
            }
            Input::Packed { context, answer, nonce } => {
                let answer = Answer {
                    tenant: context.tenant.clone(),
                    receipt: Receipt::new(&context, &answer, nonce, &self.identity),
                    trace: context.trace,
                    body: answer.into(),
                };
                Ok(vec![Effect::Publish(answer.encode(SOURCE))])
            }
        }
    }
}

/// Reads a stage's partial, and checks that it is the one that its subject names.
pub(crate) fn expect_partial(
    message: &Message,
    context: &Context,
    position: &Position,
    shard: u32,
) -> Result<Partial, hermesh_mesh::Error> {
    let partial = Partial::receive(message)?;
    let expected = Position { shard, lookups: partial.position.lookups, ..*position };
    // A partial of the same name computed from another input would falsify an answer that a receipt
    // confirms.
    if !partial.context.agrees_with(context) || partial.position != expected {
        return Err(hermesh_mesh::Error::Malformed {
            what: "partial",
            expected: "one of the same job and stage as the others",
        });
    }
    Ok(partial)
}
