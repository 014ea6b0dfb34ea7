//! What the services' actors share: the shell around synchronous logic, the loops that feed it, and helpers that keep
//! heavy work off the actors' thread. [`crate::handling`] handles single deliveries.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, Handler};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};

pub use crate::handling::with_heartbeat;
use crate::{
    Bytes, Clock, Digest, Error, JobId, Message, TenantId, UnixMillis,
    bus::{BusHandle, Delivery, Published, Request, Requests},
    handling::{Backoff, Handling},
    telemetry::Metrics,
    wire::{Admitted, Failure, Wire as _},
};

/// What a service receives from the program that starts it.
#[derive(Clone)]
pub struct Environment {
    /// The bus.
    pub bus: BusHandle,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Metrics of the service.
    pub metrics: Metrics,
}

impl Environment {
    /// Counts and publishes a message.
    pub async fn publish(&self, message: Message) -> Result<Published, Error> {
        self.metrics.sent(&message);
        self.bus.publish(message).await
    }

    /// Counts and publishes a message that took work to make. Retries with back-off while the bus has no capacity and
    /// the job's deadline has not passed.
    pub async fn publish_until(
        &self,
        message: Message,
        deadline: UnixMillis,
    ) -> Result<Published, Error> {
        self.metrics.sent(&message);
        let mut backoff = Backoff::default();
        loop {
            match self.bus.publish(message.clone()).await {
                Err(error) if error.back_pressure() && self.clock.now() < deadline => {
                    tracing::debug!(subject = message.subject, %error, "publishing again");
                    sleep(backoff.next()).await;
                }
                result => return result,
            }
        }
    }

    /// Publishes several messages in the same way: all but the last concurrently, then the last one.
    pub async fn publish_all(
        &self,
        mut messages: Vec<Message>,
        deadline: UnixMillis,
    ) -> Result<(), Error> {
        let last = messages.pop();
        let messages = stream::iter(messages).map(Ok);
        let publish = async |message| self.publish_until(message, deadline).await.map(drop);
        messages.try_for_each_concurrent(IN_FLIGHT, publish).await?;
        match last {
            Some(last) => publish(last).await,
            None => Ok(()),
        }
    }

    /// Counts and emits a message. It may be lost.
    pub async fn emit(&self, message: Message) {
        self.metrics.sent(&message);
        if let Err(error) = self.bus.emit(message).await {
            tracing::warn!(service = self.metrics.service(), %error, "could not send an event");
        }
    }

    /// The submission admitted under this job id, if there is one.
    pub async fn admitted(&self, tenant: &TenantId, job: JobId) -> Result<Option<Digest>, Error> {
        let stored = self.bus.last(&Admitted::subject_of(tenant, job)).await?;
        stored.map(|message| Ok(Admitted::receive(&message)?.submission)).transpose()
    }

    /// Publishes the refusal of a submission. If it has been refused before, the first refusal stands.
    pub async fn refuse(&self, refusal: &Failure) -> Result<(), Error> {
        tracing::info!(service = self.metrics.service(), failure = %refusal, "job refused");
        self.metrics.failed(refusal.code);
        self.publish(refusal.encode(self.metrics.service())).await.map(drop)
    }

    /// Publishes a failure as the outcome of its job, unless the job has already ended.
    pub async fn fail(&self, failure: &Failure) -> Result<Published, Error> {
        let published = self.publish(failure.encode(self.metrics.service())).await?;
        if published == Published::Stored {
            tracing::info!(service = self.metrics.service(), %failure, "job failed");
            self.metrics.failed(failure.code);
        }
        Ok(published)
    }
}

/// Concurrent publishes for one job.
const IN_FLIGHT: usize = 16;

/// A service's logic: synchronous, independent of transport, actors and the clock.
pub trait Logic: Unpin + 'static {
    /// A message or request to handle.
    type Input: Send + 'static;
    /// An action for the actor to carry out.
    type Effect: Send + 'static;
    /// Why an input is refused.
    type Error: From<Error> + Send + 'static;

    /// Handles one input and returns the actions to carry out.
    fn handle(
        &mut self,
        input: Self::Input,
        now: UnixMillis,
    ) -> Result<Vec<Self::Effect>, Self::Error>;
}

/// The actor around a [`Logic`]: a mailbox and a clock.
struct Shell<L> {
    logic: L,
    clock: Arc<dyn Clock>,
    mailbox: usize,
}

impl<L: Logic> Actor for Shell<L> {
    type Context = actix::Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(self.mailbox);
    }
}

struct Call<L: Logic>(L::Input);

impl<L: Logic> actix::Message for Call<L> {
    type Result = Result<Vec<L::Effect>, L::Error>;
}

impl<L: Logic> Handler<Call<L>> for Shell<L> {
    type Result = Result<Vec<L::Effect>, L::Error>;

    fn handle(&mut self, call: Call<L>, _: &mut Self::Context) -> Self::Result {
        self.logic.handle(call.0, self.clock.now())
    }
}

/// The address of a running logic.
pub struct LogicHandle<L: Logic>(Addr<Shell<L>>);

impl<L: Logic> Clone for LogicHandle<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Logic> LogicHandle<L> {
    /// Starts an actor around `logic`. Callers wait while `mailbox` inputs are queued. Must be called inside an actix
    /// system.
    pub fn start(logic: L, clock: Arc<dyn Clock>, mailbox: usize) -> Self {
        Self(Shell { logic, clock, mailbox }.start())
    }

    /// Sends an input to the logic and returns its result.
    pub async fn call(&self, input: L::Input) -> Result<Vec<L::Effect>, L::Error> {
        match self.0.send(Call(input)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Stopped("the actor").into()),
        }
    }
}

/// The stages of a service's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// The service takes no new work.
    Draining,
    /// Unfinished work is handed back to the queue.
    Over,
}

/// Tells running work that its service is shutting down.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<Phase>);

impl Stopping {
    /// Whether shutdown has begun, so that the service takes no new work.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() > Phase::Running || self.0.has_changed().is_err()
    }

    /// Waits until shutdown begins, or until the [`Running`] that would announce it is dropped.
    pub async fn begun(&self) {
        let _ = self.0.clone().wait_for(|phase| *phase > Phase::Running).await;
    }

    /// Waits until unfinished work must be handed back.
    pub async fn over(&self) {
        if self.0.clone().wait_for(|phase| *phase == Phase::Over).await.is_err() {
            std::future::pending().await
        }
    }
}

/// The loops of one running service.
#[derive(Debug)]
pub struct Running {
    phase: watch::Sender<Phase>,
    loops: Vec<JoinHandle<()>>,
}

impl Default for Running {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Running), loops: Vec::new() }
    }
}

/// How long handing back may take before the loops are aborted.
const HAND_BACK: Duration = Duration::from_secs(2);

impl Running {
    /// A handle that tells the service's work when shutdown begins.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.phase.subscribe())
    }

    /// Pulls from `queues`, earlier ones first, and handles one message at a time, until stopped.
    pub fn handle<F>(&mut self, handling: &Handling, queues: &'static [&'static str], handle: F)
    where
        F: AsyncFn(&Message) -> Result<(), Error> + 'static,
    {
        let handling = handling.clone();
        let bus = handling.environment.bus.clone();
        self.pull(bus, queues, async move |delivery| handling.take(delivery, &handle).await);
    }

    /// Pulls from `queues`, earlier ones first, and passes one delivery at a time to `handle`, until stopped.
    pub fn pull<F>(&mut self, bus: BusHandle, queues: &'static [&'static str], handle: F)
    where
        F: AsyncFn(Delivery) + 'static,
    {
        let next = async move || bus.pull(queues).await;
        self.take(queues[0], next, handle);
    }

    /// Takes one delivery after another from `next`. When the service stops, a waiting `next` is dropped.
    pub fn take<N, F>(&mut self, what: &'static str, next: N, handle: F)
    where
        N: AsyncFn() -> Result<Delivery, Error> + 'static,
        F: AsyncFn(Delivery) + 'static,
    {
        self.run(async move |stopping| {
            loop {
                let delivery = tokio::select! {
                    biased;
                    () = stopping.begun() => return,
                    delivery = next() => delivery,
                };
                match delivery {
                    Ok(delivery) => handle(delivery).await,
                    Err(error) => {
                        tracing::error!(queue = what, %error, "pulling failed");
                        tokio::select! {
                            () = stopping.begun() => return,
                            () = sleep(Duration::from_secs(1)) => {}
                        }
                    }
                }
            }
        });
    }

    /// Answers requests, one at a time, until stopped.
    pub fn answer<F>(&mut self, requests: Requests, handle: F)
    where
        F: AsyncFn(Request) + 'static,
    {
        self.answer_many(requests, 1, handle);
    }

    /// Calls `turn` every `interval`, until stopped.
    pub fn every<F>(&mut self, interval: Duration, mut turn: F)
    where
        F: AsyncFnMut() + 'static,
    {
        self.run(async move |stopping| {
            loop {
                tokio::select! {
                    biased;
                    () = stopping.begun() => return,
                    () = sleep(interval) => turn().await,
                }
            }
        });
    }

    /// Answers requests, up to `at_once` concurrently, until stopped.
    pub fn answer_many<F>(&mut self, mut requests: Requests, at_once: usize, handle: F)
    where
        F: AsyncFn(Request) + 'static,
    {
        self.run(async move |stopping| {
            let mut in_hand = FuturesUnordered::new();
            loop {
                tokio::select! {
                    biased;
                    () = stopping.begun() => break,
                    Some(()) = in_hand.next() => {}
                    request = requests.next(), if in_hand.len() < at_once => match request {
                        Some(request) => in_hand.push(handle(request)),
                        None => break,
                    },
                }
            }
            // From here on, other servers of the same subject receive the requests.
            drop(requests);
            while let Some(()) = in_hand.next().await {}
        });
    }

    fn run(&mut self, body: impl AsyncFnOnce(&Stopping) + 'static) {
        let stopping = self.stopping();
        self.loops.push(spawn_local(async move { body(&stopping).await }));
    }

    /// Stops taking work, and waits until every loop has finished its current work, however long that takes.
    pub async fn stop(self) {
        self.phase.send_replace(Phase::Draining);
        // The runtime has already reported any loop that panicked.
        join_all(self.loops).await;
    }

    /// Stops taking work, waits up to `patience` for current work to finish, and then has the rest handed back.
    pub async fn drain(self, patience: Duration) {
        self.phase.send_replace(Phase::Draining);
        let ends: Vec<_> = self.loops.iter().map(JoinHandle::abort_handle).collect();
        let mut all = join_all(self.loops);
        if timeout(patience, &mut all).await.is_ok() {
            return;
        }
        self.phase.send_replace(Phase::Over);
        if timeout(HAND_BACK, all).await.is_err() {
            ends.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }

    /// Aborts every loop at once, as a crash would. Unfinished deliveries are delivered again.
    pub fn kill(self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// Longer content is hashed off the actors' thread.
const QUICKLY_HASHED: usize = 64 << 10;

/// The digest of `content`, computed without blocking the thread for long.
pub async fn digest(content: Bytes) -> Result<Digest, Error> {
    match content.len() {
        0..=QUICKLY_HASHED => Ok(Digest::of(&content)),
        _ => blocking(move || Digest::of(&content)).await,
    }
}

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// Makes [`blocking`] run its work in place on this thread from now on. Simulations need this to be deterministic: no
/// other thread may influence the order of events.
pub fn block_in_place() {
    IN_PLACE.set(true);
}

/// Runs heavy work off the actors' thread. A panic in it becomes [`Error::Panicked`].
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if IN_PLACE.get() {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Error::Panicked);
    }
    spawn_blocking(work).await.map_err(|_| Error::Panicked)
}
