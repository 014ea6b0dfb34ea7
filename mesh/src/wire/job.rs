//! A job on its way: the tenant's [`Job`], the shards of it as [`Task`]s, their results as
//! [`Partial`]s.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::{OperatorTime, Reader, Wire};
use crate::{
    Digest, Error, JobId, Message, Signature, SigningKey, TenantId, Transcript, UnixMillis,
    VerifyingKey,
};

/// A W3C `traceparent`: which trace a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// The start of a new trace.
    pub fn random() -> Self {
        let [trace, span] = [JobId::random().to_string(), JobId::random().to_string()];
        Self(format!("00-{trace}-{}-01", &span[..16]))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TraceParent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lengths = [2, 32, 16, 2];
        let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = text.split('-').take(5).collect();
        let well_formed = parts.len() == lengths.len()
            && parts.iter().zip(lengths).all(|(part, n)| part.len() == n && lower_hex(part));
        if !well_formed {
            return Err(Error::Malformed {
                what: "traceparent",
                expected: "00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// How much a job matters to its tenant, compared with the tenant's other jobs. It takes nothing from
/// other tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// After the others.
    Low,
    /// As the others.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// Which of the queues of tasks a job's shards go to: workers empty an earlier one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Lane {
    /// Tenants that have had less than their share of late.
    Express,
    /// Everybody else.
    #[default]
    Normal,
    /// What can wait.
    Bulk,
}

/// Names of an enum's values on the wire.
macro_rules! names {
    ($type:ident, $what:literal, $expected:literal, $($value:ident = $name:literal),*) => {
        impl $type {
            /// All values, first to last.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// Its name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $name),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let mut all = Self::ALL.iter().copied();
                let found = all.find(|value| value.as_str() == text);
                found.ok_or(Error::Malformed { what: $what, expected: $expected })
            }
        }
    };
}

names!(Priority, "priority", "low, normal or high", Low = "low", Normal = "normal", High = "high");
names!(
    Lane,
    "lane",
    "express, normal or bulk",
    Express = "express",
    Normal = "normal",
    Bulk = "bulk"
);

/// What a job is about; every message of the job carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The model to apply.
    pub model: Digest,
    /// The tenant's evaluation key to use.
    pub key: Digest,
    /// The digest of the encrypted input.
    pub input: Digest,
    /// When the answer stops being of use.
    pub deadline: UnixMillis,
    /// How much it matters among the tenant's jobs.
    pub priority: Priority,
    /// The trace it belongs to.
    pub trace: Option<TraceParent>,
}

impl Context {
    pub(super) fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Job", self.job);
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Model", self.model);
        headers.set("Hermesh-Key", self.key);
        headers.set("Hermesh-Input", self.input);
        headers.set("Hermesh-Deadline", self.deadline.0);
        headers.set("Hermesh-Priority", self.priority);
        if let Some(trace) = &self.trace {
            headers.set("traceparent", trace);
        }
    }

    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            job: reader.parse("Hermesh-Job")?,
            tenant: reader.parse("Hermesh-Tenant")?,
            model: reader.parse("Hermesh-Model")?,
            key: reader.parse("Hermesh-Key")?,
            input: reader.parse("Hermesh-Input")?,
            deadline: UnixMillis(reader.number("Hermesh-Deadline")?),
            priority: reader.parse("Hermesh-Priority")?,
            trace: reader.parse_optional("traceparent")?,
        })
    }

    /// Reads the context out of any message of a job, a dead letter say.
    pub fn of(message: &Message) -> Result<Self, Error> {
        Self::read(&Reader::new(message, "job"))
    }

    /// Whether both say the same, the trace excepted.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let trace = self.trace.clone();
        *self == Self { trace, ..other.clone() }
    }

    fn transcript(&self) -> Transcript {
        Transcript::new("hermesh job v1")
            .field(&self.job.0)
            .field(self.tenant.as_str().as_bytes())
            .field(&self.model.0)
            .field(&self.key.0)
            .field(&self.input.0)
            .number(self.deadline.0)
            .field(self.priority.as_str().as_bytes())
    }
}

/// A tenant's order: apply this model to this encrypted input under this key, until then.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// What the job is about.
    pub context: Context,
    /// The tenant's signature over the context (the trace excepted).
    pub signature: Signature,
    /// The encrypted input.
    pub input: Bytes,
}

debug_without_body!(Job { context, signature } input);

impl Job {
    /// A signed job. The context's input digest is set to that of `input`.
    pub fn new(mut context: Context, input: Bytes, key: &SigningKey) -> Self {
        context.input = Digest::of(&input);
        let signature = key.sign(&context.transcript());
        Self { context, signature, input }
    }

    /// Checks the tenant's signature and that the input is the one it covers.
    pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
        self.verify_digest(tenant, Digest::of(&self.input))
    }

    /// The same, for whoever has the input's digest already: hashing megabytes takes a while.
    pub fn verify_digest(&self, tenant: &VerifyingKey, got: Digest) -> Result<(), Error> {
        tenant.verify("the job", &self.context.transcript(), &self.signature)?;
        if got != self.context.input {
            return Err(Error::DigestMismatch { expected: self.context.input, got });
        }
        Ok(())
    }
}

impl Wire for Job {
    const TYPE: &'static str = "hermesh.job";

    fn subject(&self) -> String {
        format!("hermesh.job.{}", self.context.tenant)
    }

    fn id(&self) -> String {
        // The signature's start is part of it: another job under a used id is refused by admission,
        // which sees both, and not silently dropped as a repetition of the first.
        let Context { tenant, job, .. } = &self.context;
        format!("{tenant}.{job}.{}", self.signature.short())
    }

    fn write(&self, message: &mut Message) {
        self.context.write(message);
        message.headers.set("Hermesh-Signature", self.signature);
        message.body = self.input.clone();
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            context: Context::read(&reader)?,
            signature: reader.parse("Hermesh-Signature")?,
            input: message.body.clone(),
        })
    }
}

/// Which shard of which stage, and how far the job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which queue the job's tasks go to.
    pub lane: Lane,
    /// The stage, counted from 0.
    pub stage: u32,
    /// The shard, counted from 0.
    pub shard: u32,
    /// How many shards the stage has.
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

    /// The most shards one stage may have; bounds what the join reads back.
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
        // Bounded, so that arithmetic on them cannot overflow.
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
    /// What the job is about.
    pub context: Context,
    /// Which shard this is.
    pub position: Position,
    /// The shard.
    pub body: Bytes,
}

debug_without_body!(Task { context, position } body);

impl Task {
    /// The subjects of all tasks of a job, in one lane.
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
    /// What the job is about.
    pub context: Context,
    /// Which shard this is.
    pub position: Position,
    /// Whether the body is the program's outputs, ready to pack, and not a stage's results.
    pub outputs: bool,
    /// Where the time went.
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

/// Word that a partial is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// What the job is about.
    pub context: Context,
    /// Which shard's result it is.
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

fn shard_name(context: &Context, position: &Position) -> String {
    let Context { tenant, job, .. } = context;
    format!("{tenant}.{job}.{}.{}", position.stage, position.shard)
}

/// A tenant's order to stop a job; preprocessing answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelJob {
    /// Whose job it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The tenant's signature.
    pub signature: Signature,
}

impl CancelJob {
    /// A signed order.
    pub fn new(tenant: TenantId, job: JobId, key: &SigningKey) -> Self {
        let signature = key.sign(&Self::transcript(&tenant, job));
        Self { tenant, job, signature }
    }

    /// Checks the tenant's signature.
    pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
        let transcript = Self::transcript(&self.tenant, self.job);
        tenant.verify("the cancellation", &transcript, &self.signature)
    }

    fn transcript(tenant: &TenantId, job: JobId) -> Transcript {
        Transcript::new("hermesh cancel job v1").field(tenant.as_str().as_bytes()).field(&job.0)
    }
}

impl Wire for CancelJob {
    const TYPE: &'static str = "hermesh.cancel-job";

    fn subject(&self) -> String {
        format!("hermesh.cancel.{}", self.tenant)
    }

    fn id(&self) -> String {
        format!("{}.{}.cancel", self.tenant, self.job)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Job", self.job);
        message.headers.set("Hermesh-Signature", self.signature);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            job: reader.parse("Hermesh-Job")?,
            signature: reader.parse("Hermesh-Signature")?,
        })
    }
}
