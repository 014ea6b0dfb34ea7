//! What admission knows of jobs, as facts on the bus.

use super::{Context, Lane, Reader, Wire};
use crate::{Digest, Error, JobId, Message, TenantId, UnixMillis};

/// The fact that this job has been admitted, and as which submission: a name is good for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Whose job it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The one [`submission`](super::submission) that the name stands for.
    pub submission: Digest,
}

impl Admitted {
    /// Where the fact is kept.
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

/// The fact that the tenant has withdrawn a job, which may not have come to admission yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// Whose job it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
}

impl Cancelled {
    /// Where the fact is kept.
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

/// The fact that an admitted job has not ended. Its subject says all that limits need, so that they
/// need not read the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// What the job is about.
    pub context: Context,
    /// The most bytes that it keeps on the bus at a time: those of the results of its widest stage.
    pub bytes: u64,
    /// The queue its tasks go to, however often it is begun.
    pub lane: Lane,
    /// When it was admitted.
    pub admitted: UnixMillis,
}

/// What the subject of an [`OpenJob`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEntry {
    /// Whose job it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The most bytes that it keeps on the bus at a time.
    pub bytes: u64,
    /// Its deadline.
    pub deadline: UnixMillis,
}

impl OpenJob {
    /// The open jobs of one tenant, or of all.
    pub fn filter(tenant: Option<&TenantId>) -> String {
        format!("hermesh.open.{}.>", tenant.map_or("*", TenantId::as_str))
    }

    /// One open job.
    pub fn job_filter(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.open.{tenant}.{job}.>")
    }

    /// What the subject of an open job says.
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
