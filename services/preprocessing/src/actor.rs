//! The actor: jobs in, the first stage's tasks out.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error as MeshError, Message, Signature,
    actor::{Environment, LogicHandle, Running, blocking, digest},
    bus::Published,
    cache::Cache,
    handling::{Handling, JobError as _},
    objects::Bucket,
    topology,
    wire::{
        Admitted, Answer, Computed, Context, Facts, FactsQuery, Failure, FailureCode, Job, Lane,
        OpenJob, Status, Wire, answer_to,
    },
};
use tokio::try_join;

use crate::{
    Begun, Effect, Error, Input, Logic, Name, Open, Options, Prepare, cancel, logic::in_time,
};

/// How long key management may take to answer.
const FACTS_TIMEOUT: Duration = Duration::from_secs(10);
/// Cancellations answered at the same time.
const CANCELLING: usize = 16;

/// A running preprocessing.
pub struct Handle(Running);

impl Handle {
    /// Takes nothing new, finishes what is in hand within `patience`, and hands back the rest.
    pub async fn stop(self, patience: Duration) {
        self.0.drain(patience).await;
    }

    /// Ends at once, as a crash would.
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

/// What key management knows.
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
        // The policy binds a tenant to its subject, so the subject says who is speaking.
        let job = match Job::receive(message) {
            Ok(job) => job,
            Err(error) => {
                self.refuse(message, FailureCode::Malformed, &error, None).await?;
                return Err(error);
            }
        };
        let (context, signature) = (job.context.clone(), job.signature);
        let result = self.run(job).await;
        if let Err(error) = &result
            && let Some(code) = error.code()
            && error.before_admission()
        {
            if code == FailureCode::Expired {
                let outcome = Answer::subject_of(&context.tenant, context.job);
                if self.environment.bus.exists(&outcome).await? {
                    // Cancelled, say: it is the outcome that counts, not that the job is late as well.
                    return Ok(());
                }
                if self.holder(&context).await? == Some(signature) {
                    // Admitted by somebody who died before it was open, so that no sweep finds it.
                    return self.environment.conclude(&context, result).await;
                }
            }
            return self.refuse(message, code, error, error.retry_after()).await;
        }
        self.environment.conclude(&context, result).await
    }

    async fn refuse(
        &self,
        message: &Message,
        code: FailureCode,
        why: impl ToString,
        retry_after: Option<Duration>,
    ) -> Result<(), MeshError> {
        match Failure::refusing(message, code, why) {
            Some(refusal) => self.environment.refuse(&Failure { retry_after, ..refusal }).await,
            None => Ok(()),
        }
    }

    async fn run(&self, job: Job) -> Result<(), Error> {
        // First of all, so that what waits for key management does not wait for ever.
        in_time(&job.context, self.environment.clock.now())?;
        let (digest, facts, name) =
            try_join!(self.digest(&job), self.facts(&job.context), self.name(&job.context))?;
        let (job, facts) = (Box::new(job), Box::new(facts));
        let mut effects = self.logic.call(Input::Admit { job, digest, facts, name }).await?;
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Claim(job, facts) => {
                    let holder = self.claim(&job).await?;
                    effects = self.logic.call(Input::Claimed { job, facts, holder }).await?;
                }
                Effect::Begin(job, lane) => self.begin(*job, lane).await?,
            }
        }
        Ok(())
    }

    async fn digest(&self, job: &Job) -> Result<Digest, MeshError> {
        // What is too large is refused for that, whatever it is.
        let bytes = job.input.len().min(self.options.max_input_bytes.saturating_add(1));
        digest(job.input.slice(..bytes)).await
    }

    async fn facts(&self, context: &Context) -> Result<Facts, MeshError> {
        let Context { tenant, key, model, .. } = context;
        let query = FactsQuery { tenant: tenant.clone(), key: *key, model: *model };
        facts(&self.environment, &query).await
    }

    async fn name(&self, context: &Context) -> Result<Name, MeshError> {
        let bus = &self.environment.bus;
        let (outcome, open) = (
            Answer::subject_of(&context.tenant, context.job),
            OpenJob::filter(Some(&context.tenant)),
        );
        let (holder, ended, open) =
            try_join!(self.holder(context), bus.exists(&outcome), bus.subjects(&open))?;
        let entries = || open.iter().filter_map(|subject| OpenJob::parse_subject(subject));
        let open = Open {
            jobs: open.len(),
            bytes: entries().map(|entry| entry.bytes).fold(0, u64::saturating_add),
            soonest: entries().map(|entry| entry.deadline).min(),
        };
        Ok(Name { holder, ended, open })
    }

    /// The submission that the job's name stands for.
    async fn holder(&self, context: &Context) -> Result<Option<Signature>, MeshError> {
        let subject = Admitted::subject_of(&context.tenant, context.job);
        let stored = self.environment.bus.last(&subject).await?;
        stored.map(|message| Ok(Admitted::receive(&message)?.signature)).transpose()
    }

    /// Makes the job's name stand for it, unless it stands for another, and returns whom it stands for.
    async fn claim(&self, job: &Job) -> Result<Signature, MeshError> {
        let claim = Admitted {
            tenant: job.context.tenant.clone(),
            job: job.context.job,
            signature: job.signature,
        };
        let claim = claim.encode(self.environment.metrics.service());
        match self.environment.publish(claim).await? {
            Published::Stored => Ok(job.signature),
            Published::Duplicate => {
                let holder = self.holder(&job.context).await?;
                holder.ok_or(MeshError::Stopped("the memory of admitted jobs"))
            }
        }
    }

    /// Counts the job as open, and returns the lane that it has had from its first beginning on: its
    /// tasks are recognised by their subjects, and the lane is part of these.
    async fn open(&self, context: &Context, bytes: usize, lane: Lane) -> Result<Lane, MeshError> {
        let open = OpenJob {
            context: context.clone(),
            bytes: bytes as u64,
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
            // It has just ended.
            None => Ok(lane),
        }
    }

    async fn begin(&self, job: Job, lane: Lane) -> Result<(), Error> {
        let context = job.context;
        let lane = self.open(&context, job.input.len(), lane).await?;
        let model = self.model(context.model).await?;
        let prepare = self.prepare.clone();
        let per_shard = self.options.lookups_per_shard;
        let begun = blocking(move || prepare.begin(&model, &job.input, per_shard)).await?;
        let Computed { value: Begun { step, total }, times } =
            begun.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&times);
        let (tenant, source) = (context.tenant.clone(), self.environment.metrics.service());
        self.logic.call(Input::Begun { tenant: tenant.clone(), lookups: total }).await?;
        let status = Status { tenant, job: context.job, done: 0, total };
        let messages = step.messages(&context, lane, 0, 0, total, source)?;
        self.environment.publish_all(messages, context.deadline).await?;
        self.environment.emit(status.encode(source)).await;
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
