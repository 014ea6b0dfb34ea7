//! The bus on NATS passes the conformance suite, on a real server that is also crashed and
//! restarted.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use futures_util::{StreamExt as _, future::join_all, stream};

use hermesh_mesh::{
    Error, Message,
    bus::{
        Bus, DEAD_REASON, Delivery, Overflow, Published, QueueOptions, Retention, conformance,
        nats::{NatsBus, NatsOptions},
    },
    nats_server::{NatsServer, NatsServerOptions},
    topology,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Enough time for a server on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Starts a server for one test. If nats-server is missing, fails with a hint how to install it.
async fn server() -> (NatsServer, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let options =
        NatsServerOptions { max_payload: 1 << 20, ..NatsServerOptions::new(directory.path()) };
    let server = NatsServer::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    (server, directory)
}

async fn connect(server: &NatsServer) -> NatsBus {
    let options = NatsOptions { url: server.url(), ..NatsOptions::default() };
    NatsBus::connect(options).await.expect("connects")
}

fn queue(name: &str) -> QueueOptions {
    QueueOptions {
        name: name.into(),
        filter: format!("test.{name}.>"),
        retention: Retention::WorkQueue,
        unique: false,
        ack_wait: Duration::from_secs(2),
        max_deliver: 10,
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

#[tokio::test]
async fn conforms() {
    let (server, _directory) = server().await;
    conformance::all(Arc::new(connect(&server).await), 1 << 20).await;
}

async fn pull(bus: &NatsBus, queues: &[&str]) -> Delivery {
    let pulled = timeout(SOON, bus.pull(queues)).await;
    pulled.expect("a message is there").expect("pulls")
}

fn message(queue: &str, number: usize) -> Message {
    let message = Message::new(format!("test.{queue}.{number}"), format!("body {number}"));
    message.with_id(format!("{queue}.{number}"))
}

/// Pulls and acknowledges until `until` distinct messages have arrived. Returns the number of
/// duplicates.
async fn drain(bus: &NatsBus, queue: &str, until: usize) -> usize {
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    while seen.len() < until {
        let delivery = pull(bus, &[queue]).await;
        again += usize::from(!seen.insert(delivery.message.subject.clone()));
        delivery.ack().await.expect("acknowledges");
    }
    again
}

#[tokio::test]
async fn loses_nothing_when_the_server_crashes() {
    const MESSAGES: usize = 600;
    let (mut server, _directory) = server().await;
    let (publisher, puller) = (connect(&server).await, connect(&server).await);
    publisher.declare(&queue("crash")).await.expect("declares");
    puller.declare(&queue("crash")).await.expect("declares");
    let publishing = stream::iter(0..MESSAGES).for_each_concurrent(4, |number| {
        let publisher = &publisher;
        async move {
            sleep(Duration::from_millis(20)).await;
            publisher.publish(message("crash", number)).await.expect("publishes");
        }
    });
    let crashing = async {
        for down in [0, 300] {
            sleep(Duration::from_millis(700)).await;
            server.kill();
            while puller.connected() {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_millis(down)).await;
            server.restart().await.expect("restarts");
        }
    };
    tokio::join!(publishing, drain(&puller, "crash", MESSAGES), crashing);
    // Messages stored twice or not acknowledged would be delivered now.
    sleep(queue("crash").ack_wait).await;
    let more = timeout(Duration::from_secs(1), puller.pull(&["crash"])).await;
    assert!(more.is_err(), "unexpected {more:?}");
}

#[tokio::test]
async fn a_waiting_pull_outlives_the_server() {
    let (mut server, _directory) = server().await;
    let bus = connect(&server).await;
    for name in ["wait-a", "wait-b"] {
        bus.declare(&queue(name)).await.expect("declares");
    }
    let waiting = pull(&bus, &["wait-a", "wait-b"]);
    let restarting = async {
        sleep(Duration::from_millis(300)).await;
        server.restart().await.expect("restarts");
        bus.publish(message("wait-b", 1)).await.expect("publishes");
    };
    let (delivery, ()) = tokio::join!(waiting, restarting);
    assert_eq!(delivery.message, message("wait-b", 1));
}

#[tokio::test]
async fn rebuilds_what_was_deleted() {
    let (server, _directory) = server().await;
    let bus = connect(&server).await;
    bus.declare(&queue("gone")).await.expect("declares");
    let raw = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let deleting = async {
        sleep(Duration::from_millis(300)).await;
        let deleted = raw.delete_consumer_from_stream("gone", "hermesh-gone").await;
        assert!(deleted.expect("deletes").success);
        bus.publish(message("gone", 1)).await.expect("publishes");
    };
    let (delivery, ()) = tokio::join!(pull(&bus, &["gone"]), deleting);
    delivery.ack().await.expect("acknowledges");
    let deleting = async {
        sleep(Duration::from_millis(300)).await;
        assert!(raw.delete_stream("hermesh-gone").await.expect("deletes").success);
        bus.publish(message("gone", 2)).await.expect("publishes");
    };
    let (delivery, ()) = tokio::join!(pull(&bus, &["gone"]), deleting);
    assert_eq!(delivery.message, message("gone", 2));
}

#[tokio::test]
async fn processes_share_a_queue() {
    const MESSAGES: usize = 400;
    let (server, _directory) = server().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    // A long `ack_wait`, so that slow tests cause no redelivery.
    let options = QueueOptions { ack_wait: SOON, ..queue("shared") };
    let (first, second) = tokio::join!(one.declare(&options), two.declare(&options));
    first.and(second).expect("both declare");
    for number in 0..MESSAGES {
        one.publish(message("shared", number)).await.expect("publishes");
    }
    let count = watch::Sender::new(0);
    let pulling = async |bus: &NatsBus| {
        let (mut seen, mut counted) = (Vec::new(), count.subscribe());
        loop {
            let delivery = tokio::select! {
                _ = counted.wait_for(|count| *count == MESSAGES) => return seen,
                delivery = pull(bus, &["shared"]) => delivery,
            };
            assert_eq!(delivery.attempt, 1);
            seen.push(delivery.message.subject.clone());
            delivery.ack().await.expect("acknowledges");
            count.send_modify(|count| *count += 1);
        }
    };
    let all = tokio::join!(pulling(&one), pulling(&two), pulling(&one), pulling(&two));
    let all = [all.0, all.1, all.2, all.3];
    assert_eq!(all.iter().map(Vec::len).sum::<usize>(), MESSAGES);
    assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), MESSAGES);
    assert!(all.iter().all(|seen| !seen.is_empty()), "a process starved");
}

/// A pull from several queues takes one message; messages of the other queues are not blocked until
/// `ack_wait`.
#[tokio::test]
async fn messages_of_several_queues_at_once_hold_up_nobody() {
    let (server, _directory) = server().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let names = ["lane-a", "lane-b", "lane-c"];
    for name in names {
        let options = QueueOptions { ack_wait: Duration::from_secs(120), ..queue(name) };
        one.declare(&options).await.expect("declares");
        two.declare(&options).await.expect("declares");
    }
    let (mut extra, mut longest) = (0, Duration::ZERO);
    for round in 0..100 {
        let pulling = async |bus: &NatsBus| {
            let delivery = pull(bus, &names).await;
            let attempt = delivery.attempt;
            delivery.ack().await.expect("acknowledges");
            attempt
        };
        let publishing = async {
            sleep(Duration::from_millis(10)).await;
            let started = Instant::now();
            join_all(names.map(|name| two.publish(message(name, round)))).await;
            started
        };
        let (a, b, started) = tokio::join!(pulling(&one), pulling(&one), publishing);
        extra += (a - 1) + (b - 1) + (pulling(&two).await - 1);
        longest = longest.max(started.elapsed());
    }
    println!("{extra} deliveries were given on; the slowest round took {longest:?}");
    assert!(longest < Duration::from_secs(30), "{longest:?}");
}

#[tokio::test]
async fn an_existing_stream_that_differs_is_named() {
    let (server, _directory) = server().await;
    let bus = connect(&server).await;
    let options = queue("differs");
    bus.declare(&options).await.expect("declares");
    let field = |result| match result {
        Err(Error::QueueMismatch { field, found, expected, .. }) => (field, found, expected),
        other => panic!("unexpected {other:?}"),
    };
    let other = QueueOptions { unique: true, ..options.clone() };
    assert_eq!(field(bus.declare(&other).await), ("unique", "false".into(), "true".into()));
    let other = QueueOptions { max_messages: 7, ..options.clone() };
    assert_eq!(field(bus.declare(&other).await).0, "max_messages");
    let other = QueueOptions { name: "other".into(), ..options.clone() };
    assert_eq!(field(bus.declare(&other).await).0, "filter");

    let raw = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let config = jetstream::stream::Config {
        name: "hermesh-foreign".into(),
        subjects: vec!["test.foreign.>".into()],
        ..Default::default()
    };
    raw.create_stream(config).await.expect("creates");
    assert_eq!(field(bus.declare(&queue("foreign")).await).0, "description");

    // A consumer with other options is also reported.
    let config = jetstream::consumer::pull::Config {
        durable_name: Some("differs".into()),
        ack_wait: Duration::from_secs(7),
        ..Default::default()
    };
    raw.create_consumer_on_stream(config, "hermesh-differs").await.expect("creates");
    let pulled = bus.pull(&["differs"]).await.map(drop);
    assert_eq!(field(pulled), ("ack_wait", "7s".into(), "2s".into()));
}

#[tokio::test]
async fn what_cannot_be_read_is_buried() {
    let (server, _directory) = server().await;
    let bus = connect(&server).await;
    hermesh_mesh::topology::declare(&bus).await.expect("declares");
    bus.declare(&queue("strange")).await.expect("declares");
    let raw = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let mut watching = bus.subscribe("test.strange.>").await.expect("subscribes");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("long", "x".repeat(2000).as_str());
    headers.insert("fine", "y");
    let sent = raw.publish_with_headers("test.strange.0", headers, "body".into()).await;
    // The order is certain only after the first message is stored.
    sent.expect("sends").await.expect("is stored");
    bus.publish(message("strange", 1)).await.expect("publishes");

    // An unreadable message is buried at its first delivery or a later one.
    let (mut readable, mut dead) = (None, None);
    while dead.is_none() || readable.is_none() {
        let delivery = pull(&bus, &["dead", "strange"]).await;
        let which = if delivery.message.subject == "hermesh.dead.strange" {
            &mut dead
        } else {
            &mut readable
        };
        *which = Some(delivery.message.clone());
        delivery.ack().await.expect("acknowledges");
    }
    assert_eq!(readable, Some(message("strange", 1)));
    let shown = timeout(SOON, watching.next()).await.expect("is shown");
    assert_eq!(shown, Some(message("strange", 1)));
    let dead = dead.expect("there");
    assert_eq!(dead.body, "body");
    assert_eq!(dead.headers.get("fine"), Some("y"));
    let reason = dead.headers.get(DEAD_REASON).expect("a reason");
    assert!(reason.contains("long") && reason.contains("1024"), "{reason}");
}

#[tokio::test]
async fn says_where_no_server_is() {
    let url = "nats://me:secret@127.0.0.1:1".to_owned();
    let refused = NatsBus::connect(NatsOptions { url, ..NatsOptions::default() }).await;
    let Err(error @ Error::Connect { .. }) = refused.map(drop) else {
        panic!("connected to nothing");
    };
    let text = error.to_string();
    assert!(text.contains("nats://127.0.0.1:1") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn who_may_not_declare_knows_the_queues() {
    let (server, _directory) = server().await;
    connect(&server).await.declare(&queue("known")).await.expect("declares");
    let options =
        NatsOptions { url: server.url(), queues: vec![queue("known")], ..NatsOptions::default() };
    let bus = NatsBus::connect(options).await.expect("connects");
    assert_eq!(bus.publish(message("known", 1)).await, Ok(Published::Stored));
    assert_eq!(pull(&bus, &["known"]).await.message, message("known", 1));
    let nowhere = bus.publish(message("unknown", 1)).await;
    assert!(matches!(nowhere, Err(Error::NoQueue { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn a_server_stops_in_order_and_says_why_it_does_not_start() {
    let (server, directory) = server().await;
    let (pid, url) = (server.pid(), server.url());
    let port = url.rsplit(':').next().expect("a port").parse().expect("a number");
    let options = NatsServerOptions { port, ..NatsServerOptions::new(directory.path()) };
    let second = NatsServer::start(options.clone()).await.map(drop);
    assert!(matches!(&second, Err(Error::Start { why }) if why.contains("port")), "{second:?}");
    server.stop(Duration::from_secs(30)).await;
    let log = std::fs::read_to_string(directory.path().join("nats.log")).expect("a log");
    assert!(log.contains("Server Exiting"), "{log}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());

    let program = Some("/nowhere/nats-server".into());
    let missing = NatsServer::start(NatsServerOptions { program, ..options }).await.map(drop);
    let install = "apt-get install nats-server";
    assert!(matches!(&missing, Err(Error::Start { why }) if why.contains(install)), "{missing:?}");
}

#[tokio::test]
async fn processes_that_start_together_agree() {
    let (server, _directory) = server().await;
    let together = (0..8).map(|_| async {
        let bus = connect(&server).await;
        topology::declare(&bus).await
    });
    for declared in join_all(together).await {
        assert_eq!(declared, Ok(()));
    }
}

/// Replies are published with rights that the requester may not have.
#[tokio::test]
async fn nobody_is_made_to_publish_elsewhere() {
    let (server, _directory) = server().await;
    let bus = connect(&server).await;
    bus.declare(&queue("victim")).await.expect("declares");
    let mut requests = bus.serve("test.ask.*").await.expect("serves");
    let mut seen = bus.subscribe("test.victim.>").await.expect("subscribes");
    let raw = async_nats::connect(server.url()).await.expect("connects");
    let deleting = "$JS.API.STREAM.DELETE.hermesh-victim";
    for reply in ["test.victim.x", deleting, "_INBOX.>", "_INBOX"] {
        let sent = raw.publish_with_reply("test.ask.a", reply, "innocent".into()).await;
        sent.expect("sends");
    }
    let large = vec![0; (512 << 10) + 1].into();
    raw.publish_with_reply("test.ask.a", "_INBOX.large", large).await.expect("sends");
    raw.flush().await.expect("sends");
    let answering = async {
        let request = requests.next().await.expect("a request");
        assert_eq!(request.message.body, "honest", "the others are not seen");
        request.reply(Message::new("ignored", "the answer")).await.expect("replies");
    };
    let asking = raw.request("test.ask.a", "honest".into());
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.expect("answered").payload, "the answer");
    assert_eq!(bus.exists("test.victim.x").await, Ok(false));
    assert!(timeout(Duration::from_millis(200), seen.next()).await.is_err());
}
