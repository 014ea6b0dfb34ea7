//! The actor: partials in, the next stage's tasks or the answer out.

use std::{rc::Rc, sync::Arc};

use hermesh_mesh::{
    Digest, Error as MeshError, SigningKey, VerifyingKey,
    actor::{Environment, LogicHandle, Running, blocking, with_heartbeat},
    bus::{Bucket, DEAD_LETTERS, DEAD_QUEUE, DEAD_REASON, Delivery},
    cache::Cache,
    topology,
    wire::{
        Answer, Context, Failure, FailureCode, KeyRevoked, Outcome, Partial, Position, Step, Wire,
    },
};

use crate::{
    Effect, Error, Input, Join, Logic, Options,
    logic::{SOURCE, expect_partial},
};

/// A running aggregation.
pub struct Handle {
    running: Running,
    identity: VerifyingKey,
}

impl Handle {
    /// The key that verifies its receipts.
    pub fn identity(&self) -> VerifyingKey {
        self.identity
    }

    /// Finishes what is in hand and ends.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Ends at once, as a crash would.
    pub fn kill(self) {
        self.running.kill();
    }
}

/// Starts aggregation, which signs receipts with `identity`. Must be called inside an actix system.
pub async fn start<J: Join>(
    options: Options,
    environment: Environment,
    join: Arc<J>,
    identity: SigningKey,
) -> Result<Handle, MeshError> {
    topology::declare(&*environment.bus).await?;
    let verifying = identity.verifying_key();
    let clock = environment.clock.clone();
    let service = Rc::new(Service {
        logic: LogicHandle::start(Logic::new(identity), clock, options.mailbox),
        keys: Cache::new(options.key_cache_bytes),
        models: Cache::new(options.model_cache_bytes),
        join,
        environment: environment.clone(),
        options,
    });
    let mut running = Running::default();
    let bus = &environment.bus;
    for _ in 0..service.options.in_flight.max(1) {
        let service = service.clone();
        running.pull(bus.clone(), topology::PARTIALS, async move |delivery| {
            let work = service.partial(&delivery);
            let result = with_heartbeat(&delivery, service.options.heartbeat, work).await;
            service.environment.settle(delivery, result).await;
        });
    }
    let burying = service.clone();
    running.pull(bus.clone(), DEAD_LETTERS, async move |delivery| {
        let result = burying.dead_letter(&delivery).await;
        burying.environment.settle(delivery, result).await;
    });
    running.pull(bus.clone(), topology::ANSWERS, async move |delivery| {
        let result = service.ended(&delivery).await;
        service.environment.settle(delivery, result).await;
    });
    Ok(Handle { running, identity: verifying })
}

struct Service<J: Join> {
    options: Options,
    logic: LogicHandle<Logic>,
    keys: Cache<J::Key>,
    models: Cache<J::Model>,
    join: Arc<J>,
    environment: Environment,
}

impl<J: Join> Service<J> {
    async fn partial(&self, delivery: &Delivery) -> Result<(), MeshError> {
        self.environment.metrics.received(&delivery.message);
        let Partial { context, position, .. } = Partial::receive(&delivery.message)?;
        match self.run(context.clone(), position).await {
            Ok(()) => Ok(()),
            Err(Error::Mesh(error)) => Err(error),
            Err(error) => {
                let code = error.code();
                let code = code.unwrap_or(FailureCode::Internal);
                let failure = Failure::new(&context, code, &error);
                self.environment.fail(&failure).await
            }
        }
    }

    async fn run(&self, context: Context, position: Position) -> Result<(), Error> {
        let bus = &self.environment.bus;
        let outcome = Answer::subject_of(&context.tenant, context.job);
        let stage = Partial::stage_filter(&context, position.stage);
        let input = Input::Stored {
            stored: bus.count(&stage).await?,
            ended: bus.count(&outcome).await? > 0,
            revoked: self.revoked(&context).await?,
            context,
            position,
        };
        for effect in self.logic.call(input).await? {
            match effect {
                Effect::Progress(status) => self.environment.emit(status.encode(SOURCE)).await,
                Effect::Join(context, position) => self.join(*context, position).await?,
                Effect::Clean(context) => {
                    let filter = Partial::job_filter(&context.tenant, context.job);
                    bus.purge(&filter).await?;
                }
                Effect::Publish(message) => self.environment.publish(message).await?,
            }
        }
        Ok(())
    }

    async fn join(&self, context: Context, position: Position) -> Result<(), Error> {
        let Some(partials) = self.read_back(&context, &position).await? else {
            return Ok(());
        };
        let model = self.model(context.model).await?;
        let join = self.join.clone();
        let per_shard = self.options.lookups_per_shard;
        let outputs = match &partials[..] {
            [only] if only.outputs => only.body.clone(),
            _ => {
                let model = model.clone();
                let join = join.clone();
                let joined = blocking(move || {
                    let bodies: Vec<&[u8]> = partials.iter().map(|p| &p.body[..]).collect();
                    join.advance(&model, position.stage, &bodies, per_shard)
                });
                let joined = joined.await?.map_err(|refused| Error::Rejected(refused.0))?;
                self.environment.metrics.operators(&joined.times);
                match joined.value {
                    Step::Outputs(outputs) => outputs.into(),
                    step => {
                        let input = Input::Joined { context, position, step };
                        return self.publish(input).await;
                    }
                }
            }
        };
        let key = self.key(context.key).await?;
        // Asked again, for loading a key takes a while.
        if self.revoked(&context).await? {
            return Err(Error::KeyRevoked(context.key));
        }
        let packed = blocking(move || join.pack(&model, &key, &outputs)).await?;
        let packed = packed.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&packed.times);
        let input = Input::Packed { context, answer: packed.value, nonce: rand::random() };
        self.publish(input).await
    }

    async fn publish(&self, input: Input) -> Result<(), Error> {
        for effect in self.logic.call(input).await? {
            if let Effect::Publish(message) = effect {
                self.environment.publish(message).await?;
            }
        }
        Ok(())
    }

    /// All partials of the stage, or nothing if the job has been cleaned away in the meantime.
    async fn read_back(
        &self,
        context: &Context,
        position: &Position,
    ) -> Result<Option<Vec<Partial>>, Error> {
        let mut partials = Vec::new();
        for shard in 0..position.of {
            let place = Position { shard, ..*position };
            let subject = Partial::subject_of(context, &place);
            let Some(message) = self.environment.bus.last(&subject).await? else {
                return Ok(None);
            };
            partials.push(expect_partial(&message, context, position, shard)?);
        }
        Ok(Some(partials))
    }

    async fn revoked(&self, context: &Context) -> Result<bool, MeshError> {
        let subject = KeyRevoked::subject_of(&context.tenant, context.key);
        let revoked = self.environment.bus.count(&subject).await? > 0;
        if revoked {
            self.keys.remove(&context.key);
        }
        Ok(revoked)
    }

    /// Tells the tenant that a message of its job was given up. What services wrote to each other ends
    /// the job; a job that was not taken may be anybody's, and is only refused.
    async fn dead_letter(&self, delivery: &Delivery) -> Result<(), MeshError> {
        let message = &delivery.message;
        let header = |name| message.headers.get(name).unwrap_or("unknown").to_owned();
        let (queue, reason) = (header(DEAD_QUEUE), header(DEAD_REASON));
        let what = || format!("a message in queue {queue} was given up: {reason}");
        if queue != topology::TASKS && queue != topology::PARTIALS {
            let code = FailureCode::Undeliverable;
            match Failure::refusing(message, code, what()) {
                Some(refusal) => self.environment.refuse(&refusal).await,
                None => tracing::warn!(queue, reason, "a dead letter says nothing of its sender"),
            }
            return Ok(());
        }
        let Ok(context) = Context::of(message) else {
            tracing::error!(queue, reason, "a dead letter belongs to no job");
            return Ok(());
        };
        let input = Input::Dead { context, queue, reason };
        match self.publish(input).await {
            Err(Error::Mesh(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// A job has ended, here or elsewhere: its partials are of no more use.
    async fn ended(&self, delivery: &Delivery) -> Result<(), MeshError> {
        let outcome = Outcome::receive(&delivery.message)?;
        let (tenant, job) = outcome.job();
        self.environment.bus.purge(&Partial::job_filter(tenant, job)).await
    }

    async fn key(&self, digest: Digest) -> Result<Arc<J::Key>, Error> {
        let join = self.join.clone();
        let object = (Bucket::Keys, digest);
        let limit = self.options.max_key_bytes;
        let decode = move |bytes: &[u8]| join.key(bytes);
        let bus = &*self.environment.bus;
        let key = self.keys.fetch(bus, object, limit, decode).await;
        key.map_err(|error| match error {
            MeshError::NoObject { .. } => Error::KeyRevoked(digest),
            other => other.into(),
        })
    }

    async fn model(&self, digest: Digest) -> Result<Arc<J::Model>, MeshError> {
        let join = self.join.clone();
        let object = (Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| join.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
