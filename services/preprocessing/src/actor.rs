//! The actor: takes jobs, and publishes the first stage's tasks.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error as MeshError, Message,
    actor::{Environment, LogicHandle, Running, blocking, digest},
    bus::Published,
    cache::Cache,
    handling::{Handling, JobError as _},
    objects::Bucket,
    topology,
    wire::{
        Admitted, Answer, Cancelled, Computed, Context, Facts, FactsQuery, Failure, FailureCode,
        Job, Lane, OpenJob, Status, Wire, answer_to, submission,
    },
};
use tokio::try_join;

use crate::{
    Candidate, Effect, Error, Input, Logic, Name, Open, Options, Prepare, Weight, cancel,
    logic::in_time,
};

/// How long key management may take to reply.
const FACTS_TIMEOUT: Duration = Duration::from_secs(10);
/// Cancellations answered at the same time.
const CANCELLING: usize = 16;

/// A running preprocessing.
pub struct Handle(Running);

impl Handle {
    /// Accepts no more jobs, finishes those in hand within `patience`, and returns the rest to their queue.
    pub async fn stop(self, patience: Duration) {
        self.0.drain(patience).await;
    }

    /// Stops at once, as a crash would.
    pub fn kill(self) {
        self.0.kill();
    }
}

/// Starts preprocessing. Must be called inside an actix system.
pub async fn start<P: Prepare>(
    options: Options,
    environment: Environment,
    prepare: Arc<P>,
) -> Result<Handle, MeshError> {
    if options.max_deadline > topology::MAX_DEADLINE {
        return Err(MeshError::Malformed {
            what: "max_deadline",
            expected: "at most as long as the mesh remembers jobs",
        });
    }
    topology::declare(&*environment.bus).await?;
    let clock = environment.clock.clone();
    let service = Rc::new(Service {
        logic: LogicHandle::start(Logic::new(options.clone()), clock, options.mailbox),
        models: Cache::new(options.model_cache_bytes).counted("models", &environment.metrics),
        prepare,
        environment: environment.clone(),
        options,
    });
    let mut running = Running::default();
    let handling = Handling {
        environment: environment.clone(),
        heartbeat: service.options.heartbeat,
        stopping: running.stopping(),
    };
    for _ in 0..service.options.in_flight.max(1) {
        let service = service.clone();
        running.handle(&handling, &[topology::JOBS], async move |message| {
            service.handle(message).await
        });
    }
    let orders = environment.bus.serve("hermesh.cancel.*").await?;
    running.answer_many(orders, CANCELLING, async move |order| {
        cancel::answer(&environment, order).await;
    });
    Ok(Handle(running))
}

/// Asks key management for the records that a job needs.
pub(crate) async fn facts(
    environment: &Environment,
    query: &FactsQuery,
) -> Result<Facts, MeshError> {
    let query = query.encode(environment.metrics.service());
    answer_to(&environment.bus.request(query, FACTS_TIMEOUT).await?)
}

struct Service<P: Prepare> {
    options: Options,
    logic: LogicHandle<Logic>,
    models: Cache<P::Model>,
    prepare: Arc<P>,
    environment: Environment,
}

impl<P: Prepare> Service<P> {
    async fn handle(&self, message: &Message) -> Result<(), MeshError> {
        let digest = digest(message.body.clone()).await?;
        let submission = submission(message, digest);
        let job = match Job::receive(message) {
            Ok(job) => job,
            Err(error) => {
                let refusal =
                    Failure::refusing(message, submission, FailureCode::Malformed, &error);
                if let Some(refusal) = refusal {
                    self.environment.refuse(&refusal).await?;
                }
                return Err(error);
            }
        };
        let context = job.context.clone();
        let Err(error) = self.run(job.clone(), digest, submission).await else {
            return Ok(());
        };
        let Some(code) = error.code() else {
            return self.environment.conclude(&context, Err(error)).await;
        };
        if !self.is_admitted(&context, submission).await? {
            if let Some(refusal) = Failure::refusing(message, submission, code, &error) {
                let retry_after = error.retry_after();
                self.environment.refuse(&Failure { retry_after, ..refusal }).await?;
            }
            if self.is_admitted(&context, submission).await? {
                // Another replica admitted the same submission meanwhile.
                let (tenant, job) = (&context.tenant, context.job);
                let refusal = Failure::refusal_subject(tenant, job, &submission);
                self.environment.bus.purge(&refusal).await?;
            }
            return Ok(());
        }
        // Only the admitted submission may end the job. Its error may date from before another replica
        // admitted it, so run it once more.
        let again = self.run(job, digest, submission).await;
        self.environment.conclude(&context, again).await
    }

    async fn is_admitted(&self, context: &Context, submission: Digest) -> Result<bool, MeshError> {
        let admitted = self.environment.admitted(&context.tenant, context.job).await?;
        Ok(admitted == Some(submission))
    }

    async fn run(&self, job: Job, digest: Digest, submission: Digest) -> Result<(), Error> {
        // Check the deadline first: a job that waits for key management must not wait for ever.
        in_time(&job.context, self.environment.clock.now())?;
        let (facts, name) =
            try_join!(self.facts(&job.context), self.name(&job.context, &submission))?;
        let candidate = Box::new(Candidate { job, digest, submission, facts });
        let mut effects = self.logic.call(Input::Admit(candidate, name)).await?;
        while let Some(effect) = effects.pop() {
            effects = match effect {
                Effect::Weigh(candidate, name) => {
                    let weight = self.weigh(&candidate.job).await?;
                    self.logic.call(Input::Weighed(candidate, name, weight)).await?
                }
                Effect::Claim(candidate, weight) => {
                    let claimed = self.claim(&candidate.job.context, candidate.submission).await;
                    let (holder, cancelled) = claimed.map_err(|error| match error {
                        MeshError::Full { .. } => Error::Full,
                        other => other.into(),
                    })?;
                    let input = Input::Claimed { candidate, weight, holder, cancelled };
                    self.logic.call(input).await?
                }
                Effect::Begin(job, lane, weight) => {
                    self.begin(*job, lane, weight).await?;
                    Vec::new()
                }
            };
        }
        Ok(())
    }

    async fn weigh(&self, job: &Job) -> Result<Weight, Error> {
        let model = self.model(job.context.model).await?;
        let (prepare, input) = (self.prepare.clone(), job.input.clone());
        let weight = blocking(move || prepare.weigh(&model, &input)).await?;
        weight.map_err(|refused| Error::Rejected(refused.0))
    }

    async fn facts(&self, context: &Context) -> Result<Facts, MeshError> {
        let Context { tenant, key, model, .. } = context;
        let query = FactsQuery { tenant: tenant.clone(), key: *key, model: *model };
        facts(&self.environment, &query).await
    }

    async fn name(&self, context: &Context, submission: &Digest) -> Result<Name, MeshError> {
        let bus = &self.environment.bus;
        let Context { tenant, job, .. } = context;
        let (outcome, refusal) =
            (Answer::subject_of(tenant, *job), Failure::refusal_subject(tenant, *job, submission));
        // Read this first, so that a job does not count against its own quota.
        let open = bus.subjects(&OpenJob::filter(Some(tenant))).await?;
        let (holder, ended, refused) = try_join!(
            self.environment.admitted(tenant, *job),
            bus.exists(&outcome),
            bus.exists(&refusal)
        )?;
        let entries = || open.iter().filter_map(|subject| OpenJob::parse_subject(subject));
        let open = Open {
            jobs: open.len(),
            bytes: entries().map(|entry| entry.bytes).fold(0, u64::saturating_add),
            soonest: entries().map(|entry| entry.deadline).min(),
        };
        Ok(Name { holder, ended, refused, open })
    }

    /// Reserves the job id for this submission, unless another has it. Returns the submission that has the
    /// reservation, and whether the tenant has cancelled the job.
    async fn claim(
        &self,
        context: &Context,
        submission: Digest,
    ) -> Result<(Digest, bool), MeshError> {
        let bus = &self.environment.bus;
        let Context { tenant, job, .. } = context.clone();
        let cancelled = Cancelled::subject_of(&tenant, job);
        let refusal = Failure::refusal_subject(&tenant, job, &submission);
        let claim = Admitted { tenant, job, submission }.encode(self.environment.metrics.service());
        let holder = match self.environment.publish(claim).await? {
            Published::Stored => submission,
            Published::Duplicate => {
                let holder = self.environment.admitted(&context.tenant, context.job).await?;
                holder.ok_or(MeshError::Stopped("the memory of admitted jobs"))?
            }
        };
        // After the reservation: a canceller or refuser first records its decision, then looks for the
        // reservation.
        if holder == submission && bus.exists(&refusal).await? {
            bus.purge(&refusal).await?;
        }
        Ok((holder, bus.exists(&cancelled).await?))
    }

    /// Records the job as open, and returns its task priority. A repeated start keeps the first priority,
    /// because it is part of the tasks' subjects, by which duplicates are recognised.
    async fn open(&self, context: &Context, bytes: u64, lane: Lane) -> Result<Lane, MeshError> {
        let open = OpenJob {
            context: context.clone(),
            bytes,
            lane,
            admitted: self.environment.clock.now(),
        };
        let subject = open.subject();
        let open = open.encode(self.environment.metrics.service());
        if self.environment.publish_until(open, context.deadline).await? == Published::Stored {
            return Ok(lane);
        }
        match self.environment.bus.last(&subject).await? {
            Some(first) => Ok(OpenJob::receive(&first)?.lane),
            // The job has just ended.
            None => Ok(lane),
        }
    }

    async fn begin(&self, job: Job, lane: Lane, weight: Weight) -> Result<(), Error> {
        let context = job.context;
        let lane = self.open(&context, weight.bytes, lane).await?;
        let model = self.model(context.model).await?;
        let prepare = self.prepare.clone();
        let per_shard = self.options.lookups_per_shard;
        let begun = blocking(move || prepare.begin(&model, &job.input, per_shard)).await?;
        let Computed { value: step, times } =
            begun.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&times);
        let Weight { lookups, work, .. } = weight;
        let source = self.environment.metrics.service();
        self.logic.call(Input::Begun { tenant: context.tenant.clone(), work }).await?;
        let messages = step.messages(&context, lane, 0, 0, lookups, source)?;
        self.environment.publish_all(messages, context.deadline).await?;
        self.environment.emit(Status::new(&context, 0, lookups).encode(source)).await;
        Ok(())
    }

    async fn model(&self, digest: Digest) -> Result<Arc<P::Model>, MeshError> {
        let prepare = self.prepare.clone();
        let object = (&Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| prepare.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
