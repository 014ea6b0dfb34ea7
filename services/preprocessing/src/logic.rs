//! Admission: a plain state machine.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use hermesh_mesh::{
    Digest, JobId, Signature, TenantId, UnixMillis, actor,
    wire::{Facts, FailureCode, Job},
};

/// Bounds of preprocessing.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest encrypted input, in bytes.
    pub max_input_bytes: usize,
    /// The furthest deadline accepted.
    pub max_deadline: Duration,
    /// The most jobs whose identifiers are remembered until their deadlines.
    pub max_jobs: usize,
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
            max_deadline: Duration::from_secs(24 * 3600),
            max_jobs: 100_000,
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
        facts: Facts,
        /// Which delivery of the job this is.
        attempt: u32,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
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
    #[error("{0} jobs are under way, no more are accepted now; try again later")]
    Overloaded(usize),
    /// The input is not what the model takes.
    #[error("{0}")]
    Rejected(String),
    /// A message or the bus.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl Error {
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

/// The gate's memory: which jobs have passed.
#[derive(Debug)]
pub struct Logic {
    options: Options,
    seen: HashMap<JobId, Signature>,
    by_deadline: BTreeSet<(UnixMillis, JobId)>,
}

impl Logic {
    /// A gate that has seen nothing.
    pub fn new(options: Options) -> Self {
        Self { options, seen: HashMap::new(), by_deadline: BTreeSet::new() }
    }

    /// How many jobs are remembered.
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    fn admit(
        &mut self,
        job: &Job,
        facts: &Facts,
        attempt: u32,
        now: UnixMillis,
    ) -> Result<(), Error> {
        self.forget(now);
        let context = &job.context;
        let seen = self.seen.get(&context.job);
        // A second delivery of the same message is not a replay: the first one came to nothing.
        if seen.is_some_and(|signature| *signature != job.signature || attempt == 1) {
            return Err(Error::Replay(context.job));
        }
        let again = seen.is_some();
        let (got, limit) = (job.input.len(), self.options.max_input_bytes);
        if got > limit {
            return Err(Error::TooLarge { got, limit });
        }
        if context.deadline <= now {
            return Err(Error::Expired(context.deadline.until(now)));
        }
        let (got, limit) = (now.until(context.deadline), self.options.max_deadline);
        if got > limit {
            return Err(Error::DeadlineTooFar { got, limit });
        }
        let tenant = facts.tenant.as_ref();
        let tenant = tenant.ok_or_else(|| Error::UnknownTenant(context.tenant.clone()))?;
        job.verify(tenant)?;
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
        if !again && self.seen.len() >= self.options.max_jobs {
            return Err(Error::Overloaded(self.options.max_jobs));
        }
        self.seen.insert(context.job, job.signature);
        self.by_deadline.insert((context.deadline, context.job));
        Ok(())
    }

    /// An identifier need not be remembered longer than its job would be accepted.
    fn forget(&mut self, now: UnixMillis) {
        while let Some((deadline, job)) = self.by_deadline.first().copied()
            && deadline <= now
        {
            self.by_deadline.pop_first();
            self.seen.remove(&job);
        }
    }
}

impl actor::Logic for Logic {
    type Input = Input;
    type Effect = Effect;
    type Error = Error;

    fn handle(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, Error> {
        let Input::Admit { job, facts, attempt } = input;
        self.admit(&job, &facts, attempt, now)?;
        Ok(vec![Effect::Begin(job)])
    }
}
