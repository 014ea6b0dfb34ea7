//! The bus between services, and the contract that every transport fulfils. [`memory`] is the bus inside one process,
//! [`nats`] the bus between processes; [`conformance`] is the test suite that both pass. [`guarded`] enforces the
//! policy on the user of any bus.

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

/// What happens to a message once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// It is deleted: each message is work for one consumer.
    WorkQueue,
    /// The newest message of each subject stays readable until it is purged or expires.
    LastPerSubject,
}

/// What a full queue does with another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The publish is refused.
    Refuse,
    /// The oldest messages are discarded.
    DiscardOldest,
}

/// A durable queue: the subjects it catches and how its messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// The name, shared by all processes that pull from the queue.
    pub name: String,
    /// The filter of subjects it catches. Filters of different queues must not overlap.
    pub filter: String,
    /// What happens to acknowledged messages.
    pub retention: Retention,
    /// Whether a subject holds at most one message: while one is stored, every further publish to the subject is a
    /// [`Published::Duplicate`], whatever its content.
    pub unique: bool,
    /// A delivery not acknowledged for this long is delivered again.
    pub ack_wait: Duration,
    /// After this many deliveries a message goes to the dead-letter queue.
    pub max_deliver: u32,
    /// The most messages that the queue holds.
    pub max_messages: usize,
    /// The most messages that it holds for one subject; `None` for no such limit.
    pub max_per_subject: Option<usize>,
    /// The most bytes that it holds.
    pub max_bytes: usize,
    /// The largest message: subject, headers and body, plus what the bus adds.
    pub max_message_bytes: usize,
    /// Messages older than this are dropped.
    pub max_age: Option<Duration>,
    /// How long a repeated message id is recognised.
    pub dedup_window: Duration,
    /// What happens to a publish that exceeds these bounds.
    pub overflow: Overflow,
    /// Whether single subjects of the queue can be read directly from the broker. A tenant can then be allowed to read
    /// its own subjects without being allowed to read other tenants'.
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

    /// Checks that this queue catches `subject`.
    pub(crate) fn expect_subject(&self, subject: &str) -> Result<(), Error> {
        if matches(&self.filter, subject) {
            return Ok(());
        }
        let expected = "one of the queue that the message is in";
        Err(Error::Malformed { what: "delivery handle", expected })
    }
}

/// The result of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The message is stored.
    Stored,
    /// A message with this id (or, in a unique queue, this subject) was stored before; nothing changed.
    Duplicate,
}

/// The queue for undeliverable messages; see [`Delivery::reject`].
pub const DEAD_LETTERS: &str = "dead";
/// Header of a dead letter: why it could not be delivered.
pub const DEAD_REASON: &str = "Hermesh-Dead-Reason";
/// Header of a dead letter: the queue it came from.
pub const DEAD_QUEUE: &str = "Hermesh-Dead-Queue";
/// Header of a dead letter: the subject it was published to.
pub const DEAD_SUBJECT: &str = "Hermesh-Dead-Subject";

/// The dead letter that replaces `message`.
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

/// The contract of every transport. Handles are shared as [`BusHandle`].
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Creates the queue, or checks that the existing one has these options.
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error>;

    /// Stores a message in the queue that catches its subject, and shows it to subscribers. Returns once the message is
    /// stored. It is a duplicate if its id was seen within the queue's window or, in a unique queue, if its subject
    /// already holds a message.
    async fn publish(&self, message: Message) -> Result<Published, Error>;

    /// Shows a message to current subscribers, and stores it if a queue catches its subject. Does not wait for either
    /// to succeed.
    async fn emit(&self, message: Message) -> Result<(), Error>;

    /// Waits for the next message from any of these queues; earlier queues go first. The bus between processes begins
    /// with another queue now and then, so that none starves. Dropping the future loses nothing. Dropping the delivery
    /// unsettled means redelivery after the queue's `ack_wait`.
    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error>;

    /// Takes over a delivery that another process has pulled, given its [`Delivery::handle`]. The handle's queue must
    /// be the one that catches the message's subject; a caller that checks the message therefore cannot settle
    /// deliveries of other queues.
    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error>;

    /// The newest message stored under exactly this subject.
    async fn last(&self, subject: &str) -> Result<Option<Message>, Error>;

    /// Whether a message is stored under exactly this subject.
    async fn exists(&self, subject: &str) -> Result<bool, Error>;

    /// The subjects under `filter` that have a stored message, in no particular order. `filter` lies
    /// within the filter of one queue.
    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error>;

    /// Deletes the stored messages under `filter`, which lies within the filter of one queue. Must not be used on
    /// queues that are pulled from: when a stream is purged, nats-server 2.9 skips messages of a consumer that is
    /// behind.
    async fn purge(&self, filter: &str) -> Result<(), Error>;

    /// Messages published or emitted under `filter` from now on, possibly with duplicates. A subscriber that falls
    /// behind by more than the bus's bound loses messages; it never slows a publisher.
    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error>;

    /// Sends a request to a server of the subject and waits for the reply.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error>;

    /// Incoming requests under `filter`. Several servers of one filter share them.
    async fn serve(&self, filter: &str) -> Result<Requests, Error>;
}

/// How a transport settles one delivery; the methods are those of [`Delivery`].
#[async_trait]
pub trait Settle: Send + Sync {
    /// A handle with which another process can settle the delivery.
    fn handle(&self) -> String;
    /// The work is done.
    async fn ack(&self) -> Result<(), Error>;
    /// The work is not done; deliver again.
    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error>;
    /// The work can never be done.
    async fn reject(&self, reason: &str) -> Result<(), Error>;
    /// The work is in progress.
    async fn in_progress(&self) -> Result<(), Error>;
}

/// One message from a queue, to be settled.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which delivery of the message this is; the first is 1.
    pub attempt: u32,
    settle: Box<dyn Settle>,
}

impl Delivery {
    /// Wraps a delivery of a transport.
    pub fn new(message: Message, attempt: u32, settle: impl Settle + 'static) -> Self {
        Self { message, attempt, settle: Box::new(settle) }
    }

    /// A handle with which another process can settle this delivery; see [`Bus::adopt`].
    pub fn handle(&self) -> String {
        self.settle.handle()
    }

    /// Marks the work as done: the message is not delivered again.
    pub async fn ack(self) -> Result<(), Error> {
        self.settle.ack().await
    }

    /// Hands the message back: it is delivered again after `delay` or, if this was its last allowed delivery, goes to
    /// the dead-letter queue with the reason.
    pub async fn nak(self, delay: Duration, reason: &str) -> Result<(), Error> {
        self.settle.nak(delay, reason).await
    }

    /// Gives the message up: it goes to the dead-letter queue with the reason.
    pub async fn reject(self, reason: &str) -> Result<(), Error> {
        self.settle.reject(reason).await
    }

    /// Marks the work as in progress: the time to acknowledge starts anew.
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
    /// Wraps a subscription of a transport, which sends into the other end of the channel.
    pub fn new(messages: mpsc::Receiver<Message>) -> Self {
        Self(messages)
    }

    /// The next message, or `None` once the bus is gone.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.recv().await
    }
}

/// Incoming requests.
#[derive(Debug)]
pub struct Requests(pub(crate) mpsc::Receiver<Request>);

impl Requests {
    /// The next request, or `None` once the bus is gone.
    pub async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

type Reply =
    Box<dyn FnOnce(Message) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> + Send>;

/// One request and the means to reply to it.
pub struct Request {
    /// The request.
    pub message: Message,
    reply: Reply,
}

impl Request {
    pub(crate) fn new(message: Message, reply: Reply) -> Self {
        Self { message, reply }
    }

    /// Sends the reply. Its subject is replaced by the requester's reply subject.
    pub async fn reply(self, message: Message) -> Result<(), Error> {
        (self.reply)(message).await
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("subject", &self.message.subject).finish_non_exhaustive()
    }
}
