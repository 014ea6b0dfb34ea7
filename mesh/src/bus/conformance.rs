//! The promises of [`super::Bus`], as code. Every implementation runs [`all`] in its tests.
//!
//! Queues are declared under fresh names, so that the suite can run against a shared server. Waits
//! are tokio's; on a paused clock the suite takes no time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    Bucket, BusHandle, DEAD_LETTERS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, Delivery, Overflow,
    Published, QueueOptions, Retention,
};
use crate::{Digest, Error, Message};

const ACK_WAIT: Duration = Duration::from_secs(2);
/// Long enough for a message that is there to arrive; short enough not to meet `ACK_WAIT`.
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
    bench.declares_once().await;
    bench.delivers_in_order_to_one_consumer().await;
    bench.deduplicates().await;
    bench.redelivers_what_is_not_acknowledged().await;
    bench.heartbeats_keep_a_delivery().await;
    bench.hands_back_with_a_delay().await;
    bench.buries_with_the_reason().await;
    bench.refuses_when_full().await;
    bench.makes_room_where_it_may().await;
    bench.refuses_what_no_queue_takes().await;
    bench.refuses_what_is_too_large(max_message).await;
    bench.refuses_an_endless_id().await;
    bench.a_dropped_pull_loses_nothing().await;
    bench.forgets_what_is_too_old().await;
    bench.keeps_the_last_per_subject().await;
    bench.subscribers_see_what_is_published_and_emitted().await;
    bench.a_slow_subscriber_slows_nobody().await;
    bench.answers_requests().await;
    bench.stores_objects().await;
}

impl Bench {
    fn queue(&self, name: &str) -> QueueOptions {
        QueueOptions {
            name: format!("{name}-{}", self.run),
            filter: format!("suite.{}.{name}.>", self.run),
            retention: Retention::WorkQueue,
            ack_wait: ACK_WAIT,
            max_deliver: 3,
            max_messages: 4,
            max_bytes: 1 << 20,
            max_age: Duration::from_secs(3600),
            dedup_window: Duration::from_secs(60),
            overflow: Overflow::Refuse,
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
        let pulled = timeout(SOON, self.bus.pull(&queue.name)).await;
        pulled.expect("a message is there").expect("pulls")
    }

    async fn assert_empty(&self, queue: &QueueOptions) {
        let pulled = timeout(SOON, self.bus.pull(&queue.name)).await;
        assert!(pulled.is_err(), "unexpected {pulled:?}");
    }

    async fn declares_once(&self) {
        let options = self.queue("declare");
        self.declared(&options).await;
        self.declared(&options).await;
        let other = QueueOptions { max_deliver: 7, ..options };
        let expected = Error::QueueMismatch { name: other.name.clone(), field: "max_deliver" };
        assert_eq!(self.bus.declare(&other).await, Err(expected));
    }

    async fn delivers_in_order_to_one_consumer(&self) {
        let queue = self.queue("order");
        self.declared(&queue).await;
        for leaf in ["a", "b", "c"] {
            self.publish(self.message("order", leaf)).await;
        }
        let (first, second, third) =
            (self.pull(&queue).await, self.pull(&queue).await, self.pull(&queue).await);
        for (delivery, leaf) in [(first, "a"), (second, "b"), (third, "c")] {
            assert_eq!(delivery.message, self.message("order", leaf));
            assert_eq!(delivery.attempt, 1);
            delivery.ack().await.expect("acknowledges");
        }
        sleep(ACK_WAIT).await;
        self.assert_empty(&queue).await;
    }

    async fn deduplicates(&self) {
        let queue = self.queue("dedup");
        self.declared(&queue).await;
        let message = self.message("dedup", "a").with_id("one");
        assert_eq!(self.publish(message.clone()).await, Published::Stored);
        assert_eq!(self.publish(message.clone()).await, Published::Duplicate);
        self.pull(&queue).await.ack().await.expect("acknowledges");
        assert_eq!(self.publish(message).await, Published::Duplicate);
        self.assert_empty(&queue).await;
    }

    async fn redelivers_what_is_not_acknowledged(&self) {
        let queue = self.queue("redeliver");
        self.declared(&queue).await;
        self.publish(self.message("redeliver", "a")).await;
        drop(self.pull(&queue).await);
        self.assert_empty(&queue).await;
        sleep(ACK_WAIT).await;
        let again = self.pull(&queue).await;
        assert_eq!(again.attempt, 2);
        again.ack().await.expect("acknowledges");
    }

    async fn heartbeats_keep_a_delivery(&self) {
        let queue = self.queue("heartbeat");
        self.declared(&queue).await;
        self.publish(self.message("heartbeat", "a")).await;
        let delivery = self.pull(&queue).await;
        for _ in 0..4 {
            sleep(ACK_WAIT / 2).await;
            delivery.in_progress().await.expect("takes the heartbeat");
        }
        self.assert_empty(&queue).await;
        delivery.ack().await.expect("acknowledges");
        sleep(ACK_WAIT).await;
        self.assert_empty(&queue).await;
    }

    async fn hands_back_with_a_delay(&self) {
        let queue = self.queue("nak");
        self.declared(&queue).await;
        self.publish(self.message("nak", "a")).await;
        let delivery = self.pull(&queue).await;
        delivery.nak(SOON * 2, "later").await.expect("hands back");
        self.assert_empty(&queue).await;
        sleep(SOON).await;
        let again = self.pull(&queue).await;
        assert_eq!(again.attempt, 2);
        again.nak(Duration::ZERO, "now").await.expect("hands back");
        let again = self.pull(&queue).await;
        assert_eq!(again.attempt, 3);
        again.ack().await.expect("acknowledges");
    }

    async fn buries_with_the_reason(&self) {
        let dead = crate::topology::queues().into_iter().find(|queue| queue.name == DEAD_LETTERS);
        self.declared(&dead.expect("the topology has one")).await;
        let queue = self.queue("dead");
        self.declared(&queue).await;

        // Rejected at once.
        self.publish(self.message("dead", "a")).await;
        let rejected = self.pull(&queue).await;
        rejected.reject("cannot read it").await.expect("rejects");
        self.assert_buried(&queue, "a", "cannot read it").await;

        // Handed back too often: the last reason counts.
        self.publish(self.message("dead", "b")).await;
        for attempt in 1..=3 {
            let delivery = self.pull(&queue).await;
            assert_eq!(delivery.attempt, attempt);
            let reason = format!("attempt {attempt}");
            delivery.nak(Duration::ZERO, &reason).await.expect("nak");
        }
        self.assert_buried(&queue, "b", "attempt 3").await;

        // Never acknowledged.
        self.publish(self.message("dead", "c")).await;
        for _ in 1..=3 {
            drop(self.pull(&queue).await);
            sleep(ACK_WAIT).await;
        }
        self.assert_empty(&queue).await;
        self.assert_buried(&queue, "c", "never acknowledged").await;
    }

    async fn assert_buried(&self, queue: &QueueOptions, leaf: &str, reason: &str) {
        let dead = timeout(SOON, self.bus.pull(DEAD_LETTERS)).await;
        let dead = dead.expect("a dead letter is there").expect("pulls");
        let original = self.message("dead", leaf);
        let header = |name| dead.message.headers.get(name).unwrap_or_default();
        assert_eq!(dead.message.body, original.body);
        assert_eq!(header(DEAD_QUEUE), queue.name);
        assert_eq!(header(DEAD_SUBJECT), original.subject);
        assert!(header(DEAD_REASON).contains(reason), "{}", header(DEAD_REASON));
        dead.ack().await.expect("acknowledges");
        self.assert_empty(queue).await;
    }

    async fn refuses_when_full(&self) {
        let queue = self.queue("full");
        self.declared(&queue).await;
        for leaf in ["a", "b", "c", "d"] {
            self.publish(self.message("full", leaf)).await;
        }
        let fifth = self.message("full", "e").with_id("fifth");
        let refused = self.bus.publish(fifth.clone()).await;
        assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
        self.pull(&queue).await.ack().await.expect("acknowledges");
        assert_eq!(self.publish(fifth).await, Published::Stored);
    }

    async fn makes_room_where_it_may(&self) {
        let queue = QueueOptions {
            retention: Retention::LastPerSubject,
            overflow: Overflow::DiscardOldest,
            ..self.queue("overflow")
        };
        self.declared(&queue).await;
        for leaf in ["a", "b", "c", "d", "e"] {
            self.publish(self.message("overflow", leaf)).await;
        }
        let last = |leaf| self.message("overflow", leaf);
        assert_eq!(self.bus.last(&last("a").subject).await, Ok(None));
        for leaf in ["b", "e"] {
            assert_eq!(self.bus.last(&last(leaf).subject).await, Ok(Some(last(leaf))));
        }
        assert_eq!(self.bus.count(&last(">").subject).await, Ok(4));
    }

    async fn refuses_an_endless_id(&self) {
        let message = self.message("large", "a").with_id("x".repeat(257));
        let refused = self.bus.publish(message).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }

    async fn refuses_what_no_queue_takes(&self) {
        let refused = self.bus.publish(self.message("nowhere", "a")).await;
        assert!(matches!(refused, Err(Error::NoQueue { .. })), "{refused:?}");
    }

    async fn refuses_what_is_too_large(&self, max_message: usize) {
        let queue = self.queue("large");
        self.declared(&queue).await;
        let mut message = self.message("large", "a");
        message.body = vec![0; max_message + 1].into();
        let refused = self.bus.publish(message).await;
        let too_large = matches!(refused, Err(Error::TooLarge { .. }));
        assert!(too_large, "{refused:?}");
    }

    async fn a_dropped_pull_loses_nothing(&self) {
        let queue = self.queue("drop");
        self.declared(&queue).await;
        self.assert_empty(&queue).await;
        let (waiting, ()) = tokio::join!(timeout(SOON, self.bus.pull(&queue.name)), async {
            self.publish(self.message("drop", "a")).await;
        });
        let delivery = waiting.expect("woken by the publish").expect("pulls");
        delivery.ack().await.expect("acknowledges");
    }

    async fn forgets_what_is_too_old(&self) {
        let queue = QueueOptions { max_age: SOON, ..self.queue("age") };
        self.declared(&queue).await;
        self.publish(self.message("age", "a")).await;
        sleep(SOON * 2).await;
        self.assert_empty(&queue).await;

        // Nor is it there for readers.
        let retention = Retention::LastPerSubject;
        let queue = QueueOptions { max_age: SOON, retention, ..self.queue("aged") };
        self.declared(&queue).await;
        let message = self.message("aged", "a");
        self.publish(message.clone()).await;
        assert_eq!(self.bus.count(&message.subject).await, Ok(1));
        sleep(SOON * 2).await;
        assert_eq!(self.bus.last(&message.subject).await, Ok(None));
        assert_eq!(self.bus.count(&message.subject).await, Ok(0));
    }

    async fn keeps_the_last_per_subject(&self) {
        let queue = QueueOptions { retention: Retention::LastPerSubject, ..self.queue("last") };
        self.declared(&queue).await;
        let mut newer = self.message("last", "x.1");
        newer.body = "newer".into();
        for message in [
            self.message("last", "x.0"),
            self.message("last", "x.1"),
            newer.clone(),
            self.message("last", "y.0"),
        ] {
            self.publish(message).await;
        }
        let filter = |f: &str| self.message("last", f).subject;
        assert_eq!(self.bus.count(&filter("x.*")).await, Ok(2));
        assert_eq!(self.bus.count(&filter(">")).await, Ok(3));
        // Acknowledging does not delete here.
        for _ in 0..3 {
            self.pull(&queue).await.ack().await.expect("acknowledges");
        }
        self.assert_empty(&queue).await;
        assert_eq!(self.bus.last(&newer.subject).await, Ok(Some(newer.clone())));
        self.bus.purge(&filter("x.>")).await.expect("purges");
        assert_eq!(self.bus.last(&newer.subject).await, Ok(None));
        assert_eq!(self.bus.count(&filter(">")).await, Ok(1));
    }

    async fn subscribers_see_what_is_published_and_emitted(&self) {
        self.declared(&self.queue("watch")).await;
        let filter = self.message("watch", ">").subject;
        let mut one = self.bus.subscribe(&filter).await.expect("subscribes");
        let mut two = self.bus.subscribe(&filter).await.expect("subscribes");
        let stored = self.message("watch", "a").with_id("watched");
        self.publish(stored.clone()).await;
        self.publish(stored.clone()).await;
        let emitted = self.message("watch", "b");
        let sent = self.bus.emit(emitted.clone()).await;
        sent.expect("emits");
        for subscription in [&mut one, &mut two] {
            for expected in [&stored, &emitted] {
                let seen = timeout(SOON, subscription.next()).await;
                assert_eq!(seen.ok().flatten().as_ref(), Some(expected));
            }
        }
    }

    async fn a_slow_subscriber_slows_nobody(&self) {
        let message = self.message("slow", "a");
        let slow = self.bus.subscribe(&message.subject).await;
        for _ in 0..10_000 {
            let emitted = timeout(SOON, self.bus.emit(message.clone())).await;
            emitted.expect("does not wait").expect("emits");
        }
        drop(slow);
    }

    async fn answers_requests(&self) {
        let question = self.message("ask", "a");
        let nobody = self.bus.request(question.clone(), SOON).await;
        assert!(matches!(nobody, Err(Error::NoResponders { .. })), "{nobody:?}");
        let filter = self.message("ask", ">").subject;
        let mut requests = self.bus.serve(&filter).await.expect("serves");

        let answering = async {
            let request = requests.next().await.expect("a request");
            assert_eq!(request.message.body, question.body);
            let reply = Message::new("ignored", "the answer").with_id("reply");
            request.reply(reply).await.expect("replies");
        };
        let asking = self.bus.request(question.clone(), SOON);
        let (answer, ()) = tokio::join!(asking, answering);
        let answer = answer.expect("answered");
        assert_eq!(answer.body, "the answer");
        assert_eq!(answer.id(), Some("reply"));

        // Nobody looks at this one in time.
        let late = self.bus.request(question, SOON).await;
        assert_eq!(late, Err(Error::Timeout(SOON)));
    }

    async fn stores_objects(&self) {
        let bytes = Bytes::from(self.run.repeat(100_000));
        let put = self.bus.put(Bucket::Uploads, bytes.clone()).await;
        let digest = put.expect("stores");
        assert_eq!(digest, Digest::of(&bytes));
        let again = self.bus.put(Bucket::Uploads, bytes.clone()).await;
        assert_eq!(again, Ok(digest));
        let get = |bucket, limit| self.bus.get(bucket, digest, limit);
        assert_eq!(get(Bucket::Uploads, bytes.len()).await, Ok(bytes.clone()));
        let small = get(Bucket::Uploads, bytes.len() - 1).await;
        assert!(matches!(small, Err(Error::TooLarge { .. })), "{small:?}");
        let elsewhere = get(Bucket::Keys, usize::MAX).await;
        assert!(matches!(elsewhere, Err(Error::NoObject { .. })));
        let delete = || self.bus.delete(Bucket::Uploads, digest);
        assert_eq!(delete().await, Ok(()));
        assert_eq!(delete().await, Ok(()));
        let gone = get(Bucket::Uploads, usize::MAX).await;
        assert!(matches!(gone, Err(Error::NoObject { .. })));
    }
}
