//! A tenant's side of the mesh.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Clock, Digest, Error, JobId, Message, Signature, SigningKey, TenantId, VerifyingKey,
    bus::{Bucket, BusHandle, Subscription},
    wire::{
        Answer, Context, Failure, Job, Outcome, RegisterModel, RegisterTenant, RevokeKey, Status,
        TraceParent, UploadEvaluationKey, Wire, accepted,
    },
};

/// How long a request to key management may take; checking a key of 20 MB is the longest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after its deadline the failure of a job may still arrive.
const GRACE: Duration = Duration::from_secs(5);
/// How often the stored outcome is looked up, should its announcement have been lost.
const POLL: Duration = Duration::from_secs(1);

/// One tenant's connection.
#[derive(Clone)]
pub struct Client {
    bus: BusHandle,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    key: SigningKey,
    service: VerifyingKey,
}

impl Client {
    /// A client for `tenant`, which signs with `key` and trusts receipts of `service`.
    pub fn new(
        bus: BusHandle,
        clock: Arc<dyn Clock>,
        tenant: TenantId,
        key: SigningKey,
        service: VerifyingKey,
    ) -> Self {
        Self { bus, clock, tenant, key, service }
    }

    /// Binds the tenant's name to its signing key.
    pub async fn register(&self) -> Result<(), Error> {
        let request = RegisterTenant::new(self.tenant.clone(), &self.key);
        accepted(&self.ask(&request).await?)
    }

    /// Uploads an evaluation key and has it checked.
    pub async fn upload_key(&self, key: Bytes) -> Result<Digest, Error> {
        let digest = self.bus.put(Bucket::Uploads, key).await?;
        let request = UploadEvaluationKey::new(self.tenant.clone(), digest, &self.key);
        accepted(&self.ask(&request).await?)?;
        Ok(digest)
    }

    /// Withdraws an evaluation key for good.
    pub async fn revoke_key(&self, key: Digest) -> Result<(), Error> {
        let request = RevokeKey::new(self.tenant.clone(), key, &self.key);
        accepted(&self.ask(&request).await?)
    }

    /// Uploads a model and has it checked.
    pub async fn register_model(&self, model: Bytes) -> Result<Digest, Error> {
        let digest = self.bus.put(Bucket::Uploads, model).await?;
        accepted(&self.ask(&RegisterModel { model: digest }).await?)?;
        Ok(digest)
    }

    /// Signs and submits a job whose answer is of use for `within`.
    pub async fn submit(
        &self,
        model: Digest,
        key: Digest,
        input: Bytes,
        within: Duration,
    ) -> Result<Pending, Error> {
        let context = Context {
            job: JobId::random(),
            tenant: self.tenant.clone(),
            model,
            key,
            input: Digest::of(&input),
            deadline: self.clock.now().plus(within),
            trace: Some(TraceParent::random()),
        };
        self.submit_job(Job::new(context, input, &self.key)).await
    }

    /// Submits a job made elsewhere.
    pub async fn submit_job(&self, job: Job) -> Result<Pending, Error> {
        let subject = Answer::subject_of(&self.tenant, job.context.job);
        let status = Status::subject_of(&self.tenant, job.context.job);
        let pending = Pending {
            // Subscribed before the job is published, so that nothing is missed.
            answers: self.bus.subscribe(&subject).await?,
            status: self.bus.subscribe(&status).await?,
            bus: self.bus.clone(),
            patience: self.clock.now().until(job.context.deadline) + GRACE,
            service: self.service,
            context: job.context.clone(),
            signature: job.signature,
        };
        self.bus.publish(job.encode("client")).await?;
        Ok(pending)
    }

    async fn ask(&self, request: &impl Wire) -> Result<Message, Error> {
        let message = request.encode("client");
        self.bus.request(message, REQUEST_TIMEOUT).await
    }
}

/// A submitted job.
pub struct Pending {
    bus: BusHandle,
    answers: Subscription,
    status: Subscription,
    context: Context,
    signature: Signature,
    service: VerifyingKey,
    patience: Duration,
}

impl Pending {
    /// What the job is about.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits for the answer, whose receipt has been verified. A failure is [`Error::Failed`].
    pub async fn outcome(mut self, mut on_progress: impl FnMut(&Status)) -> Result<Answer, Error> {
        let give_up = Instant::now() + self.patience;
        let subject = Answer::subject_of(&self.context.tenant, self.context.job);
        let mut done = 0;
        loop {
            let message = tokio::select! {
                biased;
                // Even if messages never end.
                () = sleep_until(give_up) => return Err(Error::Timeout(self.patience)),
                // Progress next, so that the last of it is shown before the answer ends the wait.
                Some(message) = self.status.next() => {
                    if let Some(refusal) = self.refusal(&message) {
                        return Err(Error::Failed(Box::new(refusal)));
                    }
                    progress(&message, &mut done, &mut on_progress);
                    None
                }
                Some(message) = self.answers.next() => Some(message),
                () = sleep(POLL) => self.bus.last(&subject).await?,
            };
            match message.map(|message| self.read(&message)) {
                Some(Ok(Outcome::Answer(answer))) => return Ok(*answer),
                Some(Ok(Outcome::Failure(failure))) => {
                    return Err(Error::Failed(Box::new(failure)));
                }
                // Whatever that was, it must not keep the true outcome from being seen.
                Some(Err(error)) => {
                    tracing::debug!(job = %self.context.job, %error, "not this job's outcome");
                }
                None => {}
            }
        }
    }

    /// The outcome of this job, verified.
    fn read(&self, message: &Message) -> Result<Outcome, Error> {
        let outcome = Outcome::receive(message)?;
        if let Outcome::Answer(answer) = &outcome {
            answer.receipt.verify(&self.service, &self.context, &answer.body)?;
        }
        Ok(outcome)
    }

    /// The refusal of this very submission; another one under its name is none of its business.
    fn refusal(&self, message: &Message) -> Option<Failure> {
        let failure = Failure::receive(message).ok()?;
        (failure.refused == Some(self.signature)).then_some(failure)
    }
}

fn progress(message: &Message, done: &mut u64, on_progress: &mut impl FnMut(&Status)) {
    if let Ok(status) = Status::receive(message) {
        // Replicas report side by side; what is shown does not go back.
        if status.done >= *done {
            *done = status.done;
            on_progress(&status);
        }
    }
}
