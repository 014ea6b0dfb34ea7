//! Admission: a plain state machine. `shares.rs` decides task priorities.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, TenantId, UnixMillis, actor,
    handling::JobError,
    topology,
    wire::{Context, Facts, FailureCode, Job, KeyFacts, Lane, Priority},
};
use serde::{Deserialize, Serialize};

use crate::{Weight, shares::Shares};

/// Options of preprocessing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The largest encrypted input, in bytes.
    pub max_input_bytes: usize,
    /// The furthest deadline accepted, at most [`topology::MAX_DEADLINE`].
    #[serde(rename = "max_deadline_seconds", with = "hermesh_mesh::seconds")]
    pub max_deadline: Duration,
    /// The maximum number of open jobs of a tenant (admitted, not ended). The last eighth of this and of
    /// `max_open_bytes` is reserved for jobs of high priority, so that a tenant's batch does not block its
    /// urgent jobs.
    pub max_open_jobs: usize,
    /// The maximum bytes of results that they may store on the bus together; each job counts the results of
    /// its widest stage.
    pub max_open_bytes: u64,
    /// The maximum work of one job: its Lookups, plus its Linears and packing in equivalent Lookups.
    pub max_job_lookups: u64,
    /// The maximum memory that one job may need at once, here or in aggregation, in bytes. Every job begun
    /// here at the same time, and every partial handled there, may need as much.
    pub max_job_memory_bytes: u64,
    /// Lookups in one shard: enough to make good use of a loaded evaluation key, few enough to keep every
    /// core busy.
    pub lookups_per_shard: usize,
    /// The largest model, in bytes.
    pub max_model_bytes: usize,
    /// Bytes of decoded models in the cache.
    pub model_cache_bytes: usize,
    /// Jobs begun at the same time.
    pub in_flight: usize,
    /// Jobs that may wait for the actor.
    pub mailbox: usize,
    /// How often to report a job as in progress; well below the queue's `ack_wait`.
    #[serde(rename = "heartbeat_seconds", with = "hermesh_mesh::seconds")]
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_input_bytes: (1 << 20) - (16 << 10),
            max_deadline: topology::MAX_DEADLINE,
            max_open_jobs: 64,
            max_open_bytes: 256 << 20,
            max_job_lookups: 1 << 20,
            max_job_memory_bytes: 384 << 20,
            lookups_per_shard: 16,
            max_model_bytes: 64 << 20,
            model_cache_bytes: 512 << 20,
            in_flight: 2,
            mailbox: 64,
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// A job that asks for admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The job.
    pub job: Job,
    /// The digest of its input.
    pub digest: Digest,
    /// The digest that identifies this submission.
    pub submission: Digest,
    /// Key management's records.
    pub facts: Facts,
}

/// An input of the state machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// Decide whether the job may run.
    Admit(Box<Candidate>, Name),
    /// The job's cost.
    Weighed(Box<Candidate>, Name, Weight),
    /// The job id is reserved for the submission `holder`.
    Claimed {
        /// The job.
        candidate: Box<Candidate>,
        /// What it costs.
        weight: Weight,
        /// The submission that has the reservation.
        holder: Digest,
        /// Whether the tenant has cancelled the job.
        cancelled: bool,
    },
    /// A job has been begun.
    Begun {
        /// The job's tenant.
        tenant: TenantId,
        /// The work of the whole job, in lookups.
        work: u64,
    },
}

/// The stored state of a job id, the same for all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Name {
    /// The submission that has the reservation, if any.
    pub holder: Option<Digest>,
    /// Whether that job has ended, with an answer or a failure.
    pub ended: bool,
    /// Whether this submission has been refused.
    pub refused: bool,
    /// The tenant's open jobs.
    pub open: Open,
}

/// The open jobs of one tenant: admitted and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// Their number.
    pub jobs: usize,
    /// The bytes of results that they may store on the bus.
    pub bytes: u64,
    /// The earliest of their deadlines.
    pub soonest: Option<UnixMillis>,
}

/// An action to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Determine the job's cost, and return with [`Input::Weighed`].
    Weigh(Box<Candidate>, Name),
    /// Reserve the job id for it, unless it is reserved already, and return with [`Input::Claimed`].
    Claim(Box<Candidate>, Weight),
    /// Begin the job, with this task priority unless it has one already.
    Begin(Box<Job>, Lane, Weight),
}

/// Why a job is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is too large.
    #[error("the input is {got} bytes, at most {limit} are accepted; send fewer rows in one job")]
    TooLarge {
        /// The input's size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The deadline has passed.
    #[error("the deadline passed {0:?} ago")]
    Expired(Duration),
    /// The deadline is too far away.
    #[error("the deadline is {got:?} away, at most {limit:?} is accepted")]
    DeadlineTooFar {
        /// The time until the deadline.
        got: Duration,
        /// The limit.
        limit: Duration,
    },
    /// The tenant is unknown.
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    /// The evaluation key is unknown.
    #[error("evaluation key {0} is not known; upload it first")]
    UnknownKey(Digest),
    /// The evaluation key belongs to another tenant.
    #[error("evaluation key {0} belongs to another tenant")]
    WrongKeyOwner(Digest),
    /// The evaluation key was revoked.
    #[error("evaluation key {0} has been revoked; make a new one")]
    KeyRevoked(Digest),
    /// The model is unknown.
    #[error("model {0} is not known; register it first")]
    UnknownModel(Digest),
    /// Key and model use different parameter sets.
    #[error(
        "the model needs parameter set {model}, the evaluation key is for {key}; make a key for this model"
    )]
    ParameterMismatch {
        /// The model's set.
        model: String,
        /// The key's set.
        key: String,
    },
    /// The job id was used before.
    #[error("job {0} has been submitted before")]
    Replay(JobId),
    /// The evaluation key was replaced, and its overlap has ended.
    #[error("evaluation key {0} has been replaced and is no longer accepted; use the new one")]
    KeyRetired(Digest),
    /// The tenant has reached its quota of open jobs.
    #[error(
        "{jobs} jobs of this tenant, with {bytes} bytes of results, have not ended, and no more are \
         admitted now; try again in {retry_after:.0?}"
    )]
    Overloaded {
        /// Its open jobs.
        jobs: usize,
        /// The bytes of results that they may store.
        bytes: u64,
        /// When there may be room, judging by the tenant's recent rate of jobs and its deadlines.
        retry_after: Duration,
    },
    /// The store of reservations is full.
    #[error("the mesh holds too many jobs of the last day; try again in {A_WHILE_FULL:?}")]
    Full,
    /// The job alone exceeds a limit.
    #[error(
        "the job needs {got} {what}, at most {limit} are accepted; send fewer rows in one job, or make the \
         model smaller"
    )]
    TooHeavy {
        /// What it exceeds.
        what: &'static str,
        /// The amount that it needs.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The job was cancelled before it was admitted.
    #[error("the tenant has cancelled the job")]
    Cancelled,
    /// The input does not fit the model.
    #[error("{0}")]
    Rejected(String),
    /// A message is malformed, or the bus failed.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl Error {
    /// After how long the same job may be admitted, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::Full => Some(A_WHILE_FULL),
            _ => None,
        }
    }
}

impl JobError for Error {
    fn code(&self) -> Option<FailureCode> {
        use hermesh_mesh::Error as Mesh;
        Some(match self {
            Self::TooLarge { .. } | Self::TooHeavy { .. } => FailureCode::TooLarge,
            Self::Cancelled => FailureCode::Cancelled,
            Self::Expired(_) => FailureCode::Expired,
            Self::DeadlineTooFar { .. } => FailureCode::DeadlineTooFar,
            Self::UnknownTenant(_) => FailureCode::UnknownTenant,
            Self::UnknownKey(_) => FailureCode::UnknownKey,
            Self::WrongKeyOwner(_) => FailureCode::WrongKeyOwner,
            Self::KeyRevoked(_) => FailureCode::KeyRevoked,
            Self::KeyRetired(_) => FailureCode::KeyRetired,
            Self::UnknownModel(_) => FailureCode::UnknownModel,
            Self::ParameterMismatch { .. } => FailureCode::ParameterMismatch,
            Self::Replay(_) => FailureCode::Replay,
            Self::Overloaded { .. } | Self::Full => FailureCode::Overloaded,
            Self::Rejected(_) => FailureCode::Malformed,
            Self::Mesh(Mesh::BadSignature { .. }) => FailureCode::BadSignature,
            Self::Mesh(Mesh::DigestMismatch { .. }) => FailureCode::DigestMismatch,
            Self::Mesh(Mesh::TooLarge { .. }) => FailureCode::TooLarge,
            Self::Mesh(_) => return None,
        })
    }

    fn into_mesh(self) -> Option<hermesh_mesh::Error> {
        match self {
            Self::Mesh(error) => Some(error),
            _ => None,
        }
    }
}

/// The state machine of admission. State about jobs is on the bus; the state about tenants here only orders
/// work.
#[derive(Debug)]
pub struct Logic {
    options: Options,
    shares: Shares,
}

/// The shortest time to advise.
const A_WHILE: Duration = Duration::from_secs(1);
/// The time to advise when only the passing of a day frees space.
const A_WHILE_FULL: Duration = Duration::from_secs(60);

impl Logic {
    /// A state machine with these options.
    pub fn new(options: Options) -> Self {
        Self { options, shares: Shares::default() }
    }

    /// Checks the tenant's signature, the deadline, the job id's reservation, and that key and model fit.
    /// No other work is done for the job before.
    fn admit(&self, candidate: &Candidate, name: &Name, now: UnixMillis) -> Result<(), Error> {
        let Candidate { job, digest, facts, .. } = candidate;
        let context = &job.context;
        let tenant = facts.tenant.as_ref();
        let tenant = tenant.ok_or_else(|| Error::UnknownTenant(context.tenant.clone()))?;
        let (got, limit) = (job.input.len(), self.options.max_input_bytes);
        if got > limit {
            return Err(Error::TooLarge { got, limit });
        }
        job.verify_digest(tenant, *digest)?;
        in_time(context, now)?;
        let (got, limit) = (now.until(context.deadline), self.options.max_deadline);
        if got > limit {
            return Err(Error::DeadlineTooFar { got, limit });
        }
        match name.holder {
            Some(holder) => only_for(candidate, holder)?,
            None => not_retired(context, facts.key.as_ref(), now)?,
        }
        permit(job, facts)
    }

    /// Checks the tenant's quotas and the limits for one job.
    fn has_room(
        &self,
        job: &Job,
        weight: Weight,
        open: &Open,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let Options { max_open_jobs: jobs, max_open_bytes: bytes, .. } = self.options;
        let (jobs, bytes) = match job.context.priority {
            Priority::High => (jobs, bytes),
            // Rounded so that at least one job is allowed.
            _ => (jobs - jobs / 8, bytes - bytes / 8),
        };
        let Options { max_job_lookups: work, max_job_memory_bytes: memory, .. } = self.options;
        for (what, got, limit) in [
            ("lookups (Linears and packing counted as equivalent lookups)", weight.work, work),
            ("bytes for the results", weight.bytes, bytes),
            ("bytes of memory at once", weight.memory, memory),
        ] {
            if got > limit {
                return Err(Error::TooHeavy { what, got, limit });
            }
        }
        if open.jobs < jobs && open.bytes.saturating_add(weight.bytes) <= bytes {
            return Ok(());
        }
        // A job ends at its deadline at the latest.
        let latest = open.soonest.map_or(A_WHILE, |deadline| now.until(deadline));
        let pace = self.shares.pace(&job.context.tenant, now);
        let retry_after = pace.unwrap_or(latest).min(latest).max(A_WHILE);
        Err(Error::Overloaded { jobs: open.jobs, bytes: open.bytes, retry_after })
    }
}

/// Checks that the deadline has not passed.
pub(crate) fn in_time(context: &Context, now: UnixMillis) -> Result<(), Error> {
    if context.deadline <= now {
        return Err(Error::Expired(context.deadline.until(now)));
    }
    Ok(())
}

fn not_retired(context: &Context, key: Option<&KeyFacts>, now: UnixMillis) -> Result<(), Error> {
    match key.and_then(|key| key.retires) {
        Some(retires) if retires <= now => Err(Error::KeyRetired(context.key)),
        _ => Ok(()),
    }
}

fn only_for(candidate: &Candidate, holder: Digest) -> Result<(), Error> {
    match candidate.submission == holder {
        true => Ok(()),
        false => Err(Error::Replay(candidate.job.context.job)),
    }
}

/// Checks that the tenant may use this key with this model.
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
            Input::Admit(candidate, name) => {
                self.admit(&candidate, &name, now)?;
                // A repeated submission whose outcome is already stored.
                if name.ended || (name.refused && name.holder.is_none()) {
                    return Ok(Vec::new());
                }
                Ok(vec![Effect::Weigh(candidate, name)])
            }
            Input::Weighed(candidate, name, weight) => {
                if name.holder.is_none() {
                    self.has_room(&candidate.job, weight, &name.open, now)?;
                }
                Ok(vec![Effect::Claim(candidate, weight)])
            }
            Input::Claimed { candidate, weight, holder, cancelled } => {
                only_for(&candidate, holder)?;
                if cancelled {
                    return Err(Error::Cancelled);
                }
                let Context { tenant, priority, .. } = &candidate.job.context;
                let lane = self.shares.lane(tenant, *priority, now);
                Ok(vec![Effect::Begin(Box::new(candidate.job), lane, weight)])
            }
            Input::Begun { tenant, work } => {
                self.shares.charge(&tenant, work, now);
                Ok(Vec::new())
            }
        }
    }
}
