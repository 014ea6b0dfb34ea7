//! The bus: what every transport promises. [`memory`] is the embedded implementation, [`nats`] the
//! one between processes; [`conformance`] is the suite that each implementation passes. [`guarded`] holds
//! the user of any of them to the policy.

#[doc(hidden)]
pub mod conformance;
pub mod guarded;
pub mod memory;
pub mod nats;
mod queue;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{Error, Message, message::matches};

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
    /// Whether a subject takes one message only: while it is stored, every further publish to its
    /// subject is a [`Published::Duplicate`], whatever it says.
    pub unique: bool,
    /// A delivery not acknowledged for this long is delivered again.
    pub ack_wait: Duration,
    /// After this many deliveries the message goes to the dead-letter queue.
    pub max_deliver: u32,
    /// The most messages it holds.
    pub max_messages: usize,
    /// The most messages it holds of one subject, where that is more than one.
    pub max_per_subject: Option<usize>,
    /// The most bytes it holds.
    pub max_bytes: usize,
    /// The most bytes of one message: subject, headers and body, and what the bus adds to them.
    pub max_message_bytes: usize,
    /// Messages older than this are dropped.
    pub max_age: Option<Duration>,
    /// For how long a second publish under the same message id is recognised.
    pub dedup_window: Duration,
    /// What becomes of a publish beyond those bounds.
    pub overflow: Overflow,
    /// Whether the broker may be asked for single subjects of it, so that a tenant who reads its own need
    /// not be able to read the others'.
    pub direct: bool,
}

impl QueueOptions {
    /// Compares the options of an existing queue with those `wanted`.
    pub(crate) fn expect(&self, wanted: &Self) -> Result<(), Error> {
        macro_rules! differing {
            ($($field:ident),*) => {
                [$((stringify!($field), format!("{:?}", self.$field), format!("{:?}", wanted.$field))),*]
            };
        }
        let fields = differing!(
            filter,
            retention,
            unique,
            ack_wait,
            max_deliver,
            max_messages,
            max_per_subject,
            max_bytes,
            max_message_bytes,
            max_age,
            dedup_window,
            overflow,
            direct
        );
        match fields.into_iter().find(|(_, found, wanted)| found != wanted) {
            Some((field, found, expected)) => {
                Err(Error::QueueMismatch { name: wanted.name.clone(), field, found, expected })
            }
            None => Ok(()),
        }
    }

    /// Checks that this queue catches a subject.
    pub(crate) fn expect_subject(&self, subject: &str) -> Result<(), Error> {
        if matches(&self.filter, subject) {
            return Ok(());
        }
        let expected = "one of the queue that the message is in";
        Err(Error::Malformed { what: "delivery handle", expected })
    }
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The message is stored.
    Stored,
    /// A message of that id had been stored before; nothing changed.
    Duplicate,
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
    /// Returns once it is stored. A message id seen within the queue's window makes it a duplicate,
    /// and so does a taken subject of a unique queue.
    async fn publish(&self, message: Message) -> Result<Published, Error>;

    /// Shows a message to whoever subscribes now, and stores it if a queue catches its subject; but
    /// does not wait to hear whether that worked.
    async fn emit(&self, message: Message) -> Result<(), Error>;

    /// Waits for the next message of any of these queues; where several have one, of the first of
    /// them. Between processes another one has its turn now and then, so that none starves. Dropping
    /// the future loses nothing; dropping the delivery without an answer means redelivery after the
    /// queue's `ack_wait`.
    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error>;

    /// Takes over a delivery that another process has pulled, from its [`Delivery::handle`]. The queue
    /// that the handle names must be the one that catches the message's subject: so who checks what
    /// message it adopts settles nothing in other queues.
    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error>;

    /// The newest message stored under exactly this subject.
    async fn last(&self, subject: &str) -> Result<Option<Message>, Error>;

    /// Whether a message is stored under exactly this subject.
    async fn exists(&self, subject: &str) -> Result<bool, Error>;

    /// The subjects under `filter` that have a stored message, in no particular order. `filter` lies
    /// within the filter of one queue.
    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error>;

    /// Deletes the stored messages under `filter`, which lies within the filter of one queue. Not for
    /// queues that somebody pulls from: nats-server 2.9 skips messages of a consumer that is behind
    /// when its stream is purged.
    async fn purge(&self, filter: &str) -> Result<(), Error>;

    /// Messages published or emitted under `filter` from now on; duplicates may be among them. A
    /// subscriber that falls behind by more than the bus's bound loses messages; it never slows a
    /// publisher.
    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error>;

    /// Asks whoever serves the subject, and waits for the answer.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error>;

    /// Requests to answer. Several servers of one filter share them.
    async fn serve(&self, filter: &str) -> Result<Requests, Error>;
}

/// How a transport settles one delivery; the methods are those of [`Delivery`].
#[async_trait]
pub trait Settle: Send + Sync {
    /// What lets another process settle it.
    fn handle(&self) -> String;
    /// Done.
    async fn ack(&self) -> Result<(), Error>;
    /// Not done.
    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error>;
    /// Will never be done.
    async fn reject(&self, reason: &str) -> Result<(), Error>;
    /// Still at it.
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
    /// A delivery by a transport.
    pub fn new(message: Message, attempt: u32, settle: impl Settle + 'static) -> Self {
        Self { message, attempt, settle: Box::new(settle) }
    }

    /// What lets another process settle this delivery; see [`Bus::adopt`].
    pub fn handle(&self) -> String {
        self.settle.handle()
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
    /// A subscription by a transport, which sends into the other end.
    pub fn new(messages: mpsc::Receiver<Message>) -> Self {
        Self(messages)
    }

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
