//! Waiting for a job that somebody has submitted.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::{
    Clock, Digest, Error, Message, Signature, VerifyingKey,
    bus::{BusHandle, Subscription},
    wire::{Answer, Context, Failure, Job, Outcome, Status, Wire},
};

/// How long after its deadline the failure of a job may still arrive: aggregation looks every ten
/// seconds.
const GRACE: Duration = Duration::from_secs(30);
/// How long one look at what is stored may take, and for how long a false outcome is looked at again.
const LOOK: Duration = Duration::from_secs(5);
/// How often what is stored is looked up, should its announcement have been lost.
const POLL: Duration = Duration::from_secs(1);

/// What the mesh says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing: it waits to be admitted, or never reached the mesh.
    Unknown,
    /// It is being computed.
    Running(Status),
    /// It has an answer, whose receipt has been verified.
    Answered(Box<Answer>),
    /// It was refused, or ended without an answer.
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
    /// Whether it may have been submitted long ago, so that there is something to look up at once.
    pub(super) attached: bool,
}

impl Pending {
    /// Waits for the job with this context that was submitted under this signature. Receipts of these
    /// services are trusted.
    ///
    /// # Errors
    /// The bus's.
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

    /// What the job is about.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What is stored about the job now.
    ///
    /// # Errors
    /// The bus's, or those of an outcome that does not verify.
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

    /// Waits for the answer, whose receipt has been verified. A failure is [`Error::Failed`].
    ///
    /// # Errors
    /// [`Error::Failed`], [`Error::Timeout`] after the deadline; [`Error::UntrustedService`] and others
    /// if what is stored as the outcome does not verify; the bus's, unless waiting may help.
    pub async fn outcome(mut self, mut on_progress: impl FnMut(&Status)) -> Result<Answer, Error> {
        let give_up = Instant::now() + self.patience;
        let mut poll = self.polls();
        let (mut done, mut false_since) = (0, None);
        loop {
            let outcome = tokio::select! {
                biased;
                // Even if messages never end.
                () = sleep_until(give_up) => {
                    return Err(Error::Timeout(self.patience));
                }
                // Progress next, so that the last of it is shown before the answer ends the wait.
                Some(message) = self.status.next() => {
                    progress(&message, &mut done, &mut on_progress);
                    None
                }
                // What is published is a hint: what is stored counts.
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
                    // What is shown meanwhile must not wait for a look that hangs.
                    match timeout(LOOK, look).await.unwrap_or(Err(Error::Timeout(LOOK))) {
                        Ok(outcome) => outcome,
                        Err(error) if error.retryable() => {
                            tracing::debug!(job = %self.context.job, %error, "looking again");
                            None
                        }
                        Err(error) => {
                            // What is stored under the outcome's name stays; the true one may have
                            // been on its way all the same.
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

    /// The bus is gone; perhaps the outcome can still be read.
    async fn last_look(&self) -> Result<Answer, Error> {
        match self.ended().await? {
            Some(Outcome::Answer(answer)) => Ok(*answer),
            Some(Outcome::Failure(failure)) => Err(Error::Failed(Box::new(failure))),
            None => Err(Error::Stopped("the bus")),
        }
    }

    /// The stored end of the job, verified: its outcome, or the refusal of this very submission.
    async fn ended(&self) -> Result<Option<Outcome>, Error> {
        let (tenant, job) = (&self.context.tenant, self.context.job);
        let outcome = self.bus.last(&Answer::subject_of(tenant, job)).await?;
        let outcome = outcome.map(|message| self.read(&message));
        if let Some(Ok(outcome)) = outcome {
            return Ok(Some(outcome));
        }
        // The job's name may stand for another submission, whose answer is none to this one.
        let refused = Failure::refusal_subject(tenant, job, &self.submission);
        let refusal = self.bus.last(&refused).await?;
        match refusal.and_then(|message| self.refusal(&message)) {
            Some(refusal) => Ok(Some(refusal)),
            None => outcome.transpose(),
        }
    }

    /// The outcome of this job, verified.
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

    /// The refusal of this very submission; another one under its name is none of its business.
    fn refusal(&self, message: &Message) -> Option<Outcome> {
        let failure = Failure::receive(message).ok()?;
        (failure.refused == Some(self.submission)).then_some(Outcome::Failure(failure))
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
