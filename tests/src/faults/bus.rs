//! The bus as one process sees it. Every operation waits for its turn, and faults may affect it.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hermesh_mesh::{
    Error, Message,
    bus::{Bus, Delivery, Published, QueueOptions, Requests, Settle, Subscription},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};

use super::{
    fault::{Fault, Operation},
    plan::Sabotage,
    simulation::{Process, Simulation},
};
use crate::bus::Moment;

/// How long a process waits for a reply that does not come.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a delivery waits to be overtaken.
const OVERTAKING: Duration = Duration::from_millis(200);
/// How many messages a subscriber may fall behind.
const BUFFER: usize = 1024;

/// The handle of one process on the bus of a simulation.
#[derive(Clone)]
pub struct FaultyBus(Arc<Shared>);

struct Shared {
    simulation: Arc<Simulation>,
    process: Arc<Process>,
    /// Deliveries that others have overtaken, by the first of the queues pulled from.
    overtaken: StdMutex<BTreeMap<String, Delivery>>,
}

/// The result of waiting for an operation's turn.
enum Turn {
    /// It never reached the bus.
    Lost(Option<Fault>),
    /// It takes effect.
    Goes(Option<Fault>),
}

impl FaultyBus {
    /// A handle for `process`.
    pub fn new(simulation: Arc<Simulation>, process: Arc<Process>) -> Self {
        Self(Arc::new(Shared { simulation, process, overtaken: StdMutex::default() }))
    }

    fn inner(&self) -> &dyn Bus {
        &self.0.simulation.bus
    }

    async fn turn(&self, operation: Operation, subject: &str) -> Turn {
        match self.0.simulation.turn(&self.0.process, operation, subject).await {
            fault @ Some(Fault::Drop | Fault::Restart(_)) => Turn::Lost(fault),
            fault => Turn::Goes(fault),
        }
    }

    fn note(&self, what: impl Into<String>, fault: Option<Fault>, result: &'static str) {
        self.0.simulation.note(&self.0.process.name, what, fault, result);
    }

    /// Passes the result of an operation that took effect to the process, subject to the fault.
    async fn heard<T>(&self, fault: Option<Fault>, result: Result<T, Error>) -> Result<T, Error> {
        match fault {
            Some(Fault::LoseReply) => {
                sleep(PATIENCE).await;
                Err(Error::Timeout(PATIENCE))
            }
            Some(Fault::Late(by)) => {
                sleep(by).await;
                result
            }
            Some(Fault::Crash(Moment::After, after)) => {
                self.0.process.die(after);
                pending().await
            }
            _ => result,
        }
    }

    async fn lost<T>(&self) -> Result<T, Error> {
        sleep(PATIENCE).await;
        Err(Error::Timeout(PATIENCE))
    }

    /// Waits until an operation with a result takes effect; an error if it never does.
    async fn begin(&self, operation: Operation, subject: &str) -> Result<Option<Fault>, Error> {
        match self.turn(operation, subject).await {
            Turn::Goes(fault) => Ok(fault),
            Turn::Lost(fault) => {
                self.note(format!("{operation:?} {subject}"), fault, "lost");
                self.lost().await
            }
        }
    }

    /// Passes the result to the process, and records it.
    async fn end<T>(
        &self,
        (operation, subject, fault): (Operation, &str, Option<Fault>),
        result: Result<T, Error>,
        describe: impl Fn(&T) -> &'static str,
    ) -> Result<T, Error> {
        let described = result.as_ref().map_or("failed", describe);
        self.note(format!("{operation:?} {subject}"), fault, described);
        self.heard(fault, result).await
    }

    async fn store(&self, message: &Message) -> Result<Published, Error> {
        let (simulation, subject) = (&self.0.simulation, &message.subject);
        if matches!(simulation.sabotage, Sabotage::Lost(prefix) if subject.starts_with(prefix)) {
            return Ok(Published::Stored);
        }
        let published = self.inner().publish(message.clone()).await?;
        simulation.history().published(simulation.now(), message, published);
        Ok(published)
    }

    fn is_blind(&self, subject: &str) -> bool {
        matches!(self.0.simulation.sabotage, Sabotage::Blind(prefix) if subject.starts_with(prefix))
    }

    /// A delivery that settles through this handle.
    fn wrap(&self, mut delivery: Delivery, number: u64) -> Delivery {
        let message = std::mem::replace(&mut delivery.message, Message::new("", Vec::new()));
        let attempt = delivery.attempt;
        let settle = FaultySettle {
            bus: self.clone(),
            subject: message.subject.clone(),
            handle: delivery.handle(),
            number,
            inner: Mutex::new(Some(delivery)),
        };
        Delivery::new(message, attempt, settle)
    }

    async fn take(&self, queues: &[&str]) -> Result<Delivery, Error> {
        let held = {
            let overtaken = &self.0.overtaken;
            let mut overtaken = overtaken.lock().unwrap_or_else(PoisonError::into_inner);
            overtaken.remove(queues.first().copied().unwrap_or_default())
        };
        if let Some(delivery) = held {
            return Ok(delivery);
        }
        tokio::select! {
            biased;
            _ = self.0.process.died() => pending().await,
            delivery = self.inner().pull(queues) => delivery,
        }
    }
}

#[async_trait]
impl Bus for FaultyBus {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        let mut queue = queue.clone();
        if self.0.simulation.sabotage == Sabotage::SharedSubjects {
            queue.unique = false;
            queue.dedup_window = Duration::ZERO;
        }
        self.inner().declare(&queue).await
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        let (operation, subject) = (Operation::Publish, message.subject.clone());
        let fault = self.begin(operation, &subject).await?;
        let mut result = self.store(&message).await;
        if fault == Some(Fault::Duplicate) {
            result = self.store(&message).await;
        }
        let describe = |published: &Published| match published {
            Published::Stored => "stored",
            Published::Duplicate => "duplicate",
        };
        self.end((operation, &subject, fault), result, describe).await
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        let what = format!("Emit {}", message.subject);
        // An emit is not confirmed, so its sender learns of no fault.
        let fault = match self.turn(Operation::Emit, &message.subject).await {
            Turn::Lost(fault) => {
                self.note(what, fault, "lost");
                return Ok(());
            }
            Turn::Goes(fault) => fault,
        };
        if fault == Some(Fault::Duplicate) {
            self.inner().emit(message.clone()).await?;
        }
        // An emit does not return whether the message was stored, so check it here.
        let before = self.inner().exists(&message.subject).await?;
        self.inner().emit(message.clone()).await?;
        if !before && self.inner().exists(&message.subject).await? {
            let at = self.0.simulation.now();
            self.0.simulation.history().published(at, &message, Published::Stored);
        }
        self.note(what, fault, "");
        self.heard(fault, Ok(())).await
    }

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        loop {
            let mut delivery = self.take(queues).await?;
            let subject = delivery.message.subject.clone();
            let turn = self.turn(Operation::Deliver, &subject).await;
            let what = format!("Deliver {subject} ({})", delivery.attempt);
            let fault = match turn {
                Turn::Lost(fault) => {
                    self.note(what, fault, "lost");
                    continue;
                }
                Turn::Goes(fault) => fault,
            };
            if fault == Some(Fault::Reorder) {
                tokio::select! {
                    biased;
                    next = self.inner().pull(queues) => {
                        let first = std::mem::replace(&mut delivery, next?);
                        let key = queues.first().copied().unwrap_or_default().to_owned();
                        let overtaken = &self.0.overtaken;
                        let mut held = overtaken.lock().unwrap_or_else(PoisonError::into_inner);
                        held.insert(key, first);
                    }
                    () = sleep(OVERTAKING) => {}
                }
            }
            let what = format!("Deliver {} ({})", delivery.message.subject, delivery.attempt);
            self.note(what, fault, "");
            let number = {
                let (at, process) = (self.0.simulation.now(), &self.0.process.name);
                let mut history = self.0.simulation.history();
                history.delivered(at, process, &delivery.message, delivery.attempt)
            };
            let delivery = self.wrap(delivery, number);
            return self.heard(fault, Ok(delivery)).await;
        }
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        let delivery = self.inner().adopt(handle, message).await?;
        self.note(format!("Adopt {}", delivery.message.subject), None, "");
        let number = {
            let (at, process) = (self.0.simulation.now(), &self.0.process.name);
            self.0.simulation.history().delivered(at, process, &delivery.message, 1)
        };
        Ok(self.wrap(delivery, number))
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        let fault = self.begin(Operation::Read, subject).await?;
        let result = match self.is_blind(subject) {
            true => Ok(None),
            false => self.inner().last(subject).await,
        };
        let describe = |found: &Option<Message>| if found.is_some() { "found" } else { "nothing" };
        self.end((Operation::Read, subject, fault), result, describe).await
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        let fault = self.begin(Operation::Read, subject).await?;
        let result = match self.is_blind(subject) {
            true => Ok(false),
            false => self.inner().exists(subject).await,
        };
        let describe = |there: &bool| if *there { "there" } else { "not there" };
        self.end((Operation::Read, subject, fault), result, describe).await
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        let fault = self.begin(Operation::Read, filter).await?;
        let result = match self.is_blind(filter) {
            true => Ok(Vec::new()),
            false => self.inner().subjects(filter).await,
        };
        self.end((Operation::Read, filter, fault), result, |_| "listed").await
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        let fault = self.begin(Operation::Purge, filter).await?;
        let result = self.inner().purge(filter).await;
        self.end((Operation::Purge, filter, fault), result, |()| "purged").await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        let mut inner = self.inner().subscribe(filter).await?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let bus = self.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    message = inner.next() => message,
                };
                let Some(message) = message else { return };
                let (bus, sender) = (bus.clone(), sender.clone());
                // One task each, so that messages may overtake each other.
                tokio::spawn(async move {
                    let what = format!("Show {}", message.subject);
                    match bus.turn(Operation::Show, &message.subject).await {
                        Turn::Lost(fault) => bus.note(what, fault, "lost"),
                        Turn::Goes(fault) => {
                            bus.note(what, fault, "");
                            if fault == Some(Fault::Duplicate) {
                                let _ = sender.try_send(message.clone());
                            }
                            let _ = sender.try_send(message);
                        }
                    }
                });
            }
        });
        Ok(Subscription::new(receiver))
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        let (operation, subject) = (Operation::Request, message.subject.clone());
        let fault = self.begin(operation, &subject).await?;
        if fault == Some(Fault::Duplicate) {
            // The first reply, or its absence, does not matter.
            let _ = self.inner().request(message.clone(), timeout).await;
        }
        let result = self.inner().request(message, timeout).await;
        self.end((operation, &subject, fault), result, |_| "answered").await
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        self.inner().serve(filter).await
    }
}

struct FaultySettle {
    bus: FaultyBus,
    subject: String,
    handle: String,
    number: u64,
    inner: Mutex<Option<Delivery>>,
}

impl FaultySettle {
    /// Waits until it settles. None if that gets lost, although the process believes that it settled.
    async fn begin(&self, operation: Operation) -> Option<(Delivery, Option<Fault>)> {
        let bus = &self.bus;
        bus.0.simulation.history().settled(&bus.0.process.name, &self.subject, self.number);
        let turn = bus.turn(operation, &self.subject).await;
        let delivery = self.inner.lock().await.take()?;
        let what = format!("{operation:?} {}", self.subject);
        match turn {
            Turn::Lost(fault) => {
                bus.note(what, fault, "lost");
                None
            }
            Turn::Goes(fault) => {
                bus.note(what, fault, "");
                Some((delivery, fault))
            }
        }
    }
}

impl Drop for FaultySettle {
    fn drop(&mut self) {
        let bus = &self.bus;
        bus.0.simulation.history().settled(&bus.0.process.name, &self.subject, self.number);
    }
}

#[async_trait]
impl Settle for FaultySettle {
    fn handle(&self) -> String {
        self.handle.clone()
    }

    async fn ack(&self) -> Result<(), Error> {
        let Some((delivery, fault)) = self.begin(Operation::Ack).await else { return Ok(()) };
        self.bus.0.simulation.acknowledge(delivery).await;
        self.bus.heard(fault, Ok(())).await
    }

    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error> {
        let Some((delivery, fault)) = self.begin(Operation::Nak).await else { return Ok(()) };
        let result = delivery.nak(delay, reason).await;
        self.bus.heard(fault, result).await
    }

    async fn reject(&self, reason: &str) -> Result<(), Error> {
        let Some((delivery, fault)) = self.begin(Operation::Nak).await else { return Ok(()) };
        let result = delivery.reject(reason).await;
        self.bus.heard(fault, result).await
    }

    async fn in_progress(&self) -> Result<(), Error> {
        let turn = self.bus.turn(Operation::Heartbeat, &self.subject).await;
        let what = format!("Heartbeat {}", self.subject);
        match turn {
            Turn::Lost(fault) => {
                self.bus.note(what, fault, "lost");
                self.bus.lost().await
            }
            Turn::Goes(fault) => {
                self.bus.note(what, fault, "");
                match &*self.inner.lock().await {
                    Some(delivery) => delivery.in_progress().await,
                    None => Ok(()),
                }
            }
        }
    }
}
