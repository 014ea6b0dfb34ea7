//! The actor: tasks in, partials out, the pool in between.

use std::{rc::Rc, sync::Arc};

use hermesh_mesh::{
    Digest, Error as MeshError,
    actor::{Environment, LogicHandle, Running, blocking, with_heartbeat},
    bus::{Bucket, Delivery},
    cache::Cache,
    topology,
    wire::{Answer, Computed, Context, Failure, KeyRevoked, Partial, Task, Wire},
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Compute, Effect, Error, Input, Logic, Options};

/// A running evaluation.
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

/// Starts evaluation. Must be called inside an actix system.
pub async fn start<C: Compute>(
    options: Options,
    environment: Environment,
    compute: Arc<C>,
) -> Result<Handle, MeshError> {
    topology::declare(&*environment.bus).await?;
    let pool = ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(|thread| format!("evaluation-{thread}"))
        .build()
        .map_err(|_| MeshError::Stopped("the compute pool"))?;
    let service = Rc::new(Service {
        logic: LogicHandle::start(Logic, environment.clock.clone(), options.mailbox),
        keys: Cache::new(options.key_cache_bytes),
        models: Cache::new(options.model_cache_bytes),
        pool: Arc::new(pool),
        compute,
        environment: environment.clone(),
        options,
    });
    let mut running = Running::default();
    for _ in 0..service.options.in_flight.max(1) {
        let service = service.clone();
        let bus = environment.bus.clone();
        running.pull(bus, topology::TASKS, async move |delivery| {
            service.take(delivery).await;
        });
    }
    Ok(Handle(running))
}

struct Service<C: Compute> {
    options: Options,
    logic: LogicHandle<Logic>,
    keys: Cache<C::Key>,
    models: Cache<C::Model>,
    pool: Arc<ThreadPool>,
    compute: Arc<C>,
    environment: Environment,
}

impl<C: Compute> Service<C> {
    async fn take(&self, delivery: Delivery) {
        self.environment.metrics.received(&delivery.message);
        let work = self.handle(&delivery);
        let result = with_heartbeat(&delivery, self.options.heartbeat, work).await;
        self.environment.settle(delivery, result).await;
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), MeshError> {
        let task = Task::receive(&delivery.message)?;
        let context = task.context.clone();
        match self.run(task).await {
            Ok(()) => Ok(()),
            Err(Error::Mesh(error)) => Err(error),
            Err(error) => {
                let code = error.code();
                let code = code.unwrap_or(hermesh_mesh::wire::FailureCode::Internal);
                let failure = Failure::new(&context, code, &error);
                self.environment.fail(&failure).await
            }
        }
    }

    async fn run(&self, task: Task) -> Result<(), Error> {
        let bus = &self.environment.bus;
        let context = &task.context;
        // A task delivered again after its result was stored, or of a job that has failed elsewhere,
        // is not worth a single bootstrap.
        let partial = Partial::subject_of(context, &task.position);
        let outcome = Answer::subject_of(&context.tenant, context.job);
        let input = Input::Task {
            done: bus.count(&partial).await? > 0,
            ended: bus.count(&outcome).await? > 0,
            revoked: self.revoked(context).await?,
            task: Box::new(task),
        };
        for Effect::Compute(task) in self.logic.call(input).await? {
            self.compute(*task).await?;
        }
        Ok(())
    }

    async fn compute(&self, task: Task) -> Result<(), Error> {
        let model = self.model(task.context.model).await?;
        let key = self.key(task.context.key).await?;
        // Asked again, for loading a key takes a while.
        if self.revoked(&task.context).await? {
            return Err(Error::KeyRevoked(task.context.key));
        }
        let compute = self.compute.clone();
        let shard = task.body;
        let pool = self.pool.clone();
        // A panic in there is an error for this task alone.
        let work = move || pool.install(|| compute.evaluate(&model, &key, &shard));
        let computed = blocking(work).await?;
        let Computed { value, times } = computed.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&times);
        let partial = Partial {
            context: task.context,
            position: task.position,
            outputs: false,
            times,
            body: value.into(),
        };
        let partial = partial.encode(self.environment.metrics.service());
        Ok(self.environment.publish(partial).await?)
    }

    async fn revoked(&self, context: &Context) -> Result<bool, MeshError> {
        let subject = KeyRevoked::subject_of(&context.tenant, context.key);
        let revoked = self.environment.bus.count(&subject).await? > 0;
        if revoked {
            self.keys.remove(&context.key);
        }
        Ok(revoked)
    }

    async fn key(&self, digest: Digest) -> Result<Arc<C::Key>, Error> {
        let compute = self.compute.clone();
        let pool = self.pool.clone();
        let object = (Bucket::Keys, digest);
        let limit = self.options.max_key_bytes;
        let decode = move |bytes: &[u8]| pool.install(|| compute.key(bytes));
        let bus = &*self.environment.bus;
        let key = self.keys.fetch(bus, object, limit, decode).await;
        key.map_err(|error| match error {
            MeshError::NoObject { .. } => Error::KeyRevoked(digest),
            other => other.into(),
        })
    }

    async fn model(&self, digest: Digest) -> Result<Arc<C::Model>, MeshError> {
        let compute = self.compute.clone();
        let object = (Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| compute.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
