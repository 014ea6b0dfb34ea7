//! The bus inside one process. It uses tokio's time, so tests can pause it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Bus, DEAD_LETTERS, Delivery, Published, QueueOptions, Request, Requests, Settle, Subscription,
    dead_letter,
    queue::{Queue, Token},
};
use crate::{
    Error, Message,
    message::{MAX_ID, matches},
};

/// Bounds of a [`MemoryBus`].
#[derive(Debug, Clone)]
pub struct MemoryBusOptions {
    /// The largest message, in bytes.
    pub max_message: usize,
    /// How many messages a subscriber or server may fall behind.
    pub buffer: usize,
}

impl Default for MemoryBusOptions {
    fn default() -> Self {
        Self { max_message: 32 << 20, buffer: 1024 }
    }
}

/// Traffic under one class of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Number of messages, including requests and replies.
    pub messages: u64,
    /// Their total size in bytes.
    pub bytes: u64,
}

/// A bus inside one process. Cloning gives another handle on the same bus.
#[derive(Clone)]
pub struct MemoryBus(Arc<Shared>);

struct Shared {
    options: MemoryBusOptions,
    // Held only for short, synchronous steps, so it need not be an async mutex.
    state: Mutex<State>,
    // Shared by all queues, because one puller may wait for several.
    changed: Notify,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    subscribers: Vec<(String, mpsc::Sender<Message>)>,
    servers: Vec<(String, mpsc::Sender<Request>)>,
    next_server: usize,
    traffic: BTreeMap<String, Traffic>,
}

impl State {
    fn count(&mut self, class: &str, bytes: usize) {
        let traffic = self.traffic.entry(class.to_owned()).or_default();
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
    }

    fn queue(&mut self, name: &str) -> Result<&mut Queue, Error> {
        self.queues.get_mut(name).ok_or_else(|| Error::NoQueue { subject: name.to_owned() })
    }

    fn store(&mut self, message: Message, now: Instant) -> Result<Published, Error> {
        let caught =
            self.queues.values_mut().find(|queue| matches(&queue.options.filter, &message.subject));
        let Some(queue) = caught else {
            return Err(Error::NoQueue { subject: message.subject });
        };
        let published = queue.push(message.clone(), now)?;
        if published == Published::Stored {
            self.count(message.class(), message.size());
        }
        // Subscribers also see duplicates, as they do between processes.
        self.show(&message);
        Ok(published)
    }

    fn show(&mut self, message: &Message) {
        self.subscribers.retain(|(filter, subscriber)| {
            if matches(filter, &message.subject) {
                // If the buffer is full the message is lost, as the contract allows; if it is
                // closed the subscriber is removed.
                let _ = subscriber.try_send(message.clone());
            }
            !subscriber.is_closed()
        });
    }

    fn bury(&mut self, queue: &str, message: &Message, reason: &str, now: Instant) {
        tracing::warn!(queue, subject = message.subject, reason, "dead letter");
        if queue != DEAD_LETTERS
            && let Err(error) = self.store(dead_letter(queue, message, reason), now)
        {
            tracing::error!(queue, %error, "a dead letter was lost");
        }
    }
}

impl MemoryBus {
    /// An empty bus.
    pub fn new(options: MemoryBusOptions) -> Self {
        Self(Arc::new(Shared { options, state: Mutex::default(), changed: Notify::new() }))
    }

    /// Traffic so far, by class of subject.
    pub fn traffic(&self) -> Vec<(String, Traffic)> {
        let state = self.state();
        state.traffic.iter().map(|(k, v)| (k.clone(), *v)).collect()
    }

    /// Number of messages in a queue.
    pub fn depth(&self, queue: &str) -> usize {
        self.state().queues.get(queue).map_or(0, Queue::len)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves the state half changed, so a poisoned lock can be used.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message of the first of `queues` that has one, or else when to look again.
    fn take(&self, queues: &[&str]) -> Result<Result<Delivery, Option<Instant>>, Error> {
        let now = Instant::now();
        let mut state = self.state();
        let mut wake = None;
        for name in queues {
            let (taken, dead) = state.queue(name)?.take(now);
            for (message, reason) in dead {
                state.bury(name, &message, &reason, now);
            }
            if let Some(taken) = taken {
                let (queue, token) = ((*name).to_owned(), taken.token);
                let settle = MemorySettle { bus: self.clone(), queue, token };
                return Ok(Ok(Delivery::new(taken.message, token.attempt, settle)));
            }
            wake = [wake, state.queue(name)?.next_wake()].into_iter().flatten().min();
        }
        Ok(Err(wake))
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        let (got, limit) = (message.size(), self.0.options.max_message);
        if got > limit {
            return Err(Error::TooLarge { what: "message", got, limit });
        }
        // Ids are remembered longer than their messages, so they have their own size limit.
        match message.id().map(str::len) {
            Some(got) if got > MAX_ID => {
                Err(Error::TooLarge { what: "message id", got, limit: MAX_ID })
            }
            _ => Ok(()),
        }
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new(MemoryBusOptions::default())
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn declare(&self, options: &QueueOptions) -> Result<(), Error> {
        let mut state = self.state();
        let Some(queue) = state.queues.get(&options.name) else {
            state.queues.insert(options.name.clone(), Queue::new(options.clone()));
            return Ok(());
        };
        let old = &queue.options;
        old.expect(options)
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        self.check(&message)?;
        let published = self.state().store(message, Instant::now())?;
        self.0.changed.notify_waiters();
        Ok(published)
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.check(&message)?;
        {
            let mut state = self.state();
            if let Err(error) = state.store(message.clone(), Instant::now()) {
                tracing::debug!(%error, "an emitted message was not stored");
                state.count(message.class(), message.size());
                state.show(&message);
            }
        }
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        loop {
            // Register before looking, so that no change in between is missed.
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let wake = match self.take(queues)? {
                Ok(delivery) => {
                    // Taking a message may change when the other waiters must wake.
                    self.0.changed.notify_waiters();
                    return Ok(delivery);
                }
                Err(wake) => wake,
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        let parse = || {
            let mut parts = handle.rsplitn(3, '/');
            let (attempt, entry) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((parts.next()?.to_owned(), Token { entry, attempt }))
        };
        let Some((queue, token)) = parse() else {
            let expected = "queue/entry/attempt";
            return Err(Error::Malformed { what: "delivery handle", expected });
        };
        self.state().queue(&queue)?.options.expect_subject(&message.subject)?;
        let settle = MemorySettle { bus: self.clone(), queue, token };
        Ok(Delivery::new(message, token.attempt, settle))
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        let (mut state, now) = (self.state(), Instant::now());
        Ok(state.queues.values_mut().find_map(|queue| queue.last(subject, now)))
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        Ok(self.last(subject).await?.is_some())
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        let (mut state, now) = (self.state(), Instant::now());
        Ok(state.queues.values_mut().flat_map(|queue| queue.subjects(filter, now)).collect())
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.queues.values_mut().for_each(|queue| queue.purge(filter));
        Ok(())
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        let (sender, receiver) = mpsc::channel(self.0.options.buffer);
        let mut state = self.state();
        state.subscribers.retain(|(_, subscriber)| !subscriber.is_closed());
        state.subscribers.push((filter.to_owned(), sender));
        Ok(Subscription(receiver))
    }

    async fn request(&self, message: Message, wait: Duration) -> Result<Message, Error> {
        self.check(&message)?;
        let (sender, receiver) = oneshot::channel();
        let subject = message.subject.clone();
        let bus = self.clone();
        let asker = subject.clone();
        let reply = Box::new(move |mut reply: Message| {
            reply.subject = asker;
            let sent = bus.check(&reply).and_then(|()| {
                bus.state().count(reply.class(), reply.size());
                sender.send(reply).map_err(|_| Error::Stopped("the asker"))
            });
            Box::pin(std::future::ready(sent)) as std::pin::Pin<Box<_>>
        });
        {
            let mut state = self.state();
            state.servers.retain(|(_, server)| !server.is_closed());
            state.next_server = state.next_server.wrapping_add(1);
            let serving: Vec<_> =
                state.servers.iter().filter(|(filter, _)| matches(filter, &subject)).collect();
            if serving.is_empty() {
                return Err(Error::NoResponders { subject });
            }
            let server = serving[state.next_server % serving.len()].1.clone();
            state.count(message.class(), message.size());
            server
                .try_send(Request::new(message, reply))
                .map_err(|_| Error::Full { what: format!("the server of {subject}") })?;
        }
        match timeout(wait, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Error::Stopped("the service")),
            Err(_) => Err(Error::Timeout(wait)),
        }
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        let (sender, receiver) = mpsc::channel(self.0.options.buffer);
        let mut state = self.state();
        state.servers.retain(|(_, server)| !server.is_closed());
        state.servers.push((filter.to_owned(), sender));
        Ok(Requests(receiver))
    }
}

struct MemorySettle {
    bus: MemoryBus,
    queue: String,
    token: Token,
}

impl MemorySettle {
    fn with<T>(&self, step: impl FnOnce(&mut Queue) -> T) -> Result<T, Error> {
        let result = step(self.bus.state().queue(&self.queue)?);
        self.bus.0.changed.notify_waiters();
        Ok(result)
    }

    fn bury(&self, dead: Option<Message>, reason: &str) {
        if let Some(message) = dead {
            let now = Instant::now();
            self.bus.state().bury(&self.queue, &message, reason, now);
        }
    }
}

#[async_trait]
impl Settle for MemorySettle {
    fn handle(&self) -> String {
        format!("{}/{}/{}", self.queue, self.token.entry, self.token.attempt)
    }

    async fn ack(&self) -> Result<(), Error> {
        self.with(|queue| queue.ack(self.token))
    }

    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error> {
        let dead = self.with(|queue| queue.nak(self.token, Instant::now() + delay))?;
        self.bury(dead, reason);
        Ok(())
    }

    async fn reject(&self, reason: &str) -> Result<(), Error> {
        let dead = self.with(|queue| queue.reject(self.token))?;
        self.bury(dead, reason);
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), Error> {
        self.with(|queue| queue.in_progress(self.token, Instant::now()))
    }
}
