//! Admission: a plain state machine.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, Signature, TenantId, UnixMillis, actor, topology,
    wire::{Facts, FailureCode, Job},
};

/// Bounds of preprocessing.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest encrypted input, in bytes.
    pub max_input_bytes: usize,
    /// The furthest deadline accepted; at most [`topology::MAX_DEADLINE`].
    pub max_deadline: Duration,
    /// The most jobs of one tenant that are remembered, so that none of them runs twice.
    pub max_jobs_per_tenant: usize,
    /// Lookups in one shard: enough to use the evaluation key well while it is at hand, few enough
    /// to keep every core busy.
    pub lookups_per_shard: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// Bytes of decoded models kept.
    pub model_cache_bytes: usize,
    /// Jobs begun at the same time.
    pub in_flight: usize,
    /// Jobs that may wait for the actor.
    pub mailbox: usize,
    /// How often a job in work is reported as such; well below the queue's `ack_wait`.
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_input_bytes: 16 << 20,
            max_deadline: topology::MAX_DEADLINE,
            max_jobs_per_tenant: 100_000,
            lookups_per_shard: 16,
            max_model_bytes: 256 << 20,
            model_cache_bytes: 512 << 20,
            in_flight: 2,
            mailbox: 64,
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// What preprocessing is asked.
#[derive(Debug, Clone)]
pub enum Input {
    /// May this job run?
    Admit {
        /// The job.
        job: Box<Job>,
        /// What key management knows.
        facts: Box<Facts>,
        /// What is known of the job's name.
        name: Name,
    },
    /// The job's name now stands for the submission with this signature.
    Claimed {
        /// The job.
        job: Box<Job>,
        /// What key management knows.
        facts: Box<Facts>,
        /// That signature.
        holder: Signature,
    },
}

/// What is known of a job's name, which is durable and the same for all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Name {
    /// The signature of the submission it stands for, if any.
    pub holder: Option<Signature>,
    /// Whether that job has ended, with an answer or a failure.
    pub ended: bool,
    /// How many names the tenant has in use.
    pub in_use: usize,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make the job's name stand for it, if it stands for none yet, and come back with
    /// [`Input::Claimed`].
    Claim(Box<Job>, Box<Facts>),
    /// Begin the job.
    Begin(Box<Job>),
}

/// Why a job is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too many bytes.
    #[error("the input is {got} bytes, at most {limit} are accepted; send fewer rows in one job")]
    TooLarge {
        /// Bytes that came.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// Too late.
    #[error("the deadline passed {0:?} ago")]
    Expired(Duration),
    /// Too far away.
    #[error("the deadline is {got:?} away, at most {limit:?} is accepted")]
    DeadlineTooFar {
        /// How far away it is.
        got: Duration,
        /// The limit.
        limit: Duration,
    },
    /// No such tenant.
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    /// No such key.
    #[error("evaluation key {0} is not known; upload it first")]
    UnknownKey(Digest),
    /// Somebody else's key.
    #[error("evaluation key {0} belongs to another tenant")]
    WrongKeyOwner(Digest),
    /// A withdrawn key.
    #[error("evaluation key {0} has been revoked; make a new one")]
    KeyRevoked(Digest),
    /// No such model.
    #[error("model {0} is not known; register it first")]
    UnknownModel(Digest),
    /// Key and model do not go together.
    #[error(
        "the model needs parameter set {model}, the evaluation key is for {key}; make a key for this model"
    )]
    ParameterMismatch {
        /// The model's set.
        model: String,
        /// The key's set.
        key: String,
    },
    /// A used identifier.
    #[error("job {0} has been submitted before")]
    Replay(JobId),
    /// No memory left for another job.
    #[error("{0} jobs of this tenant are remembered, no more are accepted now; try again later")]
    Overloaded(usize),
    /// The input is not what the model takes.
    #[error("{0}")]
    Rejected(String),
    /// A message or the bus.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl Error {
    /// Whether the job was refused before its name was known to be its own. Such a refusal must not
    /// become the outcome of whatever the name stands for.
    pub fn before_admission(&self) -> bool {
        use hermesh_mesh::Error as Mesh;
        matches!(
            self,
            Self::UnknownTenant(_)
                | Self::TooLarge { .. }
                | Self::Expired(_)
                | Self::DeadlineTooFar { .. }
                | Self::Replay(_)
                | Self::Overloaded(_)
                | Self::Mesh(Mesh::BadSignature { .. } | Mesh::DigestMismatch { .. })
        )
    }

    /// The code on the wire, if the job is refused for good; none if it is to be tried again.
    pub fn code(&self) -> Option<FailureCode> {
        use hermesh_mesh::Error as Mesh;
        Some(match self {
            Self::TooLarge { .. } => FailureCode::TooLarge,
            Self::Expired(_) => FailureCode::Expired,
            Self::DeadlineTooFar { .. } => FailureCode::DeadlineTooFar,
            Self::UnknownTenant(_) => FailureCode::UnknownTenant,
            Self::UnknownKey(_) => FailureCode::UnknownKey,
            Self::WrongKeyOwner(_) => FailureCode::WrongKeyOwner,
            Self::KeyRevoked(_) => FailureCode::KeyRevoked,
            Self::UnknownModel(_) => FailureCode::UnknownModel,
            Self::ParameterMismatch { .. } => FailureCode::ParameterMismatch,
            Self::Replay(_) => FailureCode::Replay,
            Self::Overloaded(_) => FailureCode::Overloaded,
            Self::Rejected(_) => FailureCode::Malformed,
            Self::Mesh(Mesh::BadSignature { .. }) => FailureCode::BadSignature,
            Self::Mesh(Mesh::DigestMismatch { .. }) => FailureCode::DigestMismatch,
            Self::Mesh(Mesh::TooLarge { .. }) => FailureCode::TooLarge,
            Self::Mesh(_) => return None,
        })
    }
}

/// The gate. It remembers nothing itself: which jobs have passed is on the bus.
#[derive(Debug)]
pub struct Logic {
    options: Options,
}

impl Logic {
    /// A gate with these bounds.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Is it the tenant who speaks, in time, and not about another job? Until that is known, nothing
    /// may be done in the job's name.
    fn admit(&self, job: &Job, facts: &Facts, name: Name, now: UnixMillis) -> Result<(), Error> {
        let context = &job.context;
        let tenant = facts.tenant.as_ref();
        let tenant = tenant.ok_or_else(|| Error::UnknownTenant(context.tenant.clone()))?;
        let (got, limit) = (job.input.len(), self.options.max_input_bytes);
        if got > limit {
            return Err(Error::TooLarge { got, limit });
        }
        job.verify(tenant)?;
        if context.deadline <= now {
            return Err(Error::Expired(context.deadline.until(now)));
        }
        let (got, limit) = (now.until(context.deadline), self.options.max_deadline);
        if got > limit {
            return Err(Error::DeadlineTooFar { got, limit });
        }
        match name.holder {
            Some(holder) => only_for(job, holder),
            None if name.in_use >= self.options.max_jobs_per_tenant => {
                Err(Error::Overloaded(self.options.max_jobs_per_tenant))
            }
            None => Ok(()),
        }
    }
}

fn only_for(job: &Job, holder: Signature) -> Result<(), Error> {
    if job.signature == holder { Ok(()) } else { Err(Error::Replay(job.context.job)) }
}

/// May the tenant use this key with this model?
fn permit(job: &Job, facts: &Facts) -> Result<(), Error> {
    let context = &job.context;
    let key = facts.key.as_ref().ok_or(Error::UnknownKey(context.key))?;
    if key.owner != context.tenant {
        return Err(Error::WrongKeyOwner(context.key));
    }
    if key.revoked {
        return Err(Error::KeyRevoked(context.key));
    }
    let model = facts.model.as_ref();
    let model = model.ok_or(Error::UnknownModel(context.model))?;
    if model.parameters != key.parameters {
        return Err(Error::ParameterMismatch {
            model: model.parameters.clone(),
            key: key.parameters.clone(),
        });
    }
    Ok(())
}

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        match input {
            Input::Admit { job, facts, name } => {
                self.admit(&job, &facts, name, now)?;
                // The same submission once more; its outcome is there to be read.
                if name.ended {
                    return Ok(Vec::new());
                }
                Ok(vec![Effect::Claim(job, facts)])
            }
            Input::Claimed { job, facts, holder } => {
                only_for(&job, holder)?;
                permit(&job, &facts)?;
                Ok(vec![Effect::Begin(job)])
            }
        }
    }
}
