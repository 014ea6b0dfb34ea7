//! Subscriptions, and requests with replies.

use tokio::time::{sleep, timeout};

use super::{Bench, PROMPTLY, SOON};
use crate::{Error, Message};

impl Bench {
    pub(super) async fn subscribers_see_what_is_published_and_emitted(&self) {
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

    pub(super) async fn a_slow_subscriber_slows_no_publisher(&self) {
        let message = self.message("slow", "a");
        let slow = self.bus.subscribe(&message.subject).await;
        for _ in 0..10_000 {
            let emitted = timeout(PROMPTLY, self.bus.emit(message.clone())).await;
            emitted.expect("does not wait").expect("emits");
        }
        drop(slow);
    }

    pub(super) async fn answers_requests(&self) {
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

        // No server takes this one in time.
        let late = self.bus.request(question, SOON).await;
        assert_eq!(late, Err(Error::Timeout(SOON)));
    }
}
