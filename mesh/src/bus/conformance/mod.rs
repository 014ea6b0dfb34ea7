//! The promises of [`super::Bus`], as code. Every implementation runs [`all`] in its tests.
//!
//! Queues are declared under fresh names, so that the suite can run against a shared server. Waits
//! are tokio's; on a paused clock the suite takes no time.

mod delivery;
mod requests;
mod storage;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::timeout;

use super::{BusHandle, Delivery, Overflow, Published, QueueOptions, Retention};
use crate::Message;

const ACK_WAIT: Duration = Duration::from_secs(3);
/// Long enough for a message that is there to arrive on the busiest machine. Where it must be the first
/// delivery, `attempt` says so.
const PROMPTLY: Duration = Duration::from_secs(60);
/// After this long without a message there is none.
const SOON: Duration = Duration::from_millis(500);

struct Bench {
    bus: BusHandle,
    run: String,
}

/// Runs every promise; panics at the first that is broken. `max_message` is the bus's own limit.
// Only for names that no earlier run used.
#[allow(clippy::disallowed_methods)]
pub async fn all(bus: BusHandle, max_message: usize) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = format!("{:x}", now.unwrap_or_default().as_nanos());
    let bench = Bench { bus, run };
    // No promise touches the queues of another, so that their waits need not add up.
    tokio::join!(
        bench.declares_once(),
        bench.delivers_in_order_to_one_consumer(),
        bench.deduplicates(),
        bench.redelivers_what_is_not_acknowledged(),
        bench.heartbeats_keep_a_delivery(),
        bench.hands_back_with_a_delay(),
        bench.buries_with_the_reason(),
        bench.pulls_from_the_first_queue_that_has_a_message(),
        bench.a_delivery_can_change_hands(),
        bench.takes_one_message_per_subject_where_they_are_unique(),
        bench.lets_one_of_many_publish_where_they_are_unique(),
        bench.refuses_when_full(),
        bench.refuses_when_a_subject_is_full(),
        bench.makes_room_where_it_may(),
        bench.refuses_what_no_queue_takes(),
        bench.refuses_what_is_too_large(max_message),
        bench.refuses_an_endless_id(),
        bench.a_dropped_pull_loses_nothing(),
        bench.forgets_what_is_too_old(),
        bench.keeps_the_last_per_subject(),
        bench.subscribers_see_what_is_published_and_emitted(),
        bench.a_slow_subscriber_slows_no_publisher(),
        bench.answers_requests(),
        bench.stores_objects(),
    );
}

impl Bench {
    fn queue(&self, name: &str) -> QueueOptions {
        QueueOptions {
            name: format!("{name}-{}", self.run),
            filter: format!("suite.{}.{name}.>", self.run),
            retention: Retention::WorkQueue,
            unique: false,
            ack_wait: ACK_WAIT,
            max_deliver: 3,
            max_messages: 4,
            max_per_subject: None,
            max_bytes: 1 << 20,
            max_message_bytes: 1 << 20,
            max_age: Some(Duration::from_secs(3600)),
            dedup_window: Duration::from_secs(60),
            overflow: Overflow::Refuse,
            direct: false,
        }
    }

    fn message(&self, name: &str, leaf: &str) -> Message {
        let subject = format!("suite.{}.{name}.{leaf}", self.run);
        Message::new(subject, Bytes::from(leaf.to_owned()))
    }

    async fn declared(&self, options: &QueueOptions) {
        self.bus.declare(options).await.expect("declares");
    }

    async fn publish(&self, message: Message) -> Published {
        self.bus.publish(message).await.expect("publishes")
    }

    async fn pull(&self, queue: &QueueOptions) -> Delivery {
        let pulled = timeout(PROMPTLY, self.bus.pull(&[&queue.name])).await;
        pulled.expect("a message is there").expect("pulls")
    }

    async fn count(&self, filter: &str) -> usize {
        let mut subjects = self.bus.subjects(filter).await.expect("lists");
        subjects.sort();
        subjects.dedup();
        subjects.len()
    }

    async fn assert_empty(&self, queue: &QueueOptions) {
        let pulled = timeout(SOON, self.bus.pull(&[&queue.name])).await;
        assert!(pulled.is_err(), "unexpected {pulled:?}");
    }
}
