//! Pulling from NATS: an abandoned pull strands no message, and no queue starves.

use std::time::Duration;

use hermesh_mesh::{
    Error, Message,
    bus::{
        Bus, DEAD_LETTERS, Delivery, Overflow, Published, QueueOptions, Retention,
        nats::{NatsBus, NatsOptions},
    },
    nats_server::{NatsServer, NatsServerOptions},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Enough time for a server on a busy machine, and shorter than `ack_wait`.
const SOON: Duration = Duration::from_secs(30);

async fn bus() -> (NatsBus, NatsServer, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let server = NatsServer::start(NatsServerOptions::new(directory.path())).await;
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let options = NatsOptions { url: server.url(), ..NatsOptions::default() };
    (NatsBus::connect(options).await.expect("connects"), server, directory)
}

fn queue(name: &str) -> QueueOptions {
    QueueOptions {
        name: name.into(),
        filter: format!("test.{name}.>"),
        retention: Retention::WorkQueue,
        unique: false,
        ack_wait: Duration::from_secs(120),
        max_deliver: 100,
        max_messages: 10_000,
        max_per_subject: None,
        max_bytes: 1 << 24,
        max_message_bytes: 1 << 20,
        max_age: Some(Duration::from_secs(3600)),
        dedup_window: Duration::from_secs(60),
        overflow: Overflow::Refuse,
        direct: false,
    }
}

async fn publish(bus: &NatsBus, queue: &str, number: usize) {
    let message = Message::new(format!("test.{queue}.{number}"), "body");
    assert_eq!(bus.publish(message).await, Ok(Published::Stored));
}

async fn pull(bus: &NatsBus, queues: &[&str]) -> Delivery {
    timeout(SOON, bus.pull(queues)).await.expect("a message is there").expect("pulls")
}

#[tokio::test]
async fn who_stops_waiting_strands_nothing() {
    let (bus, _server, _directory) = bus().await;
    for name in ["left-a", "left-b"] {
        bus.declare(&queue(name)).await.expect("declares");
    }
    let queues = ["left-a", "left-b"];
    let mut abandoned = 0;
    for round in 0..150 {
        let started = Instant::now();
        let patience = Duration::from_micros(200 * (round as u64 % 40));
        let (given_up, ()) = tokio::join!(timeout(patience, bus.pull(&queues)), async {
            sleep(Duration::from_millis(4)).await;
            publish(&bus, queues[round % 2], round).await;
        });
        let delivery = match given_up {
            Ok(pulled) => pulled.expect("pulls"),
            Err(_) => {
                abandoned += 1;
                pull(&bus, &queues).await
            }
        };
        delivery.ack().await.expect("acknowledges");
        assert!(started.elapsed() < SOON);
    }
    assert!(abandoned > 0);
}

#[tokio::test]
async fn the_last_queue_has_its_turn_too() {
    let (bus, _server, _directory) = bus().await;
    let queues = ["turn-a", "turn-b", "turn-c"];
    for name in queues {
        bus.declare(&queue(name)).await.expect("declares");
        for number in 0..40 {
            publish(&bus, name, number).await;
        }
    }
    let mut pulled = [0; 3];
    for _ in 0..32 {
        let delivery = pull(&bus, &queues).await;
        let from = |name: &&str| delivery.message.subject.starts_with(&format!("test.{name}."));
        pulled[queues.iter().position(from).expect("one of them")] += 1;
        delivery.ack().await.expect("acknowledges");
    }
    assert_eq!(pulled, [28, 2, 2]);
}

/// A message is delivered once too often rather than lost.
#[tokio::test]
async fn what_cannot_be_buried_stays() {
    let (bus, _server, _directory) = bus().await;
    let dead =
        QueueOptions { filter: "hermesh.dead.>".into(), max_messages: 1, ..queue(DEAD_LETTERS) };
    let options = QueueOptions { ack_wait: Duration::from_secs(2), ..queue("stays") };
    for queue in [&dead, &options] {
        bus.declare(queue).await.expect("declares");
    }
    for number in 0..2 {
        publish(&bus, "stays", number).await;
    }
    pull(&bus, &["stays"]).await.reject("first").await.expect("there is room");
    let full = pull(&bus, &["stays"]).await.reject("second").await;
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    pull(&bus, &[DEAD_LETTERS]).await.ack().await.expect("acknowledges");
    let again = pull(&bus, &["stays"]).await;
    assert_eq!(again.attempt, 2);
    again.reject("second").await.expect("there is room");
    assert!(pull(&bus, &[DEAD_LETTERS]).await.message.subject.ends_with("dead.stays"));
}
