//! Waiting for the outcome of a submitted job.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::{
    Clock, Digest, Error, Message, Signature, VerifyingKey,
    bus::{BusHandle, Subscription},
    wire::{Answer, Context, Failure, Job, Outcome, Status, Wire},
};

/// How long after its deadline the failure of a job may still arrive: aggregation checks deadlines every ten seconds.
const GRACE: Duration = Duration::from_secs(30);
/// Time limit of one look-up, and how long an outcome that does not verify is re-read before it is reported.
const LOOK: Duration = Duration::from_secs(5);
/// Interval for looking up the stored outcome, in case its announcement was lost.
const POLL: Duration = Duration::from_secs(1);

/// What the mesh knows about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No information: the job waits for admission or never reached the mesh.
    Unknown,
    /// The job is being computed.
    Running(Status),
    /// The job has an answer, and its receipt has been verified.
    Answered(Box<Answer>),
    /// The job was refused, or ended without an answer.
    Failed(Failure),
}

/// A submitted job.
pub struct Pending {
    bus: BusHandle,
    answers: Subscription,
    status: Subscription,
    refusals: Subscription,
    context: Context,
    submission: Digest,
    services: Vec<VerifyingKey>,
    patience: Duration,
    /// Whether the job may have been submitted long ago; its outcome is then looked up immediately.
    pub(super) attached: bool,
}

impl Pending {
    /// Waits for the job with this context and job signature. `services` are the keys whose receipts are trusted.
    ///
    /// # Errors
    /// Errors of the bus.
    pub async fn attach(
        bus: BusHandle,
        clock: &dyn Clock,
        services: Vec<VerifyingKey>,
        context: Context,
        signature: Signature,
    ) -> Result<Self, Error> {
        let (tenant, job) = (&context.tenant, context.job);
        let submission = Job::submission(context.clone(), signature);
        Ok(Self {
            answers: bus.subscribe(&Answer::subject_of(tenant, job)).await?,
            status: bus.subscribe(&Status::subject_of(tenant, job)).await?,
            refusals: bus.subscribe(&Failure::refusal_subject(tenant, job, &submission)).await?,
            bus,
            patience: clock.now().until(context.deadline) + GRACE,
            context,
            submission,
            services,
            attached: true,
        })
    }

    /// The job's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Looks up the job's current state.
    ///
    /// # Errors
    /// Errors of the bus, or of verifying the outcome.
    pub async fn look(&self) -> Result<State, Error> {
        if let Some(ended) = self.ended().await? {
            return Ok(match ended {
                Outcome::Answer(answer) => State::Answered(answer),
                Outcome::Failure(failure) => State::Failed(failure),
            });
        }
        let subject = Status::subject_of(&self.context.tenant, self.context.job);
        let status = self.bus.last(&subject).await?;
        let status = status.and_then(|message| Status::receive(&message).ok());
        Ok(status.map_or(State::Unknown, State::Running))
    }

    /// Waits for the answer and verifies its receipt. A failed job gives [`Error::Failed`].
    ///
    /// # Errors
    /// [`Error::Failed`]; [`Error::Timeout`] after the deadline; [`Error::UntrustedService`] and others if the stored
    /// outcome does not verify; permanent errors of the bus.
    pub async fn outcome(mut self, mut on_progress: impl FnMut(&Status)) -> Result<Answer, Error> {
        let give_up = Instant::now() + self.patience;
        let mut poll = self.polls();
        let (mut done, mut false_since) = (0, None);
        loop {
            let outcome = tokio::select! {
                biased;
                // First, so that the deadline holds even if messages never end.
                () = sleep_until(give_up) => {
                    return Err(Error::Timeout(self.patience));
                }
                // Progress before answers, so that the last progress is shown before the wait ends.
                Some(message) = self.status.next() => {
                    progress(&message, &mut done, &mut on_progress);
                    None
                }
                // A published message is only a hint; the stored message counts.
                Some(_) = self.refusals.next() => {
                    poll.reset_immediately();
                    None
                }
                message = self.answers.next() => match message {
                    Some(_) => {
                        poll.reset_immediately();
                        None
                    }
                    None => return self.last_look().await,
                },
                _ = poll.tick() => {
                    let first = std::mem::take(&mut self.attached);
                    let look = async {
                        match first {
                            true => self.first_look(&mut done, &mut on_progress).await,
                            false => self.ended().await,
                        }
                    };
                    // A look-up that hangs must not block progress messages.
                    match timeout(LOOK, look).await.unwrap_or(Err(Error::Timeout(LOOK))) {
                        Ok(outcome) => outcome,
                        Err(error) if error.retryable() => {
                            tracing::debug!(job = %self.context.job, %error, "looking again");
                            None
                        }
                        Err(error) => {
                            // The stored outcome cannot be replaced, but an earlier read may have seen a false one
                            // while the true one was on its way.
                            let since = *false_since.get_or_insert_with(Instant::now);
                            if since.elapsed() >= LOOK || Instant::now() >= give_up {
                                return Err(error);
                            }
                            None
                        }
                    }
                }
            };
            match outcome {
                Some(Outcome::Answer(answer)) => return Ok(*answer),
                Some(Outcome::Failure(failure)) => return Err(Error::Failed(Box::new(failure))),
                None => {}
            }
        }
    }

    fn polls(&self) -> Interval {
        let first = Instant::now() + if self.attached { Duration::ZERO } else { POLL };
        let mut poll = interval_at(first, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll
    }

    async fn first_look(
        &self,
        done: &mut u64,
        on_progress: &mut impl FnMut(&Status),
    ) -> Result<Option<Outcome>, Error> {
        let subject = Status::subject_of(&self.context.tenant, self.context.job);
        if let Some(message) = self.bus.last(&subject).await? {
            progress(&message, done, on_progress);
        }
        self.ended().await
    }

    /// The bus is gone; tries to read the stored outcome once more.
    async fn last_look(&self) -> Result<Answer, Error> {
        match self.ended().await? {
            Some(Outcome::Answer(answer)) => Ok(*answer),
            Some(Outcome::Failure(failure)) => Err(Error::Failed(Box::new(failure))),
            None => Err(Error::Stopped("the bus")),
        }
    }

    /// The stored and verified end of the job: its outcome, or the refusal of this submission.
    async fn ended(&self) -> Result<Option<Outcome>, Error> {
        let (tenant, job) = (&self.context.tenant, self.context.job);
        let outcome = self.bus.last(&Answer::subject_of(tenant, job)).await?;
        let outcome = outcome.map(|message| self.read(&message));
        if let Some(Ok(outcome)) = outcome {
            return Ok(Some(outcome));
        }
        // The job id may belong to another submission, whose answer is not for this one.
        let refused = Failure::refusal_subject(tenant, job, &self.submission);
        let refusal = self.bus.last(&refused).await?;
        match refusal.and_then(|message| self.refusal(&message)) {
            Some(refusal) => Ok(Some(refusal)),
            None => outcome.transpose(),
        }
    }

    /// Reads and verifies an outcome of this job.
    fn read(&self, message: &Message) -> Result<Outcome, Error> {
        let outcome = Outcome::receive(message)?;
        if let Outcome::Answer(answer) = &outcome {
            let service = answer.receipt.service;
            if !self.services.contains(&service) {
                return Err(Error::UntrustedService { got: service });
            }
            answer.receipt.verify(&service, &self.context, &answer.body)?;
        }
        Ok(outcome)
    }

    /// Reads the refusal of this submission; ignores refusals of other submissions with the same job id.
    fn refusal(&self, message: &Message) -> Option<Outcome> {
        let failure = Failure::receive(message).ok()?;
        (failure.refused == Some(self.submission)).then_some(Outcome::Failure(failure))
    }
}

fn progress(message: &Message, done: &mut u64, on_progress: &mut impl FnMut(&Status)) {
    if let Ok(status) = Status::receive(message) {
        // Replicas report in parallel; the progress shown never goes back.
        if status.done >= *done {
            *done = status.done;
            on_progress(&status);
        }
    }
}
