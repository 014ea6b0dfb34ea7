//! The bus inside one process. Time is tokio's, so a test can pause it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Bucket, Bus, DEAD_LETTERS, Delivery, Published, QueueOptions, Request, Requests, Settle,
    Subscription, dead_letter,
    queue::{Queue, Token},
};
use crate::{
    Digest, Error, Message,
    message::{MAX_ID, matches},
};

/// Bounds of a [`MemoryBus`].
#[derive(Debug, Clone)]
pub struct MemoryBusOptions {
    /// The largest message, in bytes.
    pub max_message: usize,
    /// The most bytes of objects held.
    pub max_object_bytes: usize,
    /// How many messages a subscriber or server may fall behind.
    pub buffer: usize,
}

impl Default for MemoryBusOptions {
    fn default() -> Self {
        Self { max_message: 32 << 20, max_object_bytes: 1 << 30, buffer: 1024 }
    }
}

/// What went over the bus under one class of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages, requests and replies, or objects.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A bus inside one process. Cloning gives another handle on the same bus.
#[derive(Clone)]
pub struct MemoryBus(Arc<Shared>);

struct Shared {
    options: MemoryBusOptions,
    // Held for short, synchronous steps only, so it need not be an async mutex.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<String, (Queue, Arc<Notify>)>,
    subscribers: Vec<(String, mpsc::Sender<Message>)>,
    servers: Vec<(String, mpsc::Sender<Request>)>,
    next_server: usize,
    objects: HashMap<(Bucket, Digest), Bytes>,
    object_bytes: usize,
    traffic: BTreeMap<String, Traffic>,
}

impl State {
    fn count(&mut self, class: &str, bytes: usize) {
        let traffic = self.traffic.entry(class.to_owned()).or_default();
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
    }

    fn queue(&mut self, name: &str) -> Result<&mut (Queue, Arc<Notify>), Error> {
        self.queues.get_mut(name).ok_or_else(|| Error::NoQueue { subject: name.to_owned() })
    }

    fn store(&mut self, message: Message, now: Instant) -> Result<Published, Error> {
        let caught = self
            .queues
            .values_mut()
            .find(|(queue, _)| matches(&queue.options.filter, &message.subject));
        let Some((queue, notify)) = caught else {
            return Err(Error::NoQueue { subject: message.subject });
        };
        let size = message.size();
        let class = message.class().to_owned();
        let published = queue.push(message.clone(), now)?;
        notify.notify_waiters();
        if published == Published::Stored {
            self.count(&class, size);
            self.show(&message);
        }
        Ok(published)
    }

    fn show(&mut self, message: &Message) {
        self.subscribers.retain(|(filter, subscriber)| {
            if matches(filter, &message.subject) {
                // A full buffer loses the message, as promised; a closed one loses the subscriber.
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
        Self(Arc::new(Shared { options, state: Mutex::default() }))
    }

    /// What has gone over the bus so far, by class of subject.
    pub fn traffic(&self) -> Vec<(String, Traffic)> {
        let state = self.state();
        state.traffic.iter().map(|(k, v)| (k.clone(), *v)).collect()
    }

    /// How many messages a queue holds.
    pub fn depth(&self, queue: &str) -> usize {
        self.state().queues.get(queue).map_or(0, |(queue, _)| queue.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves the state half changed, so a panic elsewhere does not spoil it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        let (got, limit) = (message.size(), self.0.options.max_message);
        if got > limit {
            return Err(Error::TooLarge { what: "message", got, limit });
        }
        // Identifiers outlive their messages, so they have a bound of their own.
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
        let Some((queue, _)) = state.queues.get(&options.name) else {
            state
                .queues
                .insert(options.name.clone(), (Queue::new(options.clone()), Arc::default()));
            return Ok(());
        };
        let old = &queue.options;
        let fields = [
            ("filter", old.filter == options.filter),
            ("retention", old.retention == options.retention),
            ("ack_wait", old.ack_wait == options.ack_wait),
            ("max_deliver", old.max_deliver == options.max_deliver),
            ("max_messages", old.max_messages == options.max_messages),
            ("max_bytes", old.max_bytes == options.max_bytes),
            ("max_age", old.max_age == options.max_age),
            ("dedup_window", old.dedup_window == options.dedup_window),
            ("overflow", old.overflow == options.overflow),
        ];
        match fields.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(Error::QueueMismatch { name: options.name.clone(), field }),
            None => Ok(()),
        }
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        self.check(&message)?;
        self.state().store(message, Instant::now())
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.check(&message)?;
        let mut state = self.state();
        state.count(message.class(), message.size());
        state.show(&message);
        Ok(())
    }

    async fn pull(&self, name: &str) -> Result<Delivery, Error> {
        let notify = self.state().queue(name)?.1.clone();
        loop {
            // Registered before looking, so that no change between the two is missed.
            let mut changed = std::pin::pin!(notify.notified());
            changed.as_mut().enable();
            let wake = {
                let now = Instant::now();
                let mut state = self.state();
                let (taken, dead) = state.queue(name)?.0.take(now);
                for (message, reason) in dead {
                    state.bury(name, &message, &reason, now);
                }
                if let Some(taken) = taken {
                    // The others' next moment to wake has changed.
                    notify.notify_waiters();
                    let settle = MemorySettle {
                        bus: self.clone(),
                        queue: name.to_owned(),
                        token: taken.token,
                    };
                    return Ok(Delivery::new(taken.message, taken.token.attempt, settle));
                }
                state.queue(name)?.0.next_wake()
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

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        let (mut state, now) = (self.state(), Instant::now());
        Ok(state.queues.values_mut().find_map(|(q, _)| q.last(subject, now)))
    }

    async fn count(&self, filter: &str) -> Result<usize, Error> {
        let (mut state, now) = (self.state(), Instant::now());
        Ok(state.queues.values_mut().map(|(q, _)| q.count(filter, now)).sum())
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.queues.values_mut().for_each(|(q, _)| q.purge(filter));
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

    async fn put(&self, bucket: Bucket, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let mut state = self.state();
        if !state.objects.contains_key(&(bucket, digest)) {
            if state.object_bytes + bytes.len() > self.0.options.max_object_bytes {
                return Err(Error::Full { what: "the object store".into() });
            }
            state.object_bytes += bytes.len();
            state.count(&format!("object.{}", bucket.as_str()), bytes.len());
            state.objects.insert((bucket, digest), bytes);
        }
        Ok(digest)
    }

    async fn get(&self, bucket: Bucket, digest: Digest, limit: usize) -> Result<Bytes, Error> {
        let state = self.state();
        let Some(bytes) = state.objects.get(&(bucket, digest)) else {
            return Err(Error::NoObject { bucket: bucket.as_str(), digest });
        };
        if bytes.len() > limit {
            return Err(Error::TooLarge { what: "object", got: bytes.len(), limit });
        }
        Ok(bytes.clone())
    }

    async fn delete(&self, bucket: Bucket, digest: Digest) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(bytes) = state.objects.remove(&(bucket, digest)) {
            state.object_bytes -= bytes.len();
        }
        Ok(())
    }
}

struct MemorySettle {
    bus: MemoryBus,
    queue: String,
    token: Token,
}

impl MemorySettle {
    fn with<T>(&self, step: impl FnOnce(&mut Queue) -> T) -> Result<T, Error> {
        let mut state = self.bus.state();
        let (queue, notify) = state.queue(&self.queue)?;
        let result = step(queue);
        notify.notify_waiters();
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
