//! Queues deliver each message at least once, until it is acknowledged or buried.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{ACK_WAIT, Bench, PROMPTLY, SOON};
use crate::Error;
use crate::bus::{DEAD_LETTERS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, Published, QueueOptions};

impl Bench {
    pub(super) async fn declares_once(&self) {
        let options = self.queue("declare");
        self.declared(&options).await;
        self.declared(&options).await;
        let other = QueueOptions { max_deliver: 7, ..options };
        let expected = Error::QueueMismatch {
            name: other.name.clone(),
            field: "max_deliver",
            found: "3".into(),
            expected: "7".into(),
        };
        assert_eq!(self.bus.declare(&other).await, Err(expected));
    }

    pub(super) async fn delivers_in_order_to_one_consumer(&self) {
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

    pub(super) async fn deduplicates(&self) {
        let queue = self.queue("dedup");
        self.declared(&queue).await;
        let message = self.message("dedup", "a").with_id("one");
        assert_eq!(self.publish(message.clone()).await, Published::Stored);
        assert_eq!(self.publish(message.clone()).await, Published::Duplicate);
        self.pull(&queue).await.ack().await.expect("acknowledges");
        assert_eq!(self.publish(message).await, Published::Duplicate);
        self.assert_empty(&queue).await;
    }

    pub(super) async fn redelivers_what_is_not_acknowledged(&self) {
        let queue = self.queue("redeliver");
        self.declared(&queue).await;
        self.publish(self.message("redeliver", "a")).await;
        drop(self.pull(&queue).await);
        self.assert_empty(&queue).await;
        sleep(ACK_WAIT).await;
        // More than 2 where the pull above was given up just as the message came to it.
        let again = self.pull(&queue).await;
        assert!(again.attempt >= 2, "{}", again.attempt);
        again.ack().await.expect("acknowledges");
    }

    pub(super) async fn heartbeats_keep_a_delivery(&self) {
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

    pub(super) async fn hands_back_with_a_delay(&self) {
        let queue = self.queue("nak");
        self.declared(&queue).await;
        self.publish(self.message("nak", "a")).await;
        let delivery = self.pull(&queue).await;
        delivery.nak(ACK_WAIT, "later").await.expect("hands back");
        self.assert_empty(&queue).await;
        sleep(ACK_WAIT - SOON).await;
        let again = self.pull(&queue).await;
        let second = again.attempt;
        assert!(second >= 2, "{second}");
        again.nak(Duration::ZERO, "now").await.expect("hands back");
        let again = self.pull(&queue).await;
        assert!(again.attempt > second, "{} after {second}", again.attempt);
        again.ack().await.expect("acknowledges");
    }

    pub(super) async fn buries_with_the_reason(&self) {
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
        let mut attempts = 0;
        while attempts < 3 {
            // On a busy machine one may have gone to an earlier pull, that was given up when it came.
            let delivery = self.pull(&queue).await;
            assert!(delivery.attempt > attempts, "{} after {attempts}", delivery.attempt);
            attempts = delivery.attempt;
            delivery.nak(Duration::ZERO, &format!("attempt {attempts}")).await.expect("nak");
        }
        self.assert_buried(&queue, "b", "attempt 3").await;

        // Never acknowledged.
        self.publish(self.message("dead", "c")).await;
        let mut deliveries = 0;
        while let Ok(delivery) = timeout(ACK_WAIT * 2, self.bus.pull(&[&queue.name])).await {
            drop(delivery.expect("pulls"));
            deliveries += 1;
        }
        // Fewer than 3 where a delivery went to a pull that was given up. More where a bus had to create the consumer
        // again, which starts its count anew.
        assert!((1..=2 * 3).contains(&deliveries), "{deliveries}");
        self.assert_buried(&queue, "c", "never acknowledged").await;
    }

    async fn assert_buried(&self, queue: &QueueOptions, leaf: &str, reason: &str) {
        let dead = timeout(PROMPTLY, self.bus.pull(&[DEAD_LETTERS])).await;
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

    pub(super) async fn pulls_from_the_first_queue_that_has_a_message(&self) {
        let queues = ["first", "second", "third"].map(|name| self.queue(name));
        for queue in &queues {
            self.declared(queue).await;
        }
        let names: Vec<&str> = queues.iter().map(|queue| &*queue.name).collect();
        for name in ["third", "second", "first", "third", "first"] {
            self.publish(self.message(name, "a")).await;
        }
        for expected in ["first", "first", "second", "third", "third"] {
            let pulled = timeout(PROMPTLY, self.bus.pull(&names)).await;
            let delivery = pulled.expect("a message is there").expect("pulls");
            assert_eq!(delivery.message.subject, self.message(expected, "a").subject);
            delivery.ack().await.expect("acknowledges");
        }
        // A message in any of the queues wakes a waiting pull.
        for name in ["third", "first", "second"] {
            let (waiting, ()) = tokio::join!(timeout(PROMPTLY, self.bus.pull(&names)), async {
                sleep(SOON / 5).await;
                self.publish(self.message(name, "b")).await;
            });
            let delivery = waiting.expect("woken by the publish").expect("pulls");
            assert_eq!(delivery.attempt, 1);
            delivery.ack().await.expect("acknowledges");
        }
    }

    pub(super) async fn a_delivery_can_change_hands(&self) {
        let queue = self.queue("hands");
        self.declared(&queue).await;
        self.publish(self.message("hands", "a")).await;
        let pulled = self.pull(&queue).await;
        // A handle is good for messages of its queue only.
        let other = self.bus.adopt(&pulled.handle(), self.message("other", "a")).await;
        assert!(matches!(other, Err(Error::Malformed { .. })), "{other:?}");
        let adopted = self.bus.adopt(&pulled.handle(), pulled.message.clone()).await;
        let adopted = adopted.expect("adopts");
        assert_eq!(adopted.message, pulled.message);
        drop(pulled);
        for _ in 0..3 {
            sleep(ACK_WAIT / 2).await;
            adopted.in_progress().await.expect("takes the heartbeat");
        }
        self.assert_empty(&queue).await;
        adopted.ack().await.expect("acknowledges");
        sleep(ACK_WAIT).await;
        self.assert_empty(&queue).await;
        let nonsense = self.bus.adopt("nonsense", self.message("hands", "a")).await;
        assert!(matches!(nonsense, Err(Error::Malformed { .. })), "{nonsense:?}");
    }

    pub(super) async fn a_dropped_pull_loses_nothing(&self) {
        let queue = self.queue("drop");
        self.declared(&queue).await;
        self.assert_empty(&queue).await;
        let queues = [&*queue.name];
        let (waiting, ()) = tokio::join!(timeout(PROMPTLY, self.bus.pull(&queues)), async {
            self.publish(self.message("drop", "a")).await;
        });
        let delivery = waiting.expect("woken by the publish").expect("pulls");
        delivery.ack().await.expect("acknowledges");
    }
}
