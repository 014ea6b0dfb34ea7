//! The promises of [`super::Bus`], as code. Every implementation runs [`all`] in its tests.
//!
//! Queues are declared under fresh names, so that the suite can run against a shared server. Waits
//! are tokio's; on a paused clock the suite takes no time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    BusHandle, DEAD_LETTERS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, Delivery, Overflow, Published,
    QueueOptions, Retention,
};
use crate::{
    Digest, Error, Message,
    objects::{self, Bucket, PART_BYTES},
};

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
        bench.a_slow_subscriber_slows_nobody(),
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

    async fn declares_once(&self) {
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
        // More than 2 where the pull above was given up just as the message came to it.
        let again = self.pull(&queue).await;
        assert!(again.attempt >= 2, "{}", again.attempt);
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

    async fn pulls_from_the_first_queue_that_has_a_message(&self) {
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
        // And whichever has one wakes who waits.
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

    async fn a_delivery_can_change_hands(&self) {
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

    async fn takes_one_message_per_subject_where_they_are_unique(&self) {
        for retention in [Retention::WorkQueue, Retention::LastPerSubject] {
            let name =
                if retention == Retention::WorkQueue { "unique-work" } else { "unique-last" };
            let queue = QueueOptions { unique: true, retention, ..self.queue(name) };
            self.declared(&queue).await;
            let first = self.message(name, "a").with_id("first");
            let second = Message { body: "other".into(), ..first.clone() }.with_id("second");
            assert_eq!(self.publish(first.clone()).await, Published::Stored);
            assert_eq!(self.publish(second.clone()).await, Published::Duplicate);
            assert_eq!(self.bus.last(&first.subject).await, Ok(Some(first.clone())));
            // Once it is gone, its subject is free, and ids play no part.
            self.bus.purge(&first.subject).await.expect("purges");
            assert_eq!(self.publish(first.clone()).await, Published::Stored);
            let delivery = self.pull(&queue).await;
            assert_eq!(delivery.message, first);
            delivery.ack().await.expect("acknowledges");
            let after = match retention {
                Retention::WorkQueue => Published::Stored,
                Retention::LastPerSubject => Published::Duplicate,
            };
            assert_eq!(self.publish(second).await, after);
        }
    }

    async fn lets_one_of_many_publish_where_they_are_unique(&self) {
        let retention = Retention::LastPerSubject;
        let queue = QueueOptions { unique: true, retention, ..self.queue("race") };
        self.declared(&queue).await;
        let message = self.message("race", "a");
        let racing = (0..8).map(|number: u8| {
            self.publish(Message { body: vec![number].into(), ..message.clone() })
        });
        let outcomes = futures_util::future::join_all(racing).await;
        let winner = outcomes.iter().position(|outcome| *outcome == Published::Stored);
        let winner = winner.expect("one is stored");
        let stored = outcomes.iter().filter(|outcome| **outcome == Published::Stored).count();
        assert_eq!(stored, 1);
        // What is emitted does not take its place either.
        self.bus.emit(Message { body: "emitted".into(), ..message.clone() }).await.expect("emits");
        sleep(SOON).await;
        let last = self.bus.last(&message.subject).await.expect("reads").expect("is there");
        assert_eq!(usize::from(last.body[0]), winner);
    }

    async fn refuses_when_a_subject_is_full(&self) {
        let queue = QueueOptions { max_per_subject: Some(2), ..self.queue("share") };
        self.declared(&queue).await;
        for _ in 0..2 {
            self.publish(self.message("share", "a")).await;
        }
        let third = self.bus.publish(self.message("share", "a")).await;
        assert!(matches!(third, Err(Error::Full { .. })), "{third:?}");
        // Others have their own share.
        self.publish(self.message("share", "b")).await;
        self.pull(&queue).await.ack().await.expect("acknowledges");
        self.publish(self.message("share", "a")).await;
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
        assert_eq!(self.count(&last(">").subject).await, 4);
    }

    async fn refuses_an_endless_id(&self) {
        self.declared(&self.queue("endless")).await;
        let message = self.message("endless", "a").with_id("x".repeat(257));
        let refused = self.bus.publish(message).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }

    async fn refuses_what_no_queue_takes(&self) {
        let refused = self.bus.publish(self.message("nowhere", "a")).await;
        assert!(matches!(refused, Err(Error::NoQueue { .. })), "{refused:?}");
        let refused = self.bus.pull(&["nowhere"]).await;
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

        // A queue may have a bound of its own.
        let queue = QueueOptions { max_message_bytes: 1 << 10, ..self.queue("small") };
        self.declared(&queue).await;
        let sized = |bytes| Message { body: vec![0; bytes].into(), ..self.message("small", "a") };
        let refused = self.bus.publish(sized(1 << 10)).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        assert_eq!(self.publish(sized(1 << 9)).await, Published::Stored);
    }

    async fn a_dropped_pull_loses_nothing(&self) {
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

    async fn forgets_what_is_too_old(&self) {
        let queue = QueueOptions { max_age: Some(SOON), ..self.queue("age") };
        self.declared(&queue).await;
        self.publish(self.message("age", "a")).await;
        sleep(SOON * 2).await;
        self.assert_empty(&queue).await;

        // Nor is it there for readers.
        let retention = Retention::LastPerSubject;
        let queue = QueueOptions { max_age: Some(SOON), retention, ..self.queue("aged") };
        self.declared(&queue).await;
        let message = self.message("aged", "a");
        self.publish(message.clone()).await;
        assert_eq!(self.bus.exists(&message.subject).await, Ok(true));
        sleep(SOON * 2).await;
        assert_eq!(self.bus.last(&message.subject).await, Ok(None));
        assert_eq!(self.bus.exists(&message.subject).await, Ok(false));
        assert_eq!(self.count(&message.subject).await, 0);
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
        assert_eq!(self.count(&filter("x.*")).await, 2);
        assert_eq!(self.count(&filter(">")).await, 3);
        // Acknowledging does not delete here.
        for _ in 0..3 {
            self.pull(&queue).await.ack().await.expect("acknowledges");
        }
        self.assert_empty(&queue).await;
        assert_eq!(self.bus.last(&newer.subject).await, Ok(Some(newer.clone())));
        self.bus.purge(&filter("x.>")).await.expect("purges");
        assert_eq!(self.bus.last(&newer.subject).await, Ok(None));
        assert_eq!(self.count(&filter(">")).await, 1);
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
        // What a queue catches is kept as well.
        sleep(SOON).await;
        assert_eq!(self.bus.last(&emitted.subject).await, Ok(Some(emitted.clone())));
        for subscription in [&mut one, &mut two] {
            let mut seen = Vec::new();
            while let Ok(Some(message)) = timeout(SOON, subscription.next()).await {
                seen.push(message);
            }
            // Every publish is shown, so the repeated one is seen twice.
            assert_eq!(seen, [stored.clone(), stored.clone(), emitted.clone()]);
        }
    }

    async fn a_slow_subscriber_slows_nobody(&self) {
        let message = self.message("slow", "a");
        let slow = self.bus.subscribe(&message.subject).await;
        for _ in 0..10_000 {
            let emitted = timeout(PROMPTLY, self.bus.emit(message.clone())).await;
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
        let asking = self.bus.request(question.clone(), PROMPTLY);
        let (answer, ()) = tokio::join!(asking, answering);
        let answer = answer.expect("answered");
        assert_eq!(answer.body, "the answer");
        assert_eq!(answer.id(), Some("reply"));

        // Nobody looks at this one in time.
        let late = self.bus.request(question, SOON).await;
        assert_eq!(late, Err(Error::Timeout(SOON)));
    }

    async fn stores_objects(&self) {
        let queues = crate::topology::queues().into_iter();
        for queue in queues.filter(|queue| ["uploads", "keys"].contains(&&*queue.name)) {
            self.declared(&queue).await;
        }
        let tenant = self.run.parse().expect("a valid name");
        let (bus, bucket) = (&*self.bus, Bucket::Uploads(tenant));
        let bytes = Bytes::from(self.run.repeat(100_000));
        let mut stored = Vec::new();
        let put = objects::put(bus, &bucket, bytes.clone(), |done, _| stored.push(done)).await;
        let digest = put.expect("stores");
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!((stored.first(), stored.last()), (Some(&0), Some(&bytes.len())));
        let get = |bucket, limit| objects::get(bus, bucket, digest, limit);
        assert_eq!(get(&bucket, bytes.len()).await, Ok(bytes.clone()));
        let small = get(&bucket, bytes.len() - 1).await;
        assert!(matches!(small, Err(Error::TooLarge { .. })), "{small:?}");
        let elsewhere = get(&Bucket::Keys, usize::MAX).await;
        assert!(matches!(elsewhere, Err(Error::NoObject { .. })));

        // What is there is not sent again.
        let parts = self.bus.subjects(&format!("hermesh.upload.{}.{digest}.>", self.run)).await;
        let parts = parts.expect("lists");
        assert_eq!(parts.len(), bytes.len().div_ceil(PART_BYTES));
        self.bus.purge(&parts[0]).await.expect("purges");
        let missing = get(&bucket, bytes.len()).await;
        assert!(matches!(missing, Err(Error::NoObject { .. })), "{missing:?}");
        let mut stored = Vec::new();
        let again = objects::put(bus, &bucket, bytes.clone(), |done, _| stored.push(done)).await;
        assert_eq!(again, Ok(digest));
        assert_eq!(stored.len(), 2, "one part was missing");
        assert_eq!(get(&bucket, bytes.len()).await, Ok(bytes.clone()));

        // What somebody else stores beside the parts hides nothing, and only that is cleaned away.
        let stranger = |end: &str| format!("hermesh.upload.{}.{digest}.{end}", self.run);
        for end in ["1.0", "2.00", "2.+0", "2.1"] {
            self.publish(Message::new(stranger(end), "x")).await;
        }
        assert_eq!(get(&bucket, bytes.len()).await, Ok(bytes.clone()));
        let cleaned = objects::get_and_clean(bus, &bucket, digest, bytes.len()).await;
        assert_eq!(cleaned, Ok(bytes.clone()));
        assert_eq!(self.bus.exists(&stranger("1.0")).await, Ok(false));
        assert_eq!(self.bus.exists(&parts[0]).await, Ok(true));

        for _ in 0..2 {
            assert_eq!(objects::delete(bus, &bucket, digest).await, Ok(()));
        }
        let gone = get(&bucket, usize::MAX).await;
        assert!(matches!(gone, Err(Error::NoObject { .. })));
    }
}
