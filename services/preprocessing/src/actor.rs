//! The actor: jobs in, the first stage's tasks out.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error as MeshError, Signature,
    actor::{Environment, LogicHandle, Running, blocking, with_heartbeat},
    bus::{Bucket, Delivery},
    cache::Cache,
    topology,
    wire::{
        Admitted, Answer, Computed, Facts, FactsQuery, Failure, FailureCode, Job, Status, Wire,
        answer_to,
    },
};

use crate::{Begun, Effect, Error, Input, Logic, Name, Options, Prepare};

/// How long key management may take to answer.
const FACTS_TIMEOUT: Duration = Duration::from_secs(10);

/// A running preprocessing.
pub struct Handle(Running);

impl Handle {
    /// Finishes what is in hand and ends.
    pub async fn stop(self) {
        self.0.stop().await;
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
        models: Cache::new(options.model_cache_bytes),
        prepare,
        environment: environment.clone(),
        options,
    });
    let mut running = Running::default();
    for _ in 0..service.options.in_flight.max(1) {
        let service = service.clone();
        let bus = environment.bus.clone();
        running.pull(bus, topology::JOBS, async move |delivery| {
            service.take(delivery).await;
        });
    }
    Ok(Handle(running))
}

struct Service<P: Prepare> {
    options: Options,
    logic: LogicHandle<Logic>,
    models: Cache<P::Model>,
    prepare: Arc<P>,
    environment: Environment,
}

impl<P: Prepare> Service<P> {
    async fn take(&self, delivery: Delivery) {
        self.environment.metrics.received(&delivery.message);
        let work = self.handle(&delivery);
        let result = with_heartbeat(&delivery, self.options.heartbeat, work).await;
        self.environment.settle(delivery, result).await;
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), MeshError> {
        let message = &delivery.message;
        // The policy binds a tenant to its subject, so the subject says who is speaking.
        let job = match Job::receive(message) {
            Ok(job) => job,
            Err(error) => {
                let refusal = Failure::refusing(message, FailureCode::Malformed, &error);
                self.refuse(refusal).await;
                return Err(error);
            }
        };
        let context = job.context.clone();
        let Err(error) = self.run(job).await else {
            return Ok(());
        };
        match error.code() {
            Some(code) if error.before_admission() => {
                self.refuse(Failure::refusing(message, code, &error)).await;
                Ok(())
            }
            Some(code) => {
                let failure = Failure::new(&context, code, &error);
                self.environment.fail(&failure).await
            }
            None => match error {
                Error::Mesh(error) => Err(error),
                _ => Err(MeshError::Stopped("preprocessing")),
            },
        }
    }

    async fn refuse(&self, refusal: Option<Failure>) {
        if let Some(refusal) = refusal {
            self.environment.refuse(&refusal).await;
        }
    }

    async fn run(&self, job: Job) -> Result<(), Error> {
        let facts = Box::new(self.facts(&job).await?);
        let name = self.name(&job).await?;
        let mut effects = self.logic.call(Input::Admit { job: Box::new(job), facts, name }).await?;
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Claim(job, facts) => {
                    let holder = self.claim(&job).await?;
                    effects = self.logic.call(Input::Claimed { job, facts, holder }).await?;
                }
                Effect::Begin(job) => self.begin(*job).await?,
            }
        }
        Ok(())
    }

    async fn name(&self, job: &Job) -> Result<Name, MeshError> {
        let bus = &self.environment.bus;
        let (tenant, id) = (&job.context.tenant, job.context.job);
        Ok(Name {
            holder: self.holder(job).await?,
            ended: bus.count(&Answer::subject_of(tenant, id)).await? > 0,
            in_use: bus.count(&Admitted::tenant_filter(tenant)).await?,
        })
    }

    /// The submission that the job's name stands for.
    async fn holder(&self, job: &Job) -> Result<Option<Signature>, MeshError> {
        let subject = Admitted::subject_of(&job.context.tenant, job.context.job);
        let stored = self.environment.bus.last(&subject).await?;
        stored.map(|message| Ok(Admitted::receive(&message)?.signature)).transpose()
    }

    /// Makes the job's name stand for it, unless it stands for another, and returns whom it stands for.
    async fn claim(&self, job: &Job) -> Result<Signature, MeshError> {
        if let Some(holder) = self.holder(job).await? {
            return Ok(holder);
        }
        let claim = Admitted {
            tenant: job.context.tenant.clone(),
            job: job.context.job,
            signature: job.signature,
        };
        // Of two replicas that publish at the same time one is the repetition, and reads who was first.
        self.environment.publish(claim.encode(self.environment.metrics.service())).await?;
        self.holder(job).await?.ok_or(MeshError::Stopped("the memory of admitted jobs"))
    }

    async fn facts(&self, job: &Job) -> Result<Facts, MeshError> {
        let query = FactsQuery {
            tenant: job.context.tenant.clone(),
            key: job.context.key,
            model: job.context.model,
        };
        let query = query.encode(self.environment.metrics.service());
        answer_to(&self.environment.bus.request(query, FACTS_TIMEOUT).await?)
    }

    async fn begin(&self, job: Job) -> Result<(), Error> {
        let context = job.context;
        let model = self.model(context.model).await?;
        let prepare = self.prepare.clone();
        let per_shard = self.options.lookups_per_shard;
        let begun = blocking(move || prepare.begin(&model, &job.input, per_shard)).await?;
        let Computed { value: Begun { step, total }, times } =
            begun.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&times);
        let source = self.environment.metrics.service();
        let status = Status { tenant: context.tenant.clone(), job: context.job, done: 0, total };
        for message in step.messages(&context, 0, 0, total, source)? {
            self.environment.publish(message).await?;
        }
        self.environment.emit(status.encode(source)).await;
        Ok(())
    }

    async fn model(&self, digest: Digest) -> Result<Arc<P::Model>, MeshError> {
        let prepare = self.prepare.clone();
        let object = (Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| prepare.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
