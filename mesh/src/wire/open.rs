//! Admission's records about jobs.

use super::{Context, Lane, Reader, Wire};
use crate::{Digest, Error, JobId, Message, TenantId, UnixMillis};

/// Record that a job was admitted, and as which submission. A job id is valid for one submission
/// only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The admitted [`submission`](super::submission).
    pub submission: Digest,
}

impl Admitted {
    /// The subject of the record.
    pub fn subject_of(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.admitted.{tenant}.{job}")
    }
}

impl Wire for Admitted {
    const TYPE: &'static str = "hermesh.admitted";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.job)
    }

    fn id(&self) -> String {
        format!("{}.{}.admitted", self.tenant, self.job)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Job", self.job);
        headers.set("Hermesh-Submission", self.submission);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            job: reader.parse("Hermesh-Job")?,
            submission: reader.parse("Hermesh-Submission")?,
        })
    }
}

/// Record that the tenant has cancelled a job. The job may not have reached admission yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
}

impl Cancelled {
    /// The subject of the record.
    pub fn subject_of(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.cancelled.{tenant}.{job}")
    }
}

impl Wire for Cancelled {
    const TYPE: &'static str = "hermesh.cancelled";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.job)
    }

    fn id(&self) -> String {
        format!("{}.{}.cancelled", self.tenant, self.job)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Tenant", &self.tenant);
        message.headers.set("Hermesh-Job", self.job);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self { tenant: reader.parse("Hermesh-Tenant")?, job: reader.parse("Hermesh-Job")? })
    }
}

/// Record that an admitted job has not ended. Its subject contains everything needed for limits, so
/// the messages themselves need not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// The job's identity and terms.
    pub context: Context,
    /// The most bytes it keeps on the bus at once: the results of its widest stage.
    pub bytes: u64,
    /// The priority of its tasks; it stays the same if admission is repeated.
    pub lane: Lane,
    /// When it was admitted.
    pub admitted: UnixMillis,
}

/// The content of the subject of an [`OpenJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEntry {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The most bytes it keeps on the bus at once.
    pub bytes: u64,
    /// Its deadline.
    pub deadline: UnixMillis,
}

impl OpenJob {
    /// The open jobs of one tenant, or of all tenants.
    pub fn filter(tenant: Option<&TenantId>) -> String {
        format!("hermesh.open.{}.>", tenant.map_or("*", TenantId::as_str))
    }

    /// The subjects of one open job.
    pub fn job_filter(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.open.{tenant}.{job}.>")
    }

    /// Parses the subject of an open job.
    pub fn parse_subject(subject: &str) -> Option<OpenEntry> {
        let mut tokens = subject.strip_prefix("hermesh.open.")?.split('.');
        Some(OpenEntry {
            tenant: tokens.next()?.parse().ok()?,
            job: tokens.next()?.parse().ok()?,
            bytes: tokens.next()?.parse().ok()?,
            deadline: UnixMillis(tokens.next()?.parse().ok()?),
        })
    }
}

impl Wire for OpenJob {
    const TYPE: &'static str = "hermesh.open-job";

    fn subject(&self) -> String {
        let Context { tenant, job, deadline, .. } = &self.context;
        format!("hermesh.open.{tenant}.{job}.{}.{}", self.bytes, deadline.0)
    }

    fn id(&self) -> String {
        format!("{}.{}.open", self.context.tenant, self.context.job)
    }

    fn write(&self, message: &mut Message) {
        self.context.write(message);
        message.headers.set("Hermesh-Bytes", self.bytes);
        message.headers.set("Hermesh-Lane", self.lane);
        message.headers.set("Hermesh-Admitted", self.admitted.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            context: Context::read(&reader)?,
            bytes: reader.number("Hermesh-Bytes")?,
            lane: reader.parse("Hermesh-Lane")?,
            admitted: UnixMillis(reader.number("Hermesh-Admitted")?),
        })
    }
}
