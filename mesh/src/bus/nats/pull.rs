//! Waiting for the next message of several queues.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subscriber, jetstream::AckKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::{
    NatsBus,
    ask::Pause,
    convert::from_nats,
    heal,
    settle::{AckSubject, NatsSettle},
    streams,
};
use crate::{
    Error,
    bus::{Delivery, QueueOptions},
};

/// For how long, at most, the server keeps a request that it has no message for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// How much later its word that it has none may come.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a server may take to say that it has no message now. It never says so if another asker was
/// faster to take the last one.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a request for messages led to.
enum Asked {
    Message(Box<async_nats::Message>),
    /// There is none.
    Nothing,
    /// The connection was made again, and the server has forgotten the request.
    Reconnected,
    /// Something is wrong with a consumer, or nothing was heard.
    Lost(String),
}

pub(super) async fn pull(bus: &NatsBus, queues: &[&str]) -> Result<Delivery, Error> {
    let mut pause = Pause::new();
    loop {
        let asked = match ready(bus, queues).await {
            Ok(queues) => next(bus, &queues).await,
            // The server is away; what else may be wrong is for the caller to know.
            Err(Error::Timeout(_)) => Asked::Lost("no answer".into()),
            Err(error) => return Err(error),
        };
        match asked {
            Asked::Message(message) => {
                if let Some(delivery) = receive(bus, *message).await {
                    return Ok(delivery);
                }
            }
            Asked::Nothing => {
                pause = Pause::new();
                for queue in queues {
                    if let Ok(known) = bus.known(queue) {
                        heal::look_after(bus, &known.options).await;
                    }
                }
            }
            Asked::Reconnected => pause = Pause::new(),
            Asked::Lost(why) => {
                tracing::warn!(?queues, why, "no messages; looking at the consumers again");
                for queue in queues {
                    bus.remember(queue, |known| known.ready = false);
                }
                pause.wait().await;
            }
        }
    }
}

/// The queues' options, once their consumers are there.
async fn ready(bus: &NatsBus, queues: &[&str]) -> Result<Vec<Arc<QueueOptions>>, Error> {
    let mut ready = Vec::with_capacity(queues.len());
    for name in queues {
        let known = bus.known(name)?;
        if !known.ready {
            let asker = &bus.0.asker;
            match streams::declare_consumer(asker, &known.options).await {
                Err(Error::NoQueue { .. }) if known.declared => {
                    tracing::warn!(queue = name, "the stream is gone; creating it again");
                    streams::declare(asker, &known.options, bus.0.replicas).await?;
                    streams::declare_consumer(asker, &known.options).await?;
                }
                other => other?,
            }
            bus.remember(name, |known| known.ready = true);
        }
        ready.push(known.options);
    }
    Ok(ready)
}

async fn next(bus: &NatsBus, queues: &[Arc<QueueOptions>]) -> Asked {
    if queues.len() > 1 {
        for queue in queues {
            match ask(bus, std::slice::from_ref(queue), None).await {
                Asked::Nothing => {}
                asked => return asked,
            }
        }
    }
    // Early releases of nats-server 2.9 miscount a redelivery that meets only requests whose asker is
    // gone, so requests expire before what was delivered in their time comes again.
    let ack_wait = queues.iter().map(|queue| queue.ack_wait).min().unwrap_or_default();
    ask(bus, queues, Some((ack_wait / 2).clamp(SHORTEST_WAIT, LONGEST_WAIT))).await
}

/// Asks all queues for one message, and takes the first answer. Without `expires`, who has no message
/// says so at once.
async fn ask(bus: &NatsBus, queues: &[Arc<QueueOptions>], expires: Option<Duration>) -> Asked {
    let asker = &bus.0.asker;
    let mut connections = asker.connections();
    if !asker.connected() {
        let _ = timeout(LONGEST_WAIT, connections.changed()).await;
    }
    let asking = async {
        let mut waiting = Waiting::begin(&asker.client).await?;
        let body = match expires {
            Some(expires) => format!(r#"{{"batch":1,"expires":{}}}"#, expires.as_nanos()),
            None => r#"{"batch":1,"no_wait":true}"#.to_owned(),
        };
        for queue in queues {
            let stream = streams::stream_name(&queue.name);
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", queue.name);
            let (inbox, body) = (waiting.inbox.clone(), body.clone().into());
            asker.client.publish_with_reply(subject, inbox, body).await.ok()?;
        }
        waiting.replies.next().await
    };
    let patience = expires.map_or(AT_ONCE, |expires| expires + SILENCE);
    tokio::select! {
        reply = timeout(patience, asking) => match reply {
            Ok(Some(reply)) => judge(reply),
            Ok(None) => Asked::Lost("the connection is closed".into()),
            Err(_) if expires.is_none() => Asked::Nothing,
            Err(_) => Asked::Lost("nothing was heard".into()),
        },
        _ = connections.changed() => Asked::Reconnected,
    }
}

fn judge(reply: async_nats::Message) -> Asked {
    match reply.status.map(|status| status.as_u16()) {
        None if reply.reply.is_some() => Asked::Message(Box::new(reply)),
        // No messages, and none until the request expired.
        Some(404 | 408) => Asked::Nothing,
        status => {
            let description = reply.description.unwrap_or_default();
            Asked::Lost(format!("status {} {description}", status.unwrap_or_default()))
        }
    }
}

/// A subject that takes one message. The server forgets it with the first, and with it the requests to
/// the other queues; what one of them sends all the same, the server sees undelivered and gives to
/// the next who asks. (In a cluster, if the other queue's leader is on another server, only after
/// `ack_wait`.)
struct Waiting {
    client: Client,
    inbox: String,
    replies: Subscriber,
}

impl Waiting {
    async fn begin(client: &Client) -> Option<Self> {
        let (client, inbox) = (client.clone(), client.new_inbox());
        let mut replies = client.subscribe(inbox.clone()).await.ok()?;
        replies.unsubscribe_after(1).await.ok()?;
        Some(Self { client, inbox, replies })
    }
}

/// Who stops waiting gives back what has come in the meantime.
impl Drop for Waiting {
    fn drop(&mut self) {
        let come = self.replies.next().now_or_never().flatten();
        let unwanted = come.filter(|message| message.status.is_none());
        if let Some(ack) = unwanted.and_then(|message| message.reply)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let client = self.client.clone();
            runtime.spawn(async move { client.publish(ack, AckKind::Nak(None).into()).await });
        }
    }
}

/// The delivery, unless the message is one to be buried.
async fn receive(bus: &NatsBus, received: async_nats::Message) -> Option<Delivery> {
    let ack = received.reply.as_deref().and_then(AckSubject::parse);
    let known = ack.as_ref().and_then(|ack| bus.known(&ack.queue).ok());
    let (Some(ack), Some(known)) = (ack, known) else {
        tracing::warn!(subject = %received.subject, "a message that is no delivery");
        return None;
    };
    let queue = known.options;
    let read = from_nats(&received.subject, received.headers.as_ref(), received.payload);
    let (message, unreadable) = match read {
        Ok(message) => (message, None),
        Err((message, error)) => (message, Some(error.to_string())),
    };
    let attempt = ack.attempt;
    let (max_deliver, ack_wait) = (queue.max_deliver, queue.ack_wait);
    let settle = NatsSettle { bus: bus.clone(), queue, ack, message: message.clone() };
    let spent = (attempt > max_deliver)
        .then(|| format!("delivered {max_deliver} times, never acknowledged within {ack_wait:?}"));
    match unreadable.or(spent) {
        None => Some(Delivery::new(message, attempt, settle)),
        Some(reason) => {
            if let Err(error) = settle.bury(&reason).await {
                tracing::warn!(%error, "not buried yet");
            }
            None
        }
    }
}
