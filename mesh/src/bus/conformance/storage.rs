//! Queues store messages within their limits, and refuse or discard the rest as declared.

use bytes::Bytes;
use tokio::time::sleep;

use super::{Bench, SOON};
use crate::bus::{Overflow, Published, QueueOptions, Retention};
use crate::objects::{self, Bucket, PART_BYTES};
use crate::{Digest, Error, Message};

impl Bench {
    pub(super) async fn takes_one_message_per_subject_where_they_are_unique(&self) {
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

    pub(super) async fn lets_one_of_many_publish_where_they_are_unique(&self) {
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

    pub(super) async fn refuses_when_full(&self) {
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

    pub(super) async fn refuses_when_a_subject_is_full(&self) {
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

    pub(super) async fn makes_room_where_it_may(&self) {
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

    pub(super) async fn refuses_what_no_queue_takes(&self) {
        let refused = self.bus.publish(self.message("nowhere", "a")).await;
        assert!(matches!(refused, Err(Error::NoQueue { .. })), "{refused:?}");
        let refused = self.bus.pull(&["nowhere"]).await;
        assert!(matches!(refused, Err(Error::NoQueue { .. })), "{refused:?}");
    }

    pub(super) async fn refuses_what_is_too_large(&self, max_message: usize) {
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

    pub(super) async fn refuses_an_endless_id(&self) {
        self.declared(&self.queue("endless")).await;
        let message = self.message("endless", "a").with_id("x".repeat(257));
        let refused = self.bus.publish(message).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }

    pub(super) async fn forgets_what_is_too_old(&self) {
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

    pub(super) async fn keeps_the_last_per_subject(&self) {
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

    pub(super) async fn stores_objects(&self) {
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

        // Messages beside the parts hide nothing, and only they are cleaned away.
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
