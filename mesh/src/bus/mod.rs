//! The bus: what every transport promises. [`memory`] is the embedded implementation;
//! [`conformance`] is the suite that each implementation passes.

#[doc(hidden)]
pub mod conformance;
pub mod memory;
mod queue;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Digest, Error, Message};

/// A cheap handle on a bus.
pub type BusHandle = Arc<dyn Bus>;

/// What becomes of a message once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// It is deleted: each message is work for one consumer.
    WorkQueue,
    /// The newest message of every subject stays readable until it is purged or too old.
    LastPerSubject,
}

/// What a full queue does with one message more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The publish is refused.
    Refuse,
    /// The oldest messages make room.
    DiscardOldest,
}

/// A durable queue: the subjects it catches and how its messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// Its name, shared by all who pull from it.
    pub name: String,
    /// The filter of subjects it catches. Filters of different queues must not overlap.
    pub filter: String,
    /// What becomes of acknowledged messages.
    pub retention: Retention,
    /// A delivery not acknowledged for this long is delivered again.
    pub ack_wait: Duration,
    /// After this many deliveries the message goes to the dead-letter queue.
    pub max_deliver: u32,
    /// The most messages it holds.
    pub max_messages: usize,
    /// The most bytes it holds.
    pub max_bytes: usize,
    /// Messages older than this are dropped.
    pub max_age: Duration,
    /// For how long a second publish under the same message id is recognised.
    pub dedup_window: Duration,
    /// What becomes of a publish beyond those bounds.
    pub overflow: Overflow,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The message is stored.
    Stored,
    /// A message of that id had been stored before; nothing changed.
    Duplicate,
}

/// Where content-addressed objects live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// What clients have sent and nobody has checked.
    Uploads,
    /// Evaluation keys that key management has accepted.
    Keys,
    /// Models that key management has accepted.
    Models,
}

impl Bucket {
    /// The bucket's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Keys => "keys",
            Self::Models => "models",
        }
    }
}

/// The queue that takes what could not be delivered; see [`Delivery::reject`].
pub const DEAD_LETTERS: &str = "dead";
/// Header of a dead letter: why it died.
pub const DEAD_REASON: &str = "Hermesh-Dead-Reason";
/// Header of a dead letter: the queue it died in.
pub const DEAD_QUEUE: &str = "Hermesh-Dead-Queue";
/// Header of a dead letter: the subject it was published to.
pub const DEAD_SUBJECT: &str = "Hermesh-Dead-Subject";

/// The message that goes to the dead-letter queue in the place of `message`.
pub(crate) fn dead_letter(queue: &str, message: &Message, reason: &str) -> Message {
    let mut dead = message.clone();
    dead.headers.set(DEAD_REASON, reason);
    dead.headers.set(DEAD_QUEUE, queue);
    dead.headers.set(DEAD_SUBJECT, &message.subject);
    dead.subject = format!("hermesh.dead.{queue}");
    let id = message.id().map(|id| format!("{id}.dead"));
    match id {
        Some(id) => dead.with_id(id),
        None => dead,
    }
}

/// What every transport promises. Handles are shared as [`BusHandle`].
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Creates the queue, or checks that the existing one has these options.
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error>;

    /// Stores a message in the queue that catches its subject, and shows it to subscribers.
    /// Returns once it is stored. A message id seen within the queue's window makes it a duplicate.
    async fn publish(&self, message: Message) -> Result<Published, Error>;

    /// Shows a message to whoever subscribes now, at most once.
    async fn emit(&self, message: Message) -> Result<(), Error>;

    /// Waits for the queue's next message. Dropping the future loses nothing; dropping the delivery
    /// without an answer means redelivery after the queue's `ack_wait`.
    async fn pull(&self, queue: &str) -> Result<Delivery, Error>;

    /// The newest message stored under exactly this subject.
    async fn last(&self, subject: &str) -> Result<Option<Message>, Error>;

    /// How many subjects under `filter` have a stored message.
    async fn count(&self, filter: &str) -> Result<usize, Error>;

    /// Deletes the stored messages under `filter`.
    async fn purge(&self, filter: &str) -> Result<(), Error>;

    /// Messages published or emitted under `filter` from now on. A subscriber that falls behind by
    /// more than the bus's bound loses messages; it never slows a publisher.
    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error>;

    /// Asks whoever serves the subject, and waits for the answer.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error>;

    /// Requests to answer. Several servers of one filter share them.
    async fn serve(&self, filter: &str) -> Result<Requests, Error>;

    /// Stores bytes under their digest.
    async fn put(&self, bucket: Bucket, bytes: Bytes) -> Result<Digest, Error>;

    /// The bytes of that digest, if they are at most `limit`.
    async fn get(&self, bucket: Bucket, digest: Digest, limit: usize) -> Result<Bytes, Error>;

    /// Deletes an object; absent is fine.
    async fn delete(&self, bucket: Bucket, digest: Digest) -> Result<(), Error>;
}

/// How a transport settles one delivery.
#[async_trait]
pub(crate) trait Settle: Send + Sync {
    async fn ack(&self) -> Result<(), Error>;
    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error>;
    async fn reject(&self, reason: &str) -> Result<(), Error>;
    async fn in_progress(&self) -> Result<(), Error>;
}

/// One message out of a queue, to be settled.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which delivery of the message this is; the first is 1.
    pub attempt: u32,
    settle: Box<dyn Settle>,
}

impl Delivery {
    pub(crate) fn new(message: Message, attempt: u32, settle: impl Settle + 'static) -> Self {
        Self { message, attempt, settle: Box::new(settle) }
    }

    /// Done: it is not delivered again.
    pub async fn ack(self) -> Result<(), Error> {
        self.settle.ack().await
    }

    /// Not done: it is delivered again after `delay`, or, if this was the last delivery allowed,
    /// goes to the dead-letter queue with the reason.
    pub async fn nak(self, delay: Duration, reason: &str) -> Result<(), Error> {
        self.settle.nak(delay, reason).await
    }

    /// Will never be done: to the dead-letter queue with the reason.
    pub async fn reject(self, reason: &str) -> Result<(), Error> {
        self.settle.reject(reason).await
    }

    /// Still at it: the time to acknowledge starts anew.
    pub async fn in_progress(&self) -> Result<(), Error> {
        self.settle.in_progress().await
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.message.subject)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Messages as they are published.
#[derive(Debug)]
pub struct Subscription(pub(crate) mpsc::Receiver<Message>);

impl Subscription {
    /// The next message, or nothing once the bus is gone.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.recv().await
    }
}

/// Requests to answer.
#[derive(Debug)]
pub struct Requests(pub(crate) mpsc::Receiver<Request>);

impl Requests {
    /// The next request, or nothing once the bus is gone.
    pub async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

type Reply =
    Box<dyn FnOnce(Message) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> + Send>;

/// One request and the way to answer it.
pub struct Request {
    /// What was asked.
    pub message: Message,
    reply: Reply,
}

impl Request {
    pub(crate) fn new(message: Message, reply: Reply) -> Self {
        Self { message, reply }
    }

    /// Answers. The message's subject is replaced by the asker's.
    pub async fn reply(self, message: Message) -> Result<(), Error> {
        (self.reply)(message).await
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("subject", &self.message.subject).finish_non_exhaustive()
    }
}
