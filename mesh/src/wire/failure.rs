//! Failure codes, failed jobs and refusals.

use std::{str::FromStr, time::Duration};

use super::{
    Context, Reader, TraceParent, Wire,
    job::write_trace,
    outcome::{answer_subject, outcome_id},
};
use crate::{Digest, Error, Headers, JobId, Message, TenantId};

macro_rules! failure_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, retryable: $retryable:literal;)*) => {
        /// Why a job or a request was refused or failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FailureCode {
            $($(#[$doc])* $name,)*
        }

        impl FailureCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

failure_codes! {
    /// A header is missing or malformed, or the body does not decode.
    Malformed = "malformed", retryable: false;
    /// The content is larger than the service accepts.
    TooLarge = "too-large", retryable: false;
    /// The tenant is not registered.
    UnknownTenant = "unknown-tenant", retryable: false;
    /// The tenant's name is bound to another signing key, or no more tenants can be registered.
    TenantRefused = "tenant-refused", retryable: false;
    /// The signature does not verify.
    BadSignature = "bad-signature", retryable: false;
    /// The body does not match the announced digest.
    DigestMismatch = "digest-mismatch", retryable: false;
    /// The evaluation key has not been uploaded.
    UnknownKey = "unknown-key", retryable: false;
    /// The evaluation key belongs to another tenant.
    WrongKeyOwner = "wrong-key-owner", retryable: false;
    /// The evaluation key has been revoked.
    KeyRevoked = "key-revoked", retryable: false;
    /// The model has not been registered.
    UnknownModel = "unknown-model", retryable: false;
    /// The key and the model are for different parameter sets.
    ParameterMismatch = "parameter-mismatch", retryable: false;
    /// The evaluation key has been replaced, and its overlap is over.
    KeyRetired = "key-retired", retryable: false;
    /// The tenant has cancelled the job.
    Cancelled = "cancelled", retryable: false;
    /// The job has already ended.
    Ended = "ended", retryable: false;
    /// The deadline has passed.
    Expired = "expired", retryable: false;
    /// The deadline is further away than the service accepts.
    DeadlineTooFar = "deadline-too-far", retryable: false;
    /// The job's identifier has been used before.
    Replay = "replay", retryable: false;
    /// The service has no capacity now.
    Overloaded = "overloaded", retryable: true;
    /// The computation failed.
    Computation = "computation", retryable: false;
    /// The message exhausted its deliveries without success.
    Undeliverable = "undeliverable", retryable: true;
    /// An internal error of a service.
    Internal = "internal", retryable: true;
}

impl FromStr for FailureCode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut all = Self::ALL.iter().copied();
        // A code of a later version still means a failure.
        Ok(all.find(|code| code.as_str() == text).unwrap_or(Self::Internal))
    }
}

/// The end of a job without an answer, or the refusal of a submission that was not admitted.
///
/// The failure of an admitted job is stored as the job's outcome. A refusal concerns one submission, not the job id,
/// which may belong to another submission: it carries the [`submission`](super::submission) and is stored under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job {job}: {}: {message}", .code.as_str())]
pub struct Failure {
    /// The tenant that owned the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The reason, for programs.
    pub code: FailureCode,
    /// The reason, for people.
    pub message: String,
    /// The refused submission, if this is a refusal.
    pub refused: Option<Digest>,
    /// When to retry, if known.
    pub retry_after: Option<Duration>,
    /// The job's trace.
    pub trace: Option<TraceParent>,
}

impl Failure {
    /// The failure of an admitted job.
    pub fn new(context: &Context, code: FailureCode, message: impl ToString) -> Self {
        let trace = context.trace.clone();
        Self { trace, ..Self::ending(&context.tenant, context.job, code, message) }
    }

    /// The failure of a job of which only the id is known.
    pub fn ending(
        tenant: &TenantId,
        job: JobId,
        code: FailureCode,
        message: impl ToString,
    ) -> Self {
        Self {
            tenant: tenant.clone(),
            job,
            code,
            message: message.to_string(),
            refused: None,
            retry_after: None,
            trace: None,
        }
    }

    /// The refusal of the job in `message`, which is this submission. `None` if the message is not readable enough.
    pub fn refusing(
        message: &Message,
        submission: Digest,
        code: FailureCode,
        why: impl ToString,
    ) -> Option<Self> {
        let reader = Reader::new(message, "job");
        Some(Self {
            tenant: reader.parse("Hermesh-Tenant").ok()?,
            job: reader.parse("Hermesh-Job").ok()?,
            code,
            message: why.to_string(),
            refused: Some(submission),
            retry_after: None,
            trace: reader.parse_optional("traceparent").ok()?,
        })
    }

    /// The subject of the refusal of one submission.
    pub fn refusal_subject(tenant: &TenantId, job: JobId, submission: &Digest) -> String {
        format!("hermesh.refused.{tenant}.{job}.{}", submission.short())
    }

    /// Whether a new job with the same content may succeed later.
    pub fn retryable(&self) -> bool {
        self.code.retryable()
    }
}

impl Wire for Failure {
    const TYPE: &'static str = "hermesh.failure";

    fn subject(&self) -> String {
        match &self.refused {
            None => answer_subject(&self.tenant, self.job),
            Some(submission) => Self::refusal_subject(&self.tenant, self.job, submission),
        }
    }

    fn id(&self) -> String {
        match &self.refused {
            None => outcome_id(&self.tenant, self.job),
            Some(submission) => format!("{}.{}.refused", self.tenant, submission.short()),
        }
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Job", self.job);
        headers.set("Hermesh-Code", self.code.as_str());
        headers.set("Hermesh-Reason", &self.message);
        headers.set("Hermesh-Retryable", self.retryable());
        if let Some(submission) = self.refused {
            headers.set("Hermesh-Submission", submission);
        }
        write_retry_after(headers, self.retry_after);
        write_trace(headers, &self.trace);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            job: reader.parse("Hermesh-Job")?,
            code: reader.parse("Hermesh-Code")?,
            message: reader.text("Hermesh-Reason")?.to_owned(),
            refused: reader.parse_optional("Hermesh-Submission")?,
            retry_after: read_retry_after(&reader)?,
            trace: reader.parse_optional("traceparent")?,
        })
    }
}

/// Writes the seconds until a retry, rounded up.
pub(super) fn write_retry_after(headers: &mut Headers, after: Option<Duration>) {
    if let Some(after) = after {
        headers.set("Hermesh-Retry-After", after.as_millis().div_ceil(1000));
    }
}

pub(super) fn read_retry_after(reader: &Reader<'_>) -> Result<Option<Duration>, Error> {
    let there = reader.text("Hermesh-Retry-After").is_ok();
    there
        .then(|| Ok(Duration::from_secs(reader.number::<u32>("Hermesh-Retry-After")?.into())))
        .transpose()
}
