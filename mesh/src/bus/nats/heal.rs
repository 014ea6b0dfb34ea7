//! Recovery of messages that a consumer no longer delivers.
//!
//! A nats-server that is killed may lose the deletion of the last acknowledged messages while remembering their
//! acknowledgement: these messages stay in their work queue and are never delivered. (Release 2.9 also loses messages
//! when a stream is purged.) A process that finds a queue empty therefore compares the messages in the stream with
//! those its consumer knows. If the stream has messages that the consumer does not know, the consumer is deleted and
//! created again, and starts from the beginning. Some messages are then delivered twice, which every puller must handle
//! anyway.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{NatsBus, ask::Unanswered, streams};
use crate::bus::{QueueOptions, Retention};

/// Interval between checks by one process.
const INTERVAL: Duration = Duration::from_secs(20);
/// Time between the two checks that must agree; stream and consumer are not read at the same instant.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Stream {
    state: StreamState,
}

#[derive(Deserialize, PartialEq, Eq)]
struct StreamState {
    messages: u64,
    last_seq: u64,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Consumer {
    delivered: Delivered,
    num_pending: u64,
    num_ack_pending: u64,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Delivered {
    consumer_seq: u64,
}

/// Checks an empty queue at most once per [`INTERVAL`].
pub(super) async fn look_after(bus: &NatsBus, queue: &QueueOptions) {
    if queue.retention != Retention::WorkQueue {
        return;
    }
    let mut due = false;
    bus.remember(&queue.name, |known| {
        let now = Instant::now();
        due = known.looked.is_none_or(|looked| looked + INTERVAL <= now);
        if due {
            known.looked = Some(now);
        }
    });
    if !due {
        return;
    }
    match lost(bus, queue).await {
        Ok(false) => {}
        Ok(true) => {
            tracing::warn!(queue = queue.name, "a consumer has lost messages; creating a new one");
            let stream = streams::stream_name(&queue.name);
            let subject = format!("CONSUMER.DELETE.{stream}.{}", queue.name);
            // If this fails, a later check tries again.
            let _ = bus.0.asker.api::<serde::de::IgnoredAny>(&subject, &json!(null)).await;
            bus.remember(&queue.name, |known| known.ready = false);
        }
        Err(error) => tracing::debug!(queue = queue.name, ?error, "could not check a queue"),
    }
}

/// Whether the stream holds messages that its consumer has not delivered and will not deliver.
async fn lost(bus: &NatsBus, queue: &QueueOptions) -> Result<bool, Unanswered> {
    let first = state(bus, queue).await?;
    let (stream, consumer) = &first;
    if stream.messages <= consumer.num_pending.saturating_add(consumer.num_ack_pending) {
        return Ok(false);
    }
    sleep(AGAIN).await;
    Ok(state(bus, queue).await? == first)
}

async fn state(bus: &NatsBus, queue: &QueueOptions) -> Result<(StreamState, Consumer), Unanswered> {
    let (asker, stream) = (&bus.0.asker, streams::stream_name(&queue.name));
    let consumer = format!("CONSUMER.INFO.{stream}.{}", queue.name);
    let consumer: Consumer = asker.api(&consumer, &json!(null)).await?;
    let stream: Stream = asker.api(&format!("STREAM.INFO.{stream}"), &json!(null)).await?;
    Ok((stream.state, consumer))
}
