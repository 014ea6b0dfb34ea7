//! What the services' actors have in common: the shell around synchronous logic, the loops that feed
//! it, and the thread it all runs on.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use actix::{Actor, Addr, Handler};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::sleep,
};

use crate::{
    Clock, Error, Message, UnixMillis,
    bus::{BusHandle, Delivery, Request, Requests},
    telemetry::Metrics,
    wire::{Failure, Wire as _},
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
    pub async fn publish(&self, message: Message) -> Result<(), Error> {
        self.metrics.sent(&message);
        self.bus.publish(message).await.map(drop)
    }

    /// Counts and emits a message, which may get lost.
    pub async fn emit(&self, message: Message) {
        self.metrics.sent(&message);
        if let Err(error) = self.bus.emit(message).await {
            tracing::warn!(service = self.metrics.service(), %error, "an event was not sent");
        }
    }

    /// Counts and emits the refusal of a job that was not admitted.
    pub async fn refuse(&self, refusal: &Failure) {
        tracing::info!(service = self.metrics.service(), failure = %refusal, "job refused");
        self.metrics.failed(refusal.code);
        self.emit(refusal.encode(self.metrics.service())).await;
    }

    /// Publishes the failure of an admitted job.
    pub async fn fail(&self, failure: &Failure) -> Result<(), Error> {
        tracing::info!(service = self.metrics.service(), %failure, "job failed");
        self.metrics.failed(failure.code);
        self.publish(failure.encode(self.metrics.service())).await
    }

    /// Settles a delivery by the result of handling it: done, to be tried again, or hopeless.
    pub async fn settle(&self, delivery: Delivery, result: Result<(), Error>) {
        let service = self.metrics.service();
        let settled = match result {
            Ok(()) => delivery.ack().await,
            Err(error) => {
                tracing::warn!(service, ?delivery, %error, "a message was not handled");
                let reason = format!("{service}: {error}");
                if error.retryable() {
                    delivery.nak(RETRY_DELAY, &reason).await
                } else {
                    delivery.reject(&reason).await
                }
            }
        };
        if let Err(error) = settled {
            tracing::warn!(service, %error, "a delivery was not settled and will come again");
        }
    }
}

/// How long a message waits that could not be handled now.
const RETRY_DELAY: Duration = Duration::from_secs(1);

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

/// The loops of one running service.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    loops: Vec<JoinHandle<()>>,
}

impl Default for Running {
    fn default() -> Self {
        Self { stop: watch::Sender::new(false), loops: Vec::new() }
    }
}

impl Running {
    /// Pulls from `queue` and handles one message at a time, until stopped.
    pub fn pull<F>(&mut self, bus: BusHandle, queue: &'static str, handle: F)
    where
        F: AsyncFn(Delivery) + 'static,
    {
        self.run(async move |stop: &mut watch::Receiver<bool>| {
            loop {
                let delivery = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    delivery = bus.pull(queue) => delivery,
                };
                match delivery {
                    Ok(delivery) => handle(delivery).await,
                    Err(error) => {
                        tracing::error!(queue, %error, "pulling failed");
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
    }

    /// Answers requests, one at a time, until stopped.
    pub fn answer<F>(&mut self, mut requests: Requests, handle: F)
    where
        F: AsyncFn(Request) + 'static,
    {
        self.run(async move |stop: &mut watch::Receiver<bool>| {
            loop {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    request = requests.next() => match request {
                        Some(request) => handle(request).await,
                        None => return,
                    },
                }
            }
        });
    }

    fn run(&mut self, body: impl AsyncFnOnce(&mut watch::Receiver<bool>) + 'static) {
        let mut stop = self.stop.subscribe();
        self.loops.push(spawn_local(async move { body(&mut stop).await }));
    }

    /// Lets every loop finish what it has in hand, and ends it.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.loops {
            // A loop that panicked has already been reported by the runtime.
            let _ = task.await;
        }
    }

    /// Ends every loop where it stands, as a crash would: what was in hand is delivered again.
    pub fn kill(self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// Runs `work`, telling the bus every `interval` that the delivery is still in hand.
pub async fn with_heartbeat<T>(
    delivery: &Delivery,
    interval: Duration,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = sleep(interval) => {
                if let Err(error) = delivery.in_progress().await {
                    tracing::warn!(%error, "a heartbeat was not taken");
                }
            }
        }
    }
}

/// Runs heavy work off the actors' thread. A panic there is an error here.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|_| Error::Panicked)
}
