//! Messages to the tenant: answers, receipts, progress.

use bytes::Bytes;

use super::{Context, Failure, Reader, TraceParent, Wire, expect_subject, job::write_trace};
use crate::{
    Digest, Error, JobId, Message, Signature, SigningKey, TenantId, Transcript, VerifyingKey,
    ids::{hex, unhex},
};

/// A service's signed statement that an answer was computed with this model, key and input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// The model applied.
    pub model: Digest,
    /// The evaluation key used.
    pub key: Digest,
    /// The encrypted input's digest.
    pub input: Digest,
    /// The answer's digest.
    pub output: Digest,
    /// Random, which makes each receipt unique.
    pub nonce: [u8; 16],
    /// The receipt verifying key of the service that signed.
    pub service: VerifyingKey,
    /// The service's signature.
    pub signature: Signature,
}

impl Receipt {
    /// Signs a receipt for an answer.
    pub fn new(context: &Context, answer: &[u8], nonce: [u8; 16], service: &SigningKey) -> Self {
        let mut receipt = Self {
            job: context.job,
            model: context.model,
            key: context.key,
            input: context.input,
            output: Digest::of(answer),
            nonce,
            service: service.verifying_key(),
            signature: Signature([0; 64]),
        };
        receipt.signature = service.sign(&receipt.transcript());
        receipt
    }

    /// Checks that `service` signed the receipt, and that it is for this job and this answer.
    pub fn verify(
        &self,
        service: &VerifyingKey,
        context: &Context,
        answer: &[u8],
    ) -> Result<(), Error> {
        service.verify("the receipt", &self.transcript(), &self.signature)?;
        let about = (self.job, self.model, self.key, self.input);
        if about != (context.job, context.model, context.key, context.input) {
            return Err(Error::Malformed {
                what: "receipt",
                expected: "one for this job, model, key and input",
            });
        }
        let got = Digest::of(answer);
        if got != self.output {
            return Err(Error::DigestMismatch { expected: self.output, got });
        }
        Ok(())
    }

    fn transcript(&self) -> Transcript {
        Transcript::new("hermesh receipt v1")
            .field(&self.job.0)
            .field(&self.model.0)
            .field(&self.key.0)
            .field(&self.input.0)
            .field(&self.output.0)
            .field(&self.nonce)
            .field(self.service.as_bytes())
    }
}

/// The subject of a job's outcome.
pub(super) fn answer_subject(tenant: &TenantId, job: JobId) -> String {
    format!("hermesh.answer.{tenant}.{job}")
}

/// The message id of a job's outcome. An answer and a failure share it, so a job ends only once.
pub(super) fn outcome_id(tenant: &TenantId, job: JobId) -> String {
    format!("{tenant}.{job}.outcome")
}

/// The encrypted answer of a job.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The tenant that owned the job.
    pub tenant: TenantId,
    /// The service's statement about the answer.
    pub receipt: Receipt,
    /// The job's trace.
    pub trace: Option<TraceParent>,
    /// The answer ciphertext.
    pub body: Bytes,
}

debug_without_body!(Answer { tenant, receipt } body);

impl Answer {
    /// The subject of a job's outcome.
    pub fn subject_of(tenant: &TenantId, job: JobId) -> String {
        answer_subject(tenant, job)
    }
}

impl Wire for Answer {
    const TYPE: &'static str = "hermesh.answer";

    fn subject(&self) -> String {
        answer_subject(&self.tenant, self.receipt.job)
    }

    fn id(&self) -> String {
        outcome_id(&self.tenant, self.receipt.job)
    }

    fn write(&self, message: &mut Message) {
        let receipt = &self.receipt;
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Job", receipt.job);
        headers.set("Hermesh-Model", receipt.model);
        headers.set("Hermesh-Key", receipt.key);
        headers.set("Hermesh-Input", receipt.input);
        headers.set("Hermesh-Output", receipt.output);
        headers.set("Hermesh-Nonce", hex(&receipt.nonce));
        headers.set("Hermesh-Service", receipt.service);
        headers.set("Hermesh-Receipt", receipt.signature);
        write_trace(headers, &self.trace);
        message.body = self.body.clone();
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        let nonce = unhex(reader.text("Hermesh-Nonce")?).ok_or(Error::BadHeader {
            header: "Hermesh-Nonce".into(),
            expected: "32 lower-case hexadecimal digits",
        })?;
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            receipt: Receipt {
                job: reader.parse("Hermesh-Job")?,
                model: reader.parse("Hermesh-Model")?,
                key: reader.parse("Hermesh-Key")?,
                input: reader.parse("Hermesh-Input")?,
                output: reader.parse("Hermesh-Output")?,
                nonce,
                service: reader.parse("Hermesh-Service")?,
                signature: reader.parse("Hermesh-Receipt")?,
            },
            trace: reader.parse_optional("traceparent")?,
            body: message.body.clone(),
        })
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The job was answered.
    Answer(Box<Answer>),
    /// The job failed.
    Failure(Failure),
}

impl Outcome {
    /// Reads an answer or a failure.
    pub fn decode(message: &Message) -> Result<Self, Error> {
        if message.headers.get("ce-type") == Some(Failure::TYPE) {
            return Failure::decode(message).map(Self::Failure);
        }
        Answer::decode(message).map(|answer| Self::Answer(Box::new(answer)))
    }

    /// Reads an answer or a failure that came over the bus.
    pub fn receive(message: &Message) -> Result<Self, Error> {
        let outcome = Self::decode(message)?;
        let (tenant, job) = outcome.job();
        expect_subject(message, &answer_subject(tenant, job))?;
        Ok(outcome)
    }

    /// The tenant and id of the job.
    pub fn job(&self) -> (&TenantId, JobId) {
        match self {
            Self::Answer(answer) => (&answer.tenant, answer.receipt.job),
            Self::Failure(failure) => (&failure.tenant, failure.job),
        }
    }
}

/// Progress of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The tenant that owns the job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// Lookups completed.
    pub done: u64,
    /// Lookups of the whole job.
    pub total: u64,
    /// The job's trace.
    pub trace: Option<TraceParent>,
}

impl Status {
    /// The progress of this job.
    pub fn new(context: &Context, done: u64, total: u64) -> Self {
        let Context { tenant, job, trace, .. } = context.clone();
        Self { tenant, job, done, total, trace }
    }

    /// The subject of a job's progress.
    pub fn subject_of(tenant: &TenantId, job: JobId) -> String {
        format!("hermesh.status.{tenant}.{job}")
    }
}

impl Wire for Status {
    const TYPE: &'static str = "hermesh.status";

    fn subject(&self) -> String {
        Self::subject_of(&self.tenant, self.job)
    }

    fn id(&self) -> String {
        format!("{}.{}.{}.status", self.tenant, self.job, self.done)
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-Job", self.job);
        headers.set("Hermesh-Done", self.done);
        headers.set("Hermesh-Total", self.total);
        write_trace(headers, &self.trace);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            job: reader.parse("Hermesh-Job")?,
            done: reader.number("Hermesh-Done")?,
            total: reader.number("Hermesh-Total")?,
            trace: reader.parse_optional("traceparent")?,
        })
    }
}

/// Record that a service signs receipts with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceKey(pub VerifyingKey);

impl ServiceKey {
    /// All such records.
    pub const FILTER: &'static str = "hermesh.service.*";
}

impl Wire for ServiceKey {
    const TYPE: &'static str = "hermesh.service-key";

    fn subject(&self) -> String {
        format!("hermesh.service.{}", self.0)
    }

    fn id(&self) -> String {
        format!("{}.service", self.0)
    }

    fn write(&self, message: &mut Message) {
        message.headers.set("Hermesh-Verifying-Key", self.0);
    }

    fn read(message: &Message) -> Result<Self, Error> {
        Ok(Self(Reader::new(message, Self::TYPE).parse("Hermesh-Verifying-Key")?))
    }
}
