//! Admission: a plain state machine. Whose turn it is, is in `shares.rs`.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, TenantId, UnixMillis, actor,
    handling::JobError,
    topology,
    wire::{Context, Facts, FailureCode, Job, KeyFacts, Lane, Priority},
};
use serde::{Deserialize, Serialize};

use crate::{Weight, shares::Shares};

/// Bounds of preprocessing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The largest encrypted input, in bytes.
    pub max_input_bytes: usize,
    /// The furthest deadline accepted; at most [`topology::MAX_DEADLINE`].
    #[serde(rename = "max_deadline_seconds", with = "hermesh_mesh::seconds")]
    pub max_deadline: Duration,
    /// The most jobs of one tenant that are admitted and have not ended. The last eighth of that, and
    /// of `max_open_bytes`, is for jobs of high priority, so that a tenant's batch does not lock out
    /// what it needs at once.
    pub max_open_jobs: usize,
    /// The most bytes that they may keep on the bus together, each those of the results of its widest
    /// stage.
    pub max_open_bytes: u64,
    /// The most lookups of one job, with its Linears and the packing of its answer counted as lookups that
    /// take as long.
    pub max_job_lookups: u64,
    /// The most bytes of memory that one job may take at once, here or in aggregation. As many jobs as are
    /// begun here at the same time, and partials handled there, may take as much each.
    pub max_job_memory_bytes: u64,
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

/// A job at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The job.
    pub job: Job,
    /// The digest of its input.
    pub digest: Digest,
    /// What this submission of it is known by.
    pub submission: Digest,
    /// What key management knows.
    pub facts: Facts,
}

/// What preprocessing is asked, or told.
#[derive(Debug, Clone)]
pub enum Input {
    /// May this job run?
    Admit(Box<Candidate>, Name),
    /// This is what it costs.
    Weighed(Box<Candidate>, Name, Weight),
    /// The job's name now stands for the submission `holder`.
    Claimed {
        /// The job.
        candidate: Box<Candidate>,
        /// What it costs.
        weight: Weight,
        /// That submission.
        holder: Digest,
        /// Whether the tenant has withdrawn it.
        cancelled: bool,
    },
    /// A job has been begun.
    Begun {
        /// Whose it is.
        tenant: TenantId,
        /// The work of the whole job, in lookups.
        work: u64,
    },
}

/// What is known of a job's name, which is durable and the same for all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Name {
    /// The submission it stands for, if any.
    pub holder: Option<Digest>,
    /// Whether that job has ended, with an answer or a failure.
    pub ended: bool,
    /// Whether this very submission has been refused.
    pub refused: bool,
    /// The tenant's jobs that have not ended.
    pub open: Open,
}

/// Jobs of one tenant that have been admitted and have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// How many.
    pub jobs: usize,
    /// Bytes that they keep on the bus.
    pub bytes: u64,
    /// The first of their deadlines.
    pub soonest: Option<UnixMillis>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Find out what the job costs, and come back with [`Input::Weighed`].
    Weigh(Box<Candidate>, Name),
    /// Make the job's name stand for it, if it stands for none yet, and come back with
    /// [`Input::Claimed`].
    Claim(Box<Candidate>, Weight),
    /// Begin the job, in this lane unless it has one already.
    Begin(Box<Job>, Lane, Weight),
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
    /// A key that has been replaced.
    #[error("evaluation key {0} has been replaced, and its time is over; use the new one")]
    KeyRetired(Digest),
    /// The tenant has as much in work as it may.
    #[error(
        "{jobs} jobs of this tenant, with {bytes} bytes of results, have not ended, and no more are \
         admitted now; try again in {retry_after:.0?}"
    )]
    Overloaded {
        /// Its open jobs.
        jobs: usize,
        /// Bytes that they keep on the bus.
        bytes: u64,
        /// When there may be room, by the tenant's pace of late and its deadlines.
        retry_after: Duration,
    },
    /// The mesh has as many jobs to remember as it can.
    #[error("the mesh can remember no more jobs of the last day; try again in {A_WHILE_FULL:?}")]
    Full,
    /// One job that takes more than a tenant may have.
    #[error(
        "the job needs {got} {what}, at most {limit} are accepted; send fewer rows in one job, or make the \
         model smaller"
    )]
    TooHeavy {
        /// Of what.
        what: &'static str,
        /// How much it needs.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// Withdrawn before it was admitted.
    #[error("the tenant has cancelled the job")]
    Cancelled,
    /// The input is not what the model takes.
    #[error("{0}")]
    Rejected(String),
    /// A message or the bus.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
}

impl Error {
    /// After how long the same may be granted.
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

/// The gate. What it remembers of jobs is on the bus; what it remembers of tenants only orders work.
#[derive(Debug)]
pub struct Logic {
    options: Options,
    shares: Shares,
}

/// The least time to advise.
const A_WHILE: Duration = Duration::from_secs(1);
/// The time to advise where only the end of a day makes room.
const A_WHILE_FULL: Duration = Duration::from_secs(60);

impl Logic {
    /// A gate with these bounds.
    pub fn new(options: Options) -> Self {
        Self { options, shares: Shares::default() }
    }

    /// Is it the tenant who speaks, in time, not about another job, and with a key and a model that go
    /// together? Until that is known, nothing is done for the job.
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

    /// May the tenant have another job in work?
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
            // Rounded so that there is always room for one.
            _ => (jobs - jobs / 8, bytes - bytes / 8),
        };
        let Options { max_job_lookups: work, max_job_memory_bytes: memory, .. } = self.options;
        for (what, got, limit) in [
            ("lookups, or Linears and packing that take as long", weight.work, work),
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
        // At its deadline, if not before, a job ends.
        let latest = open.soonest.map_or(A_WHILE, |deadline| now.until(deadline));
        let pace = self.shares.pace(&job.context.tenant, now);
        let retry_after = pace.unwrap_or(latest).min(latest).max(A_WHILE);
        Err(Error::Overloaded { jobs: open.jobs, bytes: open.bytes, retry_after })
    }
}

/// Is the answer still of use?
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
            Input::Admit(candidate, name) => {
                self.admit(&candidate, &name, now)?;
                // The same submission once more; its end is there to be read.
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
