//! A tenant's messages about jobs: the [`Job`] itself, and its cancellation.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::{Reader, Wire};
use crate::{
    Digest, Error, Headers, JobId, Message, Signature, SigningKey, TenantId, Transcript,
    UnixMillis, VerifyingKey,
    bus::{DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT},
};

/// A W3C `traceparent`: the trace that a message belongs to.
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

/// A job's priority among its tenant's own jobs. It does not affect other tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// After the tenant's other jobs.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the tenant's other jobs.
    High,
}

/// Task priority: the task queue of a job's shards. Workers empty earlier queues first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Lane {
    /// For tenants that have recently used less than their share.
    Express,
    /// The default.
    #[default]
    Normal,
    /// For jobs that can wait.
    Bulk,
}

/// Implements the names of an enum's values on the wire.
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

/// The identity and terms of a job; every message of the job carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The model to apply.
    pub model: Digest,
    /// The tenant's evaluation key.
    pub key: Digest,
    /// The digest of the encrypted input.
    pub input: Digest,
    /// When the answer is no longer needed.
    pub deadline: UnixMillis,
    /// The priority among the tenant's jobs.
    pub priority: Priority,
    /// The job's trace.
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
        write_trace(headers, &self.trace);
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

    /// Reads the context from any message of a job, including a dead letter.
    pub fn of(message: &Message) -> Result<Self, Error> {
        Self::read(&Reader::new(message, "job"))
    }

    /// Whether all fields except the trace are equal.
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

pub(super) fn write_trace(headers: &mut Headers, trace: &Option<TraceParent>) {
    if let Some(trace) = trace {
        headers.set("traceparent", trace);
    }
}

/// The identifier of one submission of a job: a digest of its subject and its whole content, signed or not. A copied
/// and altered job is therefore a different submission and cannot affect the original.
///
/// It is the SHA-256 of the subject and `\n`, a line `name:value\n` for each header in the order of their names, and
/// `body`, the SHA-256 of the body. The headers `ce-id` and `ce-source` and those that a dead letter adds are left out.
pub fn submission(message: &Message, body: Digest) -> Digest {
    let subject = message.headers.get(DEAD_SUBJECT).unwrap_or(&message.subject);
    let mut text = format!("{subject}\n");
    let idle = ["ce-id", "ce-source", DEAD_REASON, DEAD_QUEUE, DEAD_SUBJECT];
    for (name, value) in message.headers.iter().filter(|(name, _)| !idle.contains(name)) {
        text += &format!("{name}:{value}\n");
    }
    Digest::of(&[text.as_bytes(), &body.0].concat())
}

/// A job: the tenant's signed order to apply a model to an encrypted input under an evaluation key before a deadline.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// The job's identity and terms.
    pub context: Context,
    /// The tenant's job signature over the context without the trace.
    pub signature: Signature,
    /// The encrypted input.
    pub input: Bytes,
}

debug_without_body!(Job { context, signature } input);

impl Job {
    /// Signs a job. Sets the context's input digest to the digest of `input`.
    pub fn new(mut context: Context, input: Bytes, key: &SigningKey) -> Self {
        context.input = Digest::of(&input);
        let signature = key.sign(&context.transcript());
        Self { context, signature, input }
    }

    /// The submission of a job with this context and job signature; see [`submission`].
    pub fn submission(context: Context, signature: Signature) -> Digest {
        let body = context.input;
        submission(&Self { context, signature, input: Bytes::new() }.encode(""), body)
    }

    /// Checks the job signature, and that it covers the input.
    pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
        self.verify_digest(tenant, Digest::of(&self.input))
    }

    /// Like [`Self::verify`], for callers that already have the input's digest; hashing megabytes takes a while.
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
        // The id contains the start of the job signature. Another job under a used job id therefore has a different
        // message id, so it is refused by admission and not silently dropped as a duplicate.
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

/// A tenant's order to cancel a job; preprocessing replies to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelJob {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The tenant's signature.
    pub signature: Signature,
}

impl CancelJob {
    /// Signs an order.
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
