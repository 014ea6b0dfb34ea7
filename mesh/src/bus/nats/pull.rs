//! Waiting for the next message from several queues.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Subscriber, jetstream::AckKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
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

/// The longest time the server keeps a request for which it has no message.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// How much later the server's "no message" status may arrive.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the server looks for a message that is already there. A request could make it look only once, but releases
/// 2.9 then rely on their count of waiting messages, which may be wrong after a redelivery.
const LOOK: Duration = Duration::from_millis(5);
/// How much later the "no message" status may arrive. It never arrives if a message appears just when the request
/// expires.
const AT_ONCE: Duration = Duration::from_millis(200);
/// How long a late message may take to reach a request that has been dropped.
const LATE: Duration = Duration::from_secs(5);
/// One in this many pulls starts with a queue other than the first, so that no queue starves.
const STRICT: usize = 8;

/// The result of a request for messages.
enum Asked {
    Message(Box<async_nats::Message>),
    /// No message is available.
    Nothing,
    /// The connection was re-established; the server has forgotten the request.
    Reconnected,
    /// A consumer has a problem, or there was no reply.
    Lost(String),
}

pub(super) async fn pull(bus: &NatsBus, queues: &[&str]) -> Result<Delivery, Error> {
    let mut pause = Pause::new();
    loop {
        let asked = match ready(bus, queues).await {
            Ok(queues) => next(bus, &queues).await,
            // The server is unreachable. Other errors are returned to the caller.
            Err(Error::Timeout(_)) => Asked::Lost("no answer".into()),
            Err(error) => return Err(error),
        };
        match asked {
            Asked::Message(message) => {
                if let Some(delivery) = receive(bus, *message).await {
                    return Ok(delivery);
                }
            }
            Asked::Nothing | Asked::Reconnected => pause = Pause::new(),
            Asked::Lost(why) => {
                tracing::warn!(?queues, why, "cannot receive messages; checking the consumers");
                for queue in queues {
                    bus.remember(queue, |known| known.ready = false);
                }
                pause.wait().await;
            }
        }
    }
}

/// Creates the queues' consumers where necessary, and returns the queues' options.
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
        let turn = bus.0.turns.fetch_add(1, Ordering::Relaxed);
        // Release 2.9 may wrongly report an empty queue; a request that waits a little makes it look properly. Doing
        // this for every empty queue in every pull would be too slow.
        let patience = if turn.is_multiple_of(STRICT) { Patience::Look } else { Patience::Glance };
        for queue in queues.iter().cycle().skip(first(turn, queues.len())).take(queues.len()) {
            match ask(bus, std::slice::from_ref(queue), patience).await {
                Asked::Nothing => heal::look_after(bus, queue).await,
                asked => return asked,
            }
        }
    }
    // Early releases of nats-server 2.9 miscount a redelivery that meets only requests whose client is gone. A request
    // therefore expires before a message delivered during its lifetime is due for redelivery.
    let ack_wait = queues.iter().map(|queue| queue.ack_wait).min().unwrap_or_default();
    let expires = (ack_wait / 2).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    let asked = ask(bus, queues, Patience::Wait(expires)).await;
    if let (Asked::Nothing, [queue]) = (&asked, queues) {
        heal::look_after(bus, queue).await;
    }
    asked
}

/// Index of the queue with which a pull starts.
fn first(turn: usize, queues: usize) -> usize {
    let (round, place) = (turn / STRICT, turn % STRICT);
    if place + 1 == STRICT { 1 + round % (queues - 1) } else { 0 }
}

/// What the server does when it has no message.
#[derive(Clone, Copy)]
enum Patience {
    /// Replies immediately.
    Glance,
    /// Looks again, then replies.
    Look,
    /// Waits this long for a message.
    Wait(Duration),
}

impl Patience {
    fn request(self) -> String {
        match self {
            Self::Glance => r#"{"batch":1,"no_wait":true}"#.to_owned(),
            Self::Look => {
                format!(r#"{{"batch":1,"no_wait":true,"expires":{}}}"#, LOOK.as_nanos())
            }
            Self::Wait(expires) => format!(r#"{{"batch":1,"expires":{}}}"#, expires.as_nanos()),
        }
    }

    /// The time within which a reply arrives.
    fn ends(self) -> Duration {
        match self {
            Self::Glance => AT_ONCE,
            Self::Look => LOOK + AT_ONCE,
            Self::Wait(expires) => expires + SILENCE,
        }
    }
}

/// Asks all queues for one message and takes the first reply.
async fn ask(bus: &NatsBus, queues: &[Arc<QueueOptions>], patience: Patience) -> Asked {
    let asker = &bus.0.asker;
    let mut connections = asker.connections();
    if !asker.connected() {
        let _ = timeout(LONGEST_WAIT, connections.changed()).await;
    }
    let asking = async {
        let mut waiting = Waiting::begin(&asker.client).await?;
        for queue in queues {
            let stream = streams::stream_name(&queue.name);
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", queue.name);
            let (inbox, body) = (waiting.inbox.clone(), patience.request().into());
            asker.client.publish_with_reply(subject, inbox, body).await.ok()?;
        }
        waiting.reply().await
    };
    tokio::select! {
        reply = timeout(patience.ends(), asking) => match (reply, patience) {
            (Ok(Some(reply)), _) => judge(reply),
            (Ok(None), _) => Asked::Lost("the connection is closed".into()),
            (Err(_), Patience::Glance | Patience::Look) => Asked::Nothing,
            (Err(_), Patience::Wait(_)) => Asked::Lost("no reply".into()),
        },
        _ = connections.changed() => Asked::Reconnected,
    }
}

fn judge(reply: async_nats::Message) -> Asked {
    match reply.status.map(|status| status.as_u16()) {
        None if reply.reply.is_some() => Asked::Message(Box::new(reply)),
        // No message now (404), or none before the request expired (408).
        Some(404 | 408) => Asked::Nothing,
        status => {
            let description = reply.description.unwrap_or_default();
            Asked::Lost(format!("status {} {description}", status.unwrap_or_default()))
        }
    }
}

/// A reply subject that takes one message. After the first message the server drops the subscription, and with it the
/// requests to the other queues. A message that another queue still sends cannot be delivered, and the server gives it
/// to the next request. (In a cluster, if that queue's leader is on another server, this happens only after
/// `ack_wait`.)
struct Waiting {
    client: Client,
    inbox: String,
    /// `None` once the reply has arrived.
    replies: Option<Subscriber>,
}

impl Waiting {
    async fn begin(client: &Client) -> Option<Self> {
        let (client, inbox) = (client.clone(), client.new_inbox());
        let mut replies = client.subscribe(inbox.clone()).await.ok()?;
        replies.unsubscribe_after(1).await.ok()?;
        Some(Self { client, inbox, replies: Some(replies) })
    }

    async fn reply(&mut self) -> Option<async_nats::Message> {
        let reply = self.replies.as_mut()?.next().await;
        self.replies = None;
        reply
    }
}

/// A dropped waiter publishes the one allowed message to its own subject, so the server knows at once that it no longer
/// waits. If a delivery arrives first, it is handed back.
impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut replies) = self.replies.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (client, inbox) = (self.client.clone(), std::mem::take(&mut self.inbox));
        runtime.spawn(async move {
            let _ = client.publish(inbox, Bytes::new()).await;
            let Ok(Some(late)) = timeout(LATE, replies.next()).await else {
                return;
            };
            if let (None, Some(ack)) = (late.status, late.reply) {
                let _ = client.publish(ack, AckKind::Nak(None).into()).await;
            }
        });
    }
}

/// Makes a delivery, or buries the message if it is unreadable or has exhausted its deliveries.
async fn receive(bus: &NatsBus, received: async_nats::Message) -> Option<Delivery> {
    let ack = received.reply.as_deref().and_then(AckSubject::parse);
    let known = ack.as_ref().and_then(|ack| bus.known(&ack.queue).ok());
    let (Some(ack), Some(known)) = (ack, known) else {
        tracing::warn!(subject = %received.subject, "ignoring a message that is not a delivery");
        return None;
    };
    let queue = known.options;
    if queue.expect_subject(&received.subject).is_err() {
        tracing::warn!(subject = %received.subject, queue = queue.name, "ignoring a message of another queue");
        return None;
    }
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
                tracing::warn!(%error, "could not store a dead letter; the message will be delivered again");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_queue_starves() {
        let firsts: Vec<usize> = (0..3 * STRICT).map(|turn| first(turn, 3)).collect();
        let others: Vec<usize> = firsts.iter().copied().filter(|first| *first > 0).collect();
        assert_eq!((others, firsts[STRICT - 1]), (vec![1, 2, 1], 1));
        assert!((0..4 * STRICT).all(|turn| first(turn, 2) < 2));
    }
}
