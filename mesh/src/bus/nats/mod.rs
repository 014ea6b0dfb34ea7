//! The bus between processes, on NATS JetStream. A queue is a stream and, once a process pulls from it, a durable
//! consumer. Works with nats-server 2.9 and later.

mod ask;
pub(crate) mod convert;
mod heal;
mod lookup;
mod pull;
mod settle;
pub(crate) mod streams;
pub(crate) mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicUsize},
    time::Duration,
};

use async_nats::{
    ConnectOptions, Event, HeaderMap, Request, client::RequestErrorKind,
    jetstream::publish::PublishAck,
};
use async_trait::async_trait;
use serde_json::json;
use tokio::time::timeout;

use self::{
    ask::{Asker, FULL, Unanswered, read},
    convert::{check_subject, from_nats, to_nats},
    settle::{AckSubject, NatsSettle},
};
use super::{Bus, Delivery, Published, QueueOptions, Requests, Subscription};
use crate::{
    Error, JobId, Message,
    message::{MAX_ID, matches},
    seal::SEAL_ROOM,
};

pub use self::watch::is_inbox;

/// How many messages a subscriber or server may fall behind.
const BUFFER: usize = 1024;
/// Capacity of the client's command queue.
const COMMANDS: usize = 512;
const PING_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// Bytes reserved for the headers that this bus adds to a message, and for the message signature.
pub(crate) const HEADER_ROOM: usize = 512 + SEAL_ROOM;

// JetStream's error codes.
const WRONG_LAST_SEQUENCE: u64 = 10071;
const MESSAGE_TOO_LARGE: u64 = 10054;
const NO_MESSAGE: u64 = 10037;

/// How to reach a NATS server.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Addresses of the servers: `nats://host:port`, several separated by commas.
    pub url: String,
    /// This process's name in the server's list of connections.
    pub name: String,
    /// Number of servers that store each newly created queue.
    pub replicas: usize,
    /// Queues known without being declared. A client that may not create queues finds the stream of a subject here.
    pub queues: Vec<QueueOptions>,
    /// Time limit of one request to the server.
    pub request_timeout: Duration,
    /// How long publishes and other requests are retried while the server is unreachable.
    pub publish_patience: Duration,
    /// Prefix of the subjects where replies to this process go, see [`crate::identity::inbox`]. `None` for plain
    /// `_INBOX`, which is not tied to an identity.
    pub inbox: Option<String>,
    /// Whether to read stored messages directly where the queue allows it. Tenants need this, because they may read
    /// only their own subjects. With several servers any of them may answer, including one that lags behind and reports
    /// a message as missing; services therefore read from the stream's leader.
    pub direct: bool,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            name: "hermesh".into(),
            replicas: 1,
            queues: crate::topology::queues(),
            request_timeout: Duration::from_secs(5),
            publish_patience: Duration::from_secs(30),
            inbox: None,
            direct: false,
        }
    }
}

/// A bus on NATS JetStream. Cloning gives another handle on the same connection.
///
/// While the server is unreachable, publishes are retried for [`NatsOptions::publish_patience`], and pulls wait. If the
/// first try was stored but its acknowledgement lost, the publish is reported as [`Published::Duplicate`].
#[derive(Clone)]
pub struct NatsBus(Arc<Shared>);

struct Shared {
    asker: Asker,
    replicas: usize,
    direct: bool,
    known: RwLock<BTreeMap<String, Known>>,
    /// Counts pulls from several queues.
    turns: AtomicUsize,
}

#[derive(Clone)]
struct Known {
    options: Arc<QueueOptions>,
    /// Declared through this handle, so it is created again if it disappears.
    declared: bool,
    /// Its consumer is believed to exist.
    ready: bool,
    /// When the queue was last checked for lost messages.
    looked: Option<tokio::time::Instant>,
}

impl NatsBus {
    /// Connects, and from then on reconnects whenever the connection breaks.
    ///
    /// # Errors
    /// [`Error::Connect`] if no server can be reached now, [`Error::Malformed`] if the inbox is not valid.
    pub async fn connect(options: NatsOptions) -> Result<Self, Error> {
        if options.inbox.as_deref().is_some_and(|inbox| !is_inbox(inbox)) {
            return Err(Error::Malformed { what: "inbox", expected: "_INBOX. and more tokens" });
        }
        let (counter, mut made) = tokio::sync::watch::channel(0_u64);
        let counter = Arc::new(counter);
        let servers: Vec<&str> = options.url.split(',').map(str::trim).collect();
        let connecting = ConnectOptions::new()
            .name(&options.name)
            .custom_inbox_prefix(options.inbox.as_deref().unwrap_or("_INBOX"))
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(options.request_timeout))
            .subscription_capacity(BUFFER)
            .client_capacity(COMMANDS)
            .max_reconnects(None)
            .reconnect_delay_callback(|tries| {
                let exponent = u32::try_from(tries).unwrap_or(u32::MAX).min(7);
                LONGEST_RECONNECT_DELAY.min(Duration::from_millis(10) * 2_u32.pow(exponent))
            })
            .event_callback(move |event| {
                let counter = counter.clone();
                async move {
                    match event {
                        Event::Connected => counter.send_modify(|count| *count += 1),
                        Event::Disconnected => tracing::warn!("disconnected from the NATS server"),
                        // For example a refused publish: its publisher receives no other notice.
                        Event::ServerError(error) => tracing::warn!(%error, "NATS"),
                        event => tracing::debug!(%event, "NATS"),
                    }
                }
            })
            .connect(&servers[..]);
        let client = connecting.await.map_err(|error| Error::Connect {
            url: without_credentials(&servers),
            why: error.to_string(),
        })?;
        // Wait for the first connection's event; if it came later, it would look like a reconnection.
        let _ = timeout(options.request_timeout, made.changed()).await;
        let asker = Asker {
            client,
            made,
            request_timeout: options.request_timeout,
            patience: options.publish_patience,
        };
        let known = options.queues.into_iter().map(|queue| {
            let known = Known {
                options: Arc::new(queue.clone()),
                declared: false,
                ready: false,
                looked: None,
            };
            (queue.name, known)
        });
        let known = RwLock::new(known.collect());
        Ok(Self(Arc::new(Shared {
            asker,
            replicas: options.replicas,
            direct: options.direct,
            known,
            turns: AtomicUsize::new(0),
        })))
    }

    /// Whether the bus is connected at this moment.
    pub fn connected(&self) -> bool {
        self.0.asker.connected()
    }

    /// Flushes emitted messages and closes the connection. The bus cannot be used afterwards.
    pub async fn close(&self) {
        let asker = &self.0.asker;
        let _ = timeout(asker.request_timeout, asker.client.flush()).await;
        let _ = timeout(asker.request_timeout, asker.client.drain()).await;
    }

    fn known(&self, name: &str) -> Result<Known, Error> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().ok_or_else(|| Error::NoQueue { subject: name.to_owned() })
    }

    fn remember(&self, name: &str, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name) {
            change(known);
        }
    }

    /// The queue that catches a subject or a whole filter.
    fn queue_of(&self, subject: &str) -> Result<Arc<QueueOptions>, Error> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let caught = known.values().find(|known| matches(&known.options.filter, subject));
        caught
            .map(|known| known.options.clone())
            .ok_or_else(|| Error::NoQueue { subject: subject.to_owned() })
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        check_subject(&message.subject)?;
        let (got, limit) = (message.size() + HEADER_ROOM, self.0.asker.client.max_payload());
        if got > limit {
            return Err(Error::TooLarge { what: "message", got, limit });
        }
        match message.id().map(str::len) {
            Some(got) if got > MAX_ID => {
                Err(Error::TooLarge { what: "message id", got, limit: MAX_ID })
            }
            _ => Ok(()),
        }
    }

    /// Stores a message. Retries use the same id, so it is stored once.
    async fn store(&self, message: &Message, id: &str) -> Result<Published, Error> {
        self.check(message)?;
        let queue = self.queue_of(&message.subject)?;
        let headers = Some(storing(&queue, message, id));
        let stored = self.0.asker.ask(&message.subject, headers, message.body.clone()).await;
        let error = match stored {
            Ok(answer) => {
                let duplicate = read::<PublishAck>(&answer)?.duplicate;
                return Ok(if duplicate { Published::Duplicate } else { Published::Stored });
            }
            Err(error) => error,
        };
        match (error.code(), error) {
            // This includes the case that this publish was stored and the acknowledgement of its first try was lost.
            (Some(WRONG_LAST_SEQUENCE), _) => Ok(Published::Duplicate),
            (Some(code), Unanswered::Refused(error)) if FULL.contains(&code) => {
                let why = error.to_string();
                let what = match why.contains("per subject") {
                    true => format!("{} in queue {}", message.subject, queue.name),
                    false => format!("queue {} ({why})", queue.name),
                };
                Err(Error::Full { what })
            }
            (Some(MESSAGE_TOO_LARGE), _) => {
                let limit = queue.max_message_bytes;
                Err(Error::TooLarge { what: "message", got: message.size(), limit })
            }
            (_, error) => Err(error.into_error(&message.subject)),
        }
    }

    /// Sends a request about a queue's stream.
    async fn ask_stream<T: serde::de::DeserializeOwned>(
        &self,
        verb: &str,
        queue: &QueueOptions,
        body: &serde_json::Value,
    ) -> Result<Option<T>, Error> {
        let stream = streams::stream_name(&queue.name);
        match self.0.asker.api(&format!("STREAM.{verb}.{stream}"), body).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code() == Some(NO_MESSAGE) => Ok(None),
            Err(error) if error.code() == Some(streams::STREAM_NOT_FOUND) => {
                Err(Error::NoQueue { subject: queue.filter.clone() })
            }
            Err(error) => Err(error.into_error(&stream)),
        }
    }
}

/// The headers of a message that is published to a queue.
fn storing(queue: &QueueOptions, message: &Message, id: &str) -> HeaderMap {
    let mut headers = to_nats(&message.headers);
    if queue.unique {
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    } else {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    }
    headers
}

/// The addresses without user names, passwords and tokens.
fn without_credentials(servers: &[&str]) -> String {
    let clean = |server: &&str| match (server.find("://"), server.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &server[..scheme + 3], &server[at + 1..])
        }
        (None, Some(at)) => server[at + 1..].to_owned(),
        _ => (*server).to_owned(),
    };
    servers.iter().map(clean).collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Bus for NatsBus {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        streams::declare(&self.0.asker, queue, self.0.replicas).await?;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let (ready, looked) =
            known.get(&queue.name).map_or((false, None), |known| (known.ready, known.looked));
        let declared = Known { options: Arc::new(queue.clone()), declared: true, ready, looked };
        known.insert(queue.name.clone(), declared);
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        match message.id() {
            Some(id) => self.store(&message, id).await,
            // The message has no id; a random one prevents retries from storing it twice.
            None => self.store(&message, &format!("once.{}", JobId::random())).await,
        }
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.check(&message)?;
        let headers = match (self.queue_of(&message.subject), message.id()) {
            (Ok(queue), Some(id)) => storing(&queue, &message, id),
            (Ok(queue), None) if queue.unique => storing(&queue, &message, ""),
            _ => to_nats(&message.headers),
        };
        let asker = &self.0.asker;
        let sending = asker.client.publish_with_headers(message.subject, headers, message.body);
        match timeout(asker.request_timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped("the connection to NATS")),
            Err(_) => Err(Error::Timeout(asker.request_timeout)),
        }
    }

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        pull::pull(self, queues).await
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        let ack = AckSubject::parse(handle)
            .ok_or(Error::Malformed { what: "delivery handle", expected: "$JS.ACK.…" })?;
        let queue = self.known(&ack.queue)?.options;
        queue.expect_subject(&message.subject)?;
        let attempt = ack.attempt;
        let settle = NatsSettle { bus: self.clone(), queue, ack, message: message.clone() };
        Ok(Delivery::new(message, attempt, settle))
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        let Some((headers, body)) = lookup::stored(self, subject).await? else {
            return Ok(None);
        };
        from_nats(subject, Some(&headers), body).map(Some).map_err(|(_, error)| error)
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        // Reading the message is cheaper: listing one subject costs the server more, the more subjects the stream
        // holds.
        lookup::stored(self, subject).await.map(|stored| stored.is_some())
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        lookup::subjects(self, filter).await
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        let queue = self.queue_of(filter)?;
        let body = json!({ "filter": filter });
        self.ask_stream::<serde::de::IgnoredAny>("PURGE", &queue, &body).await.map(drop)
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        watch::subscribe(&self.0.asker.client, filter).await
    }

    async fn request(&self, message: Message, wait: Duration) -> Result<Message, Error> {
        self.check(&message)?;
        let request = Request::new()
            .timeout(Some(wait))
            .headers(to_nats(&message.headers))
            .payload(message.body);
        let answer = self.0.asker.client.send_request(message.subject.clone(), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => Error::Timeout(wait),
            RequestErrorKind::NoResponders => {
                Error::NoResponders { subject: message.subject.clone() }
            }
            _ => Error::Stopped("the connection to NATS"),
        })?;
        // A status reply from the server (404, 408, 503) is not a response, even when it carries headers.
        if answer.status.is_some() {
            return Err(Error::NoResponders { subject: message.subject });
        }
        from_nats(&message.subject, answer.headers.as_ref(), answer.payload)
            .map_err(|(_, error)| error)
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        watch::serve(&self.0.asker.client, filter).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        let servers = ["nats://me:secret@host:4222", "token@host:1", "host:2"];
        assert_eq!(without_credentials(&servers), "nats://host:4222, host:1, host:2");
    }
}
