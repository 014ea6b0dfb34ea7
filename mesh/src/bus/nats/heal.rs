//! Messages that a consumer has lost sight of.
//!
//! A nats-server that is killed may forget the last acknowledgements' deletions, but not that they were
//! acknowledged: these messages stay in their work queue, delivered to nobody. (Release 2.9 loses sight
//! of others as well, when a stream is purged.) So who finds a queue quiet compares what the stream
//! holds with what its consumer knows of; where the one has messages and the other does not, a new
//! consumer is made, which starts from the beginning. Whoever pulls copes with repetitions anyway.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{NatsBus, ask::Unanswered, streams};
use crate::bus::{QueueOptions, Retention};

/// How often one process looks.
const INTERVAL: Duration = Duration::from_secs(20);
/// Between the two looks that must agree, since stream and consumer are not read at the same instant.
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

/// Looks after a queue in which nothing was to be had, now and then.
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
            tracing::warn!(queue = queue.name, "a consumer has lost messages; making a new one");
            let stream = streams::stream_name(&queue.name);
            let subject = format!("CONSUMER.DELETE.{stream}.{}", queue.name);
            // If this fails there will be another look.
            let _ = bus.0.asker.api::<serde::de::IgnoredAny>(&subject, &json!(null)).await;
            bus.remember(&queue.name, |known| known.ready = false);
        }
        Err(error) => tracing::debug!(queue = queue.name, ?error, "could not look"),
    }
}

/// Whether the stream holds messages that its consumer neither has delivered nor is going to.
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
