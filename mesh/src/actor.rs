//! What the services' actors have in common: the shell around synchronous logic, the loops that feed
//! it, and the thread it all runs on. [`crate::handling`] is what they do with a delivery.

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

/// What a service is given to live in.
#[derive(Clone)]
pub struct Environment {
    /// The bus.
    pub bus: BusHandle,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Environment {
    /// Counts and publishes a message.
    pub async fn publish(&self, message: Message) -> Result<Published, Error> {
        self.metrics.sent(&message);
        self.bus.publish(message).await
    }

    /// Counts and publishes a message that took work to make: while the bus has no room for it, and
    /// the job's deadline has not passed, it is tried again.
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

    /// The same for several messages, some of them at the same time, the last one after the others.
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

    /// Counts and emits a message, which may get lost.
    pub async fn emit(&self, message: Message) {
        self.metrics.sent(&message);
        if let Err(error) = self.bus.emit(message).await {
            tracing::warn!(service = self.metrics.service(), %error, "an event was not sent");
        }
    }

    /// The submission that a job's name stands for, if it has been admitted.
    pub async fn admitted(&self, tenant: &TenantId, job: JobId) -> Result<Option<Digest>, Error> {
        let stored = self.bus.last(&Admitted::subject_of(tenant, job)).await?;
        stored.map(|message| Ok(Admitted::receive(&message)?.submission)).transpose()
    }

    /// Publishes the refusal of a submission; of two, the first stands.
    pub async fn refuse(&self, refusal: &Failure) -> Result<(), Error> {
        tracing::info!(service = self.metrics.service(), failure = %refusal, "job refused");
        self.metrics.failed(refusal.code);
        self.publish(refusal.encode(self.metrics.service())).await.map(drop)
    }

    /// Publishes a failure as the outcome of its job, unless the job has ended already.
    pub async fn fail(&self, failure: &Failure) -> Result<Published, Error> {
        let published = self.publish(failure.encode(self.metrics.service())).await?;
        if published == Published::Stored {
            tracing::info!(service = self.metrics.service(), %failure, "job failed");
            self.metrics.failed(failure.code);
        }
        Ok(published)
    }
}

/// Publishes of one job on their way at the same time.
const IN_FLIGHT: usize = 16;

/// A service's logic: synchronous, and knowing nothing of transport, actors or the time of day.
pub trait Logic: Unpin + 'static {
    /// What it is told or asked.
    type Input: Send + 'static;
    /// What it wants done.
    type Effect: Send + 'static;
    /// Why it refuses.
    type Error: From<Error> + Send + 'static;

    /// One step.
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
    /// Starts an actor around `logic`; callers wait when `mailbox` inputs are queued. Must be called
    /// inside an actix system.
    pub fn start(logic: L, clock: Arc<dyn Clock>, mailbox: usize) -> Self {
        Self(Shell { logic, clock, mailbox }.start())
    }

    /// Hands an input to the logic.
    pub async fn call(&self, input: L::Input) -> Result<Vec<L::Effect>, L::Error> {
        match self.0.send(Call(input)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Stopped("the actor").into()),
        }
    }
}

/// How far a service is on the way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Nothing new is taken.
    Draining,
    /// What is in hand is handed back.
    Over,
}

/// Tells work in hand that its service is to end.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<Phase>);

impl Stopping {
    /// Whether nothing new is to be taken.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() > Phase::Running || self.0.has_changed().is_err()
    }

    /// Waits until nothing new is to be taken, which is also so when nobody holds the service.
    pub async fn begun(&self) {
        let _ = self.0.clone().wait_for(|phase| *phase > Phase::Running).await;
    }

    /// Waits until what is in hand is to be handed back.
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

/// How long handing back may take before a loop is ended where it stands.
const HAND_BACK: Duration = Duration::from_secs(2);

impl Running {
    /// What tells the service's work that it is to end.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.phase.subscribe())
    }

    /// Pulls from `queues`, the first before the others, and handles one message at a time, until
    /// stopped.
    pub fn handle<F>(&mut self, handling: &Handling, queues: &'static [&'static str], handle: F)
    where
        F: AsyncFn(&Message) -> Result<(), Error> + 'static,
    {
        let handling = handling.clone();
        let bus = handling.environment.bus.clone();
        self.pull(bus, queues, async move |delivery| handling.take(delivery, &handle).await);
    }

    /// Pulls from `queues`, the first before the others, and hands over one delivery at a time, until
    /// stopped.
    pub fn pull<F>(&mut self, bus: BusHandle, queues: &'static [&'static str], handle: F)
    where
        F: AsyncFn(Delivery) + 'static,
    {
        let next = async move || bus.pull(queues).await;
        self.take(queues[0], next, handle);
    }

    /// Takes one delivery after the other from `next`, which is dropped while it waits when the
    /// service stops.
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

    /// Does something every `interval`, until stopped.
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

    /// Answers requests, up to `at_once` of them at the same time, until stopped.
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
            // What comes from now on is for another server of the same subject.
            drop(requests);
            while let Some(()) = in_hand.next().await {}
        });
    }

    fn run(&mut self, body: impl AsyncFnOnce(&Stopping) + 'static) {
        let stopping = self.stopping();
        self.loops.push(spawn_local(async move { body(&stopping).await }));
    }

    /// Lets every loop finish what it has in hand, however long that takes, and ends it.
    pub async fn stop(self) {
        self.phase.send_replace(Phase::Draining);
        // A loop that panicked has already been reported by the runtime.
        join_all(self.loops).await;
    }

    /// Takes nothing new, lets what is in hand be finished within `patience`, and has the rest handed
    /// back.
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

    /// Ends every loop where it stands, as a crash would: what was in hand is delivered again.
    pub fn kill(self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// More than this is hashed off the actors' thread.
const QUICKLY_HASHED: usize = 64 << 10;

/// The digest of `content`, without holding up the thread for long.
pub async fn digest(content: Bytes) -> Result<Digest, Error> {
    match content.len() {
        0..=QUICKLY_HASHED => Ok(Digest::of(&content)),
        _ => blocking(move || Digest::of(&content)).await,
    }
}

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// From now on, [`blocking`] does its work in place on this thread: for simulations, in which no thread may
/// have a say in what happens next.
pub fn block_in_place() {
    IN_PLACE.set(true);
}

/// Runs heavy work off the actors' thread. A panic there is an error here.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if IN_PLACE.get() {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Error::Panicked);
    }
    spawn_blocking(work).await.map_err(|_| Error::Panicked)
}
