//! A job in progress: its shards as [`Task`]s, their results as [`Partial`]s.

use bytes::Bytes;

use super::{Context, Lane, OperatorTime, Reader, Wire};
use crate::{Error, JobId, Message, TenantId};

/// The position of a shard in a job, and the job's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The task priority: the queue of the job's tasks.
    pub lane: Lane,
    /// The stage, counted from 0.
    pub stage: u32,
    /// The shard, counted from 0.
    pub shard: u32,
    /// Number of shards in the stage.
    pub of: u32,
    /// Lookups in this shard.
    pub lookups: u32,
    /// Lookups in this stage.
    pub stage_lookups: u64,
    /// Lookups in all earlier stages.
    pub done_before: u64,
    /// Lookups of the whole job.
    pub total: u64,
}

impl Position {
    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Lane", self.lane);
        headers.set("Hermesh-Stage", self.stage);
        headers.set("Hermesh-Shard", self.shard);
        headers.set("Hermesh-Of", self.of);
        headers.set("Hermesh-Lookups", self.lookups);
        headers.set("Hermesh-Stage-Lookups", self.stage_lookups);
        headers.set("Hermesh-Done-Before", self.done_before);
        headers.set("Hermesh-Total", self.total);
    }

    /// The most shards of one stage; limits how many results aggregation reads back.
    pub const MAX_SHARDS: u32 = 1 << 16;
    /// The most lookups one job may have.
    pub const MAX_LOOKUPS: u64 = 1 << 40;

    fn read(reader: &Reader<'_>) -> Result<Self, Error> {
        let position = Self {
            lane: reader.parse("Hermesh-Lane")?,
            stage: reader.number("Hermesh-Stage")?,
            shard: reader.number("Hermesh-Shard")?,
            of: reader.number("Hermesh-Of")?,
            lookups: reader.number("Hermesh-Lookups")?,
            stage_lookups: reader.number("Hermesh-Stage-Lookups")?,
            done_before: reader.number("Hermesh-Done-Before")?,
            total: reader.number("Hermesh-Total")?,
        };
        if position.shard >= position.of || position.of > Self::MAX_SHARDS {
            return Err(Error::BadHeader {
                header: "Hermesh-Of".into(),
                expected: "more than Hermesh-Shard and at most 65536",
            });
        }
        // Bounded, so that arithmetic on the numbers cannot overflow.
        let reached = position.done_before.checked_add(position.stage_lookups);
        if position.total > Self::MAX_LOOKUPS || reached.is_none_or(|n| n > position.total) {
            return Err(Error::BadHeader {
                header: "Hermesh-Total".into(),
                expected: "at most 2^40, and no less than the earlier stages and this one have",
            });
        }
        Ok(position)
    }
}

/// One shard to evaluate.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    /// The job's identity and terms.
    pub context: Context,
    /// The position of the shard.
    pub position: Position,
    /// The shard.
    pub body: Bytes,
}

debug_without_body!(Task { context, position } body);

impl Task {
    /// The subjects of all tasks of a job with one task priority.
    pub fn job_filter(lane: Lane, tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.task.{lane}.{tenant}.{job}.>")
    }
}

impl Wire for Task {
    const TYPE: &'static str = "hermesh.task";

    fn subject(&self) -> String {
        let name = shard_name(&self.context, &self.position);
        format!("hermesh.task.{}.{name}", self.position.lane)
    }

    fn id(&self) -> String {
        shard_name(&self.context, &self.position)
    }

    fn write(&self, message: &mut Message) {
        self.context.write(message);
        self.position.write(message);
        message.body = self.body.clone();
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            context: Context::read(&reader)?,
            position: Position::read(&reader)?,
            body: message.body.clone(),
        })
    }
}

/// One shard's result.
#[derive(Clone, PartialEq)]
pub struct Partial {
    /// The job's identity and terms.
    pub context: Context,
    /// The position of the shard.
    pub position: Position,
    /// Whether the body holds the program's outputs, ready to pack, rather than a stage's results.
    pub outputs: bool,
    /// Time spent in each operator.
    pub times: Vec<OperatorTime>,
    /// The result.
    pub body: Bytes,
}

debug_without_body!(Partial { context, position, outputs, times } body);

impl Partial {
    /// The subject of one shard's result.
    pub fn subject_of(context: &Context, position: &Position) -> String {
        format!("hermesh.partial.{}", shard_name(context, position))
    }

    /// The subjects of all results of one stage.
    pub fn stage_filter(context: &Context, stage: u32) -> String {
        format!("hermesh.partial.{}.{}.{stage}.*", context.tenant, context.job)
    }

    /// The subjects of all results of a job.
    pub fn job_filter(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.partial.{tenant}.{job}.>")
    }

    /// The results of all jobs.
    pub fn filter() -> String {
        "hermesh.partial.>".to_owned()
    }

    /// The job whose result is stored under a subject.
    pub fn job_of(subject: &str) -> Option<(TenantId, JobId)> {
        let mut tokens = subject.strip_prefix("hermesh.partial.")?.split('.');
        Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
    }
}

impl Wire for Partial {
    const TYPE: &'static str = "hermesh.partial";

    fn subject(&self) -> String {
        Self::subject_of(&self.context, &self.position)
    }

    fn id(&self) -> String {
        format!("{}.done", shard_name(&self.context, &self.position))
    }

    fn write(&self, message: &mut Message) {
        self.context.write(message);
        self.position.write(message);
        message.headers.set("Hermesh-Outputs", self.outputs);
        let times: Vec<String> = self.times.iter().map(ToString::to_string).collect();
        message.headers.set("Hermesh-Times", times.join(","));
        message.body = self.body.clone();
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        let times = reader.text("Hermesh-Times")?;
        Ok(Self {
            context: Context::read(&reader)?,
            position: Position::read(&reader)?,
            outputs: reader.flag("Hermesh-Outputs")?,
            times: times
                .split(',')
                .filter(|entry| !entry.is_empty())
                .map(str::parse)
                .collect::<Result<_, _>>()?,
            body: message.body.clone(),
        })
    }
}

/// Partial-stored notice: says that a shard's result is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The job's identity and terms.
    pub context: Context,
    /// The position of the shard.
    pub position: Position,
}

impl Wire for Arrived {
    const TYPE: &'static str = "hermesh.arrived";

    fn subject(&self) -> String {
        format!("hermesh.arrived.{}", shard_name(&self.context, &self.position))
    }

    fn id(&self) -> String {
        format!("{}.arrived", shard_name(&self.context, &self.position))
    }

    fn write(&self, message: &mut Message) {
        self.context.write(message);
        self.position.write(message);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self { context: Context::read(&reader)?, position: Position::read(&reader)? })
    }
}

/// Stage-complete marker: everything that follows from the stage's results is stored, so the results are no longer
/// needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The stage.
    pub stage: u32,
}

impl Joined {
    /// The subject of the marker.
    pub fn subject_of(context: &Context, stage: u32) -> String {
        format!("hermesh.joined.{}.{}.{stage}", context.tenant, context.job)
    }

    /// All markers of a job.
    pub fn job_filter(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.joined.{tenant}.{job}.*")
    }
}

impl Wire for Joined {
    const TYPE: &'static str = "hermesh.joined";

    fn subject(&self) -> String {
        format!("hermesh.joined.{}.{}.{}", self.tenant, self.job, self.stage)
    }

    fn id(&self) -> String {
        format!("{}.{}.{}.joined", self.tenant, self.job, self.stage)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Job", self.job);
        headers.set("Hermesh-Stage", self.stage);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            job: reader.parse("Hermesh-Job")?,
            stage: reader.number("Hermesh-Stage")?,
        })
    }
}

fn shard_name(context: &Context, position: &Position) -> String {
    let Context { tenant, job, .. } = context;
    format!("{tenant}.{job}.{}.{}", position.stage, position.shard)
}
