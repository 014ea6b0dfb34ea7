//! The actor: takes tasks, computes them on the pool, and publishes partials.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Bytes, Digest, Error as MeshError, Message,
    actor::{Environment, LogicHandle, Running, Stopping, blocking},
    bus::{Delivery, Published},
    cache::Cache,
    handling::Handling,
    objects::Bucket,
    topology,
    wire::{Answer, Arrived, Computed, Context, Joined, KeyRevoked, Partial, Position, Task, Wire},
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    try_join,
};

use crate::{Compute, Effect, Error, Input, Logic, Options, affinity::Affinity};

/// A running evaluation.
pub struct Handle(Running);

impl Handle {
    /// Accepts no more tasks, finishes those being computed within `patience`, and returns the rest to
    /// their queues.
    pub async fn stop(self, patience: Duration) {
        self.0.drain(patience).await;
    }

    /// Stops at once, as a crash would.
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
    let mut running = Running::default();
    let metrics = &environment.metrics;
    let handling = Handling {
        environment: environment.clone(),
        heartbeat: options.heartbeat,
        stopping: running.stopping(),
    };
    let free = Rc::new(Semaphore::new(options.threads.max(1)));
    let service = Rc::new(Service {
        logic: LogicHandle::start(Logic, environment.clock.clone(), options.mailbox),
        keys: Cache::new(options.key_cache_bytes).counted("keys", metrics),
        models: Cache::new(options.model_cache_bytes).counted("models", metrics),
        affinity: Affinity::new(environment.clone(), running.stopping(), free.clone()),
        free,
        stopping: running.stopping(),
        pool: Arc::new(pool),
        compute,
        environment: environment.clone(),
        options,
    });
    for _ in 0..service.options.in_flight.max(1) {
        let (waiting, working) = (service.clone(), service.clone());
        let (bus, handling) = (environment.bus.clone(), handling.clone());
        let next = async move || waiting.affinity.next(bus.pull(&topology::TASKS)).await;
        running.take("tasks", next, async move |delivery| {
            if let Some(delivery) = working.prefer_a_holder(delivery).await {
                handling.take(delivery, &async |message| working.handle(message).await).await;
            }
        });
    }
    Ok(Handle(running))
}

struct Service<C: Compute> {
    options: Options,
    logic: LogicHandle<Logic>,
    keys: Cache<C::Key>,
    models: Cache<C::Model>,
    affinity: Affinity,
    /// One permit per thread of the pool; a task without a permit has not been started.
    free: Rc<Semaphore>,
    stopping: Stopping,
    pool: Arc<ThreadPool>,
    compute: Arc<C>,
    environment: Environment,
}

impl<C: Compute> Service<C> {
    /// Offers the delivery to a worker that holds its key; returns it if none takes it.
    async fn prefer_a_holder(&self, delivery: Delivery) -> Option<Delivery> {
        match Context::of(&delivery.message) {
            Ok(Context { key, .. }) if !self.keys.holds(&key) => {
                self.affinity.offer(key, delivery).await
            }
            // A malformed task is handled here, like any other; handling rejects it.
            _ => Some(delivery),
        }
    }

    async fn handle(&self, message: &Message) -> Result<(), MeshError> {
        let task = Task::receive(message)?;
        let context = task.context.clone();
        let result = self.run(task).await;
        self.environment.conclude(&context, result).await
    }

    async fn run(&self, task: Task) -> Result<(), Error> {
        for effect in self.decide(Box::new(task)).await? {
            let task = match effect {
                Effect::Compute(task) => task,
                Effect::Announce(task) => return self.announce(*task).await,
                Effect::Forget(task) => return self.forget(&task.context, &task.position).await,
            };
            let model = self.model(task.context.model).await?;
            let at_once = self.keys.holds(&task.context.key) && self.free.available_permits() > 0;
            let key = self.key(task.context.key).await?;
            let free = self.free().await?;
            // Decide again: loading a key, or waiting for the pool, takes a while.
            let again = match at_once {
                true => vec![Effect::Compute(task)],
                false => self.decide(task).await?,
            };
            match again.into_iter().next() {
                Some(Effect::Compute(task)) => self.compute(*task, model, key, free).await?,
                Some(Effect::Announce(task)) => self.announce(*task).await?,
                Some(Effect::Forget(task)) => self.forget(&task.context, &task.position).await?,
                None => {}
            }
        }
        Ok(())
    }

    /// Decides whether the shard still needs computing: not if its result is stored, or if the job has
    /// ended.
    async fn decide(&self, task: Box<Task>) -> Result<Vec<Effect>, Error> {
        let bus = &self.environment.bus;
        let context = &task.context;
        let partial = Partial::subject_of(context, &task.position);
        let outcome = Answer::subject_of(&context.tenant, context.job);
        let joined = Joined::subject_of(context, task.position.stage);
        // In this order: each of these is purged only after the next one is stored.
        let done = bus.exists(&partial).await?;
        let joined = bus.exists(&joined).await?;
        let (ended, revoked) = try_join!(bus.exists(&outcome), self.revoked(context))?;
        let ended = ended || joined;
        self.logic.call(Input::Task { task, done, ended, revoked }).await
    }

    /// Waits for a place in the pool. When the service stops, tasks without one return to their queues.
    async fn free(&self) -> Result<SemaphorePermit<'_>, MeshError> {
        tokio::select! {
            biased;
            Ok(free) = self.free.acquire() => Ok(free),
            () = self.stopping.begun() => Err(MeshError::Stopped("evaluation")),
        }
    }

    async fn compute(
        &self,
        task: Task,
        model: Arc<C::Model>,
        key: Arc<C::Key>,
        free: SemaphorePermit<'_>,
    ) -> Result<(), Error> {
        let compute = self.compute.clone();
        let shard = task.body.clone();
        let pool = self.pool.clone();
        // A panic inside becomes an error of this task alone.
        let work = move || pool.install(|| compute.evaluate(&model, &key, &shard));
        let computed = blocking(work).await?;
        drop(free);
        let Computed { value, times } = computed.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&times);
        let Task { context, position, .. } = task;
        let partial = Partial {
            context: context.clone(),
            position,
            outputs: false,
            times,
            body: value.into(),
        };
        let partial = partial.encode(self.environment.metrics.service());
        self.environment.publish_until(partial, context.deadline).await?;
        self.announce(Task { context, position, body: Bytes::new() }).await
    }

    async fn announce(&self, task: Task) -> Result<(), Error> {
        let Task { context, position, .. } = task;
        let deadline = context.deadline;
        let outcome = Answer::subject_of(&context.tenant, context.job);
        let arrived = Arrived { context: context.clone(), position };
        let arrived = arrived.encode(self.environment.metrics.service());
        // A duplicate notice: another worker sent it for the same shard. If the job has ended since, nothing
        // else would purge this result.
        if self.environment.publish_until(arrived, deadline).await? == Published::Duplicate
            && self.environment.bus.exists(&outcome).await?
        {
            self.forget(&context, &position).await?;
        }
        Ok(())
    }

    async fn forget(&self, context: &Context, position: &Position) -> Result<(), Error> {
        Ok(self.environment.bus.purge(&Partial::subject_of(context, position)).await?)
    }

    async fn revoked(&self, context: &Context) -> Result<bool, MeshError> {
        let subject = KeyRevoked::subject_of(&context.tenant, context.key);
        let revoked = self.environment.bus.exists(&subject).await?;
        if revoked {
            self.keys.remove(&context.key);
            self.affinity.hold(&self.keys.digests());
        }
        Ok(revoked)
    }

    async fn key(&self, digest: Digest) -> Result<Arc<C::Key>, Error> {
        let compute = self.compute.clone();
        let pool = self.pool.clone();
        let object = (&Bucket::Keys, digest);
        let limit = self.options.max_key_bytes;
        let decode = move |bytes: &[u8]| pool.install(|| compute.key(bytes));
        let bus = &*self.environment.bus;
        let held = self.keys.holds(&digest);
        let key = self.keys.fetch(bus, object, limit, decode).await;
        if !held {
            self.affinity.hold(&self.keys.digests());
        }
        key.map_err(|error| match error {
            MeshError::NoObject { .. } => Error::KeyRevoked(digest),
            other => other.into(),
        })
    }

    async fn model(&self, digest: Digest) -> Result<Arc<C::Model>, MeshError> {
        let compute = self.compute.clone();
        let object = (&Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| compute.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
