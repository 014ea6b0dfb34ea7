//! The actor: takes notices of stored partials, and publishes the next stage's tasks or the answer.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hermesh_mesh::{
    Digest, Error as MeshError, JobId, Message, SigningKey, TenantId, UnixMillis, VerifyingKey,
    actor::{Environment, LogicHandle, Running, blocking, digest},
    bus::{Bus, DEAD_LETTERS, DEAD_QUEUE, DEAD_REASON},
    cache::Cache,
    handling::Handling,
    locks::Locks,
    objects::Bucket,
    topology,
    wire::{
        Answer, Arrived, Context, Failure, FailureCode, Joined, KeyRevoked, OpenJob, Outcome,
        Partial, Position, ServiceKey, Step, Wire, submission,
    },
};
use tokio::try_join;

use crate::{
    Effect, Error, Input, Join, Logic, Options,
    logic::{SOURCE, expect_partial},
    sweep::Sweep,
};

/// Partials read back at the same time.
const READING: usize = 16;

/// A running aggregation.
pub struct Handle {
    running: Running,
    identity: VerifyingKey,
}

impl Handle {
    /// The key that verifies this service's receipts.
    pub fn identity(&self) -> VerifyingKey {
        self.identity
    }

    /// Accepts no more messages, finishes those in hand within `patience`, and returns the rest to their
    /// queues.
    pub async fn stop(self, patience: Duration) {
        self.running.drain(patience).await;
    }

    /// Stops at once, as a crash would.
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
    // Lets readers of receipts look up the receipt signing key.
    environment.publish(ServiceKey(verifying).encode(SOURCE)).await?;
    let clock = environment.clock.clone();
    let metrics = &environment.metrics;
    let service = Rc::new(Service {
        logic: LogicHandle::start(Logic::new(identity), clock, options.mailbox),
        keys: Cache::new(options.key_cache_bytes).counted("keys", metrics),
        models: Cache::new(options.model_cache_bytes).counted("models", metrics),
        joining: Locks::default(),
        join,
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
        running.handle(&handling, &[topology::ARRIVALS], async move |message| {
            service.arrived(message).await
        });
    }
    let (burying, ending) = (service.clone(), service.clone());
    running.handle(&handling, &[DEAD_LETTERS], async move |message| {
        burying.dead_letter(message).await
    });
    running
        .handle(&handling, &[topology::ANSWERS], async move |message| ending.ended(message).await);
    let mut sweep = Sweep::default();
    running.every(service.options.sweep, async move || {
        if let Err(error) = sweep.turn(&environment).await {
            tracing::warn!(%error, "the sweep was cut short");
        }
    });
    Ok(Handle { running, identity: verifying })
}

/// Purges the stored data of a job that has ended.
pub(crate) async fn forget(bus: &dyn Bus, tenant: &TenantId, job: JobId) -> Result<(), MeshError> {
    bus.purge(&Partial::job_filter(tenant, job)).await?;
    bus.purge(&Joined::job_filter(tenant, job)).await
}

struct Service<J: Join> {
    options: Options,
    logic: LogicHandle<Logic>,
    keys: Cache<J::Key>,
    models: Cache<J::Model>,
    joining: Locks<(TenantId, JobId, u32)>,
    join: Arc<J>,
    environment: Environment,
}

impl<J: Join> Service<J> {
    async fn arrived(&self, message: &Message) -> Result<(), MeshError> {
        let Arrived { context, position } = Arrived::receive(message)?;
        let result = self.run(context.clone(), position).await;
        self.environment.conclude(&context, result).await
    }

    async fn run(&self, context: Context, position: Position) -> Result<(), Error> {
        let bus = &self.environment.bus;
        let stage = Partial::stage_filter(&context, position.stage);
        // Count the partials first: if a job that ended or moved on has purged them, the markers read next
        // show it.
        let stored = bus.subjects(&stage).await?.len();
        let (ended, joined, revoked) = if stored < position.of as usize {
            // An incomplete stage only shows progress. Evaluation reads the other two before each shard.
            (bus.exists(&Answer::subject_of(&context.tenant, context.job)).await?, false, false)
        } else {
            let ((ended, joined), revoked) =
                try_join!(self.over(&context, position.stage), self.revoked(&context))?;
            (ended, joined, revoked)
        };
        let input = Input::Stored { stored, ended, joined, revoked, context, position };
        for effect in self.logic.call(input).await? {
            match effect {
                Effect::Progress(status) => self.environment.emit(status.encode(SOURCE)).await,
                Effect::Join(context, position) => self.join(*context, position).await?,
                Effect::Clean(context) => forget(&**bus, &context.tenant, context.job).await?,
                Effect::CleanStage(context, stage) => {
                    bus.purge(&Partial::stage_filter(&context, stage)).await?;
                }
                Effect::Publish(message) => drop(self.environment.publish(message).await?),
            }
        }
        Ok(())
    }

    /// Returns whether the job has ended, and whether this stage is complete.
    async fn over(&self, context: &Context, stage: u32) -> Result<(bool, bool), MeshError> {
        let bus = &self.environment.bus;
        let outcome = Answer::subject_of(&context.tenant, context.job);
        let joined = Joined::subject_of(context, stage);
        try_join!(bus.exists(&outcome), bus.exists(&joined))
    }

    async fn join(&self, context: Context, position: Position) -> Result<(), Error> {
        // The last notices of a stage come close together, and each of them sees a complete stage.
        let stage = (context.tenant.clone(), context.job, position.stage);
        let _one_at_a_time = self.joining.lock(stage).await;
        if self.over(&context, position.stage).await? != (false, false) {
            return Ok(());
        }
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
                    step => return self.go_on(context, position, step).await,
                }
            }
        };
        let key = self.key(context.key).await?;
        // Check again: loading a key takes a while.
        if self.revoked(&context).await? {
            return Err(Error::KeyRevoked(context.key));
        }
        let packed = blocking(move || join.pack(&model, &key, &outputs)).await?;
        let packed = packed.map_err(|refused| Error::Rejected(refused.0))?;
        self.environment.metrics.operators(&packed.times);
        let deadline = context.deadline;
        let input = Input::Packed { context, answer: packed.value, nonce: rand::random() };
        self.publish(input, deadline).await
    }

    /// Publishes what follows from a stage, then purges its partials. In this order a crash loses nothing.
    async fn go_on(&self, context: Context, position: Position, step: Step) -> Result<(), Error> {
        let stage = position.stage;
        let (deadline, tenant, job) = (context.deadline, context.tenant.clone(), context.job);
        let bus = &self.environment.bus;
        let partials = Partial::stage_filter(&context, stage);
        self.publish(Input::Joined { context, position, step }, deadline).await?;
        let joined = Joined { tenant: tenant.clone(), job, stage };
        self.environment.publish(joined.encode(SOURCE)).await?;
        bus.purge(&partials).await?;
        if bus.exists(&Answer::subject_of(&tenant, job)).await? {
            // The job ended in the meantime, for example by cancellation.
            forget(&**bus, &tenant, job).await?;
        }
        Ok(())
    }

    async fn publish(&self, input: Input, deadline: UnixMillis) -> Result<(), Error> {
        let message = |effect| match effect {
            Effect::Publish(message) => Some(message),
            _ => None,
        };
        let messages = self.logic.call(input).await?.into_iter().filter_map(message).collect();
        Ok(self.environment.publish_all(messages, deadline).await?)
    }

    /// All partials of the stage; none if the job's data was purged in the meantime.
    async fn read_back(
        &self,
        context: &Context,
        position: &Position,
    ) -> Result<Option<Vec<Partial>>, Error> {
        let bus = &self.environment.bus;
        let place = |shard| Partial::subject_of(context, &Position { shard, ..*position });
        let read = async |shard| Ok((shard, bus.last(&place(shard)).await?));
        let expect = async |(shard, message): (u32, Option<Message>)| {
            message.map(|message| expect_partial(&message, context, position, shard)).transpose()
        };
        let partials = stream::iter(0..position.of).map(read).buffered(READING).and_then(expect);
        let partials: Vec<Option<Partial>> = partials.try_collect().await?;
        Ok(partials.into_iter().collect())
    }

    async fn revoked(&self, context: &Context) -> Result<bool, MeshError> {
        let subject = KeyRevoked::subject_of(&context.tenant, context.key);
        let revoked = self.environment.bus.exists(&subject).await?;
        if revoked {
            self.keys.remove(&context.key);
        }
        Ok(revoked)
    }

    /// Tells the tenant that a message of its job was given up. If a service sent the message, or it is the
    /// submission that was admitted, the job fails. Any other submission may be anyone's and is only
    /// refused.
    async fn dead_letter(&self, message: &Message) -> Result<(), MeshError> {
        let header = |name| message.headers.get(name).unwrap_or("unknown").to_owned();
        let (queue, reason) = (header(DEAD_QUEUE), header(DEAD_REASON));
        let what = || format!("a message in queue {queue} was given up: {reason}");
        if !topology::TASKS.contains(&&*queue) && queue != topology::ARRIVALS {
            let submission = submission(message, digest(message.body.clone()).await?);
            let code = FailureCode::Undeliverable;
            let Some(refusal) = Failure::refusing(message, submission, code, what()) else {
                tracing::warn!(queue, reason, "a dead letter does not name its sender");
                return Ok(());
            };
            let admitted = self.environment.admitted(&refusal.tenant, refusal.job).await?;
            if admitted != Some(submission) {
                return self.environment.refuse(&refusal).await;
            }
        }
        let Ok(context) = Context::of(message) else {
            tracing::error!(queue, reason, "a dead letter belongs to no job");
            return Ok(());
        };
        let failure = Failure::new(&context, FailureCode::Undeliverable, what());
        self.environment.fail(&failure).await.map(drop)
    }

    /// A job has ended, here or elsewhere: purge its stored data.
    async fn ended(&self, message: &Message) -> Result<(), MeshError> {
        let outcome = Outcome::receive(message)?;
        let (tenant, job) = outcome.job();
        let bus = &self.environment.bus;
        forget(&**bus, tenant, job).await?;
        let answered = matches!(outcome, Outcome::Answer(_));
        // Last: if this process dies before, the message is delivered again and repeats the purge.
        self.close(tenant, job, answered).await
    }

    async fn close(&self, tenant: &TenantId, job: JobId, answered: bool) -> Result<(), MeshError> {
        let bus = &self.environment.bus;
        for subject in bus.subjects(&OpenJob::job_filter(tenant, job)).await? {
            if let Some(Ok(open)) = bus.last(&subject).await?.as_ref().map(OpenJob::receive) {
                let took = open.admitted.until(self.environment.clock.now());
                self.environment.metrics.job_ended(answered, took);
            }
            bus.purge(&subject).await?;
        }
        Ok(())
    }

    async fn key(&self, digest: Digest) -> Result<Arc<J::Key>, Error> {
        let join = self.join.clone();
        let object = (&Bucket::Keys, digest);
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
        let object = (&Bucket::Models, digest);
        let limit = self.options.max_model_bytes;
        let decode = move |bytes: &[u8]| join.model(bytes);
        let bus = &*self.environment.bus;
        self.models.fetch(bus, object, limit, decode).await
    }
}
