//! The actor: jobs in, the first stage's tasks out.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Digest, Error as MeshError,
    actor::{Environment, LogicHandle, Running, blocking, with_heartbeat},
    bus::{Bucket, Delivery},
    cache::Cache,
    topology,
    wire::{Computed, Facts, FactsQuery, Failure, Job, Status, Wire, answer_to},
};

use crate::{Begun, Effect, Error, Input, Logic, Options, Prepare};

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
        let job = Job::decode(&delivery.message)?;
        // The policy binds a tenant to its subject, so the subject says who is speaking.
        if delivery.message.subject != job.subject() {
            return Err(MeshError::Malformed {
                what: "job",
                expected: "the subject of the tenant named in it",
            });
        }
        let context = job.context.clone();
        match self.run(job, delivery.attempt).await {
            Ok(()) => Ok(()),
            Err(Error::Mesh(error)) if Error::Mesh(error.clone()).code().is_none() => Err(error),
            Err(error) => {
                let code = error.code().unwrap_or(hermesh_mesh::wire::FailureCode::Internal);
                let failure = Failure::new(&context, code, &error);
                if !matches!(error, Error::Replay(_)) {
                    return self.environment.fail(&failure).await;
                }
                // The outcome belongs to the job that had the identifier first; the repetition is
                // refused where progress is shown.
                self.environment.metrics.failed(code);
                let mut refusal = failure.encode(self.environment.metrics.service());
                refusal.subject = Status::subject_of(&context.tenant, context.job);
                self.environment.emit(refusal).await;
                Ok(())
            }
        }
    }

    async fn run(&self, job: Job, attempt: u32) -> Result<(), Error> {
        let input = Input::Admit { facts: self.facts(&job).await?, job: Box::new(job), attempt };
        for Effect::Begin(job) in self.logic.call(input).await? {
            self.begin(*job).await?;
        }
        Ok(())
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
