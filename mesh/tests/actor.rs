//! Tests of the loops that feed a service's logic.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Error, Message, TokioClock, UnixMillis,
    actor::{Logic, LogicHandle, Running, blocking, with_heartbeat},
    bus::{BusHandle, Overflow, QueueOptions, Retention, memory::MemoryBus},
};
use tokio::time::{sleep, timeout};

const QUEUE: &str = "work";
const ACK_WAIT: Duration = Duration::from_secs(2);

fn scenario<F: Future<Output = ()>>(scenario: impl FnOnce() -> F) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("builds a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(async { scenario().await });
}

/// A bus with one message in a queue.
async fn bus() -> BusHandle {
    let bus: BusHandle = Arc::new(MemoryBus::default());
    let queue = QueueOptions {
        name: QUEUE.into(),
        filter: "work.>".into(),
        retention: Retention::WorkQueue,
        unique: false,
        ack_wait: ACK_WAIT,
        max_deliver: 3,
        max_messages: 10,
        max_per_subject: None,
        max_bytes: 1 << 10,
        max_message_bytes: 1 << 20,
        max_age: Some(Duration::from_secs(3600)),
        dedup_window: Duration::from_secs(60),
        overflow: Overflow::Refuse,
        direct: false,
    };
    bus.declare(&queue).await.expect("declares");
    bus.publish(Message::new("work.1", "")).await.expect("publishes");
    bus
}

struct Counter(u32);

impl Logic for Counter {
    type Input = u32;
    type Effect = (u32, UnixMillis);
    type Error = Error;

    fn handle(&mut self, input: u32, now: UnixMillis) -> Result<Vec<(u32, UnixMillis)>, Error> {
        self.0 += input;
        Ok(vec![(self.0, now)])
    }
}

#[test]
fn logic_keeps_its_state_and_is_told_the_time() {
    scenario(|| async {
        let clock = Arc::new(TokioClock::starting_at(UnixMillis(5)));
        let counter = LogicHandle::start(Counter(0), clock, 1);
        assert_eq!(counter.call(2).await, Ok(vec![(2, UnixMillis(5))]));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(counter.call(3).await, Ok(vec![(5, UnixMillis(15))]));
    });
}

#[test]
fn long_work_is_not_delivered_twice() {
    scenario(|| async {
        let bus = bus().await;
        let delivery = bus.pull(&[QUEUE]).await.expect("pulls");
        let work = with_heartbeat(&delivery, ACK_WAIT / 2, sleep(ACK_WAIT * 10));
        let (worked, other) = tokio::join!(work, timeout(ACK_WAIT * 10, bus.pull(&[QUEUE])));
        assert_eq!(worked, ());
        assert!(other.is_err(), "delivered again: {other:?}");
        delivery.ack().await.expect("acknowledges");
    });
}

/// Starts a service that takes one second per message and counts the messages.
fn service(bus: &BusHandle) -> (Running, Rc<Cell<u32>>) {
    let done = Rc::new(Cell::new(0));
    let mut running = Running::default();
    let counting = done.clone();
    running.pull(bus.clone(), &[QUEUE], async move |delivery| {
        sleep(Duration::from_secs(1)).await;
        counting.set(counting.get() + 1);
        delivery.ack().await.expect("acknowledges");
    });
    (running, done)
}

#[test]
fn stopping_finishes_what_is_in_hand_and_takes_no_more() {
    scenario(|| async {
        let bus = bus().await;
        let (running, done) = service(&bus);
        sleep(Duration::from_millis(500)).await;
        bus.publish(Message::new("work.2", "")).await.expect("publishes");
        running.stop().await;
        assert_eq!(done.get(), 1);
        let left = bus.pull(&[QUEUE]).await.expect("pulls");
        assert_eq!((&*left.message.subject, left.attempt), ("work.2", 1));
    });
}

#[test]
fn who_stops_leaves_new_requests_to_others() {
    scenario(|| async {
        let bus: BusHandle = Arc::new(MemoryBus::default());
        let ask = async |wait| bus.request(Message::new("ask.1", ""), wait).await;
        let mut running = Running::default();
        let requests = bus.serve("ask.*").await.expect("serves");
        running.answer_many(requests, 2, async |request| {
            sleep(Duration::from_secs(2)).await;
            request.reply(Message::new("ask", "slow")).await.expect("replies");
        });
        let asking = ask(Duration::from_secs(3));
        let late = async {
            sleep(Duration::from_secs(1)).await;
            tokio::join!(running.stop(), async {
                sleep(Duration::from_millis(1)).await;
                ask(Duration::from_secs(3)).await
            })
        };
        let (answer, ((), late)) = tokio::join!(asking, late);
        assert_eq!(answer.expect("answered").body, "slow");
        assert!(matches!(late, Err(Error::NoResponders { .. })), "{late:?}");
    });
}

#[test]
fn what_a_killed_service_had_in_hand_is_delivered_again() {
    scenario(|| async {
        let bus = bus().await;
        let (running, done) = service(&bus);
        sleep(Duration::from_millis(500)).await;
        running.kill();
        let again = bus.pull(&[QUEUE]).await.expect("pulls");
        assert_eq!((done.get(), again.attempt), (0, 2));
    });
}

#[test]
fn a_panic_in_heavy_work_is_an_error() {
    scenario(|| async {
        assert_eq!(blocking(|| 7).await, Ok(7));
        let panicked = blocking(|| panic!("deliberately, for the test")).await;
        assert_eq!(panicked, Err::<(), _>(Error::Panicked));
    });
}
