//! What tenants read back over NATS, and where replies to them go.

use std::{fs, time::Duration};

use futures_util::StreamExt as _;
use hermesh_mesh::{
    Error, Message, SigningKey,
    bus::{
        Bus, Overflow, Published, QueueOptions, Retention,
        nats::{NatsBus, NatsOptions, is_inbox},
    },
    client::service_keys,
    identity::inbox,
    nats_server::{NatsServer, NatsServerOptions},
    seal::{SEAL, SEAL_ROOM},
    topology,
    wire::{ServiceKey, Wire as _},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(60);
const MAX_PAYLOAD: usize = 1 << 20;

async fn server() -> (NatsServer, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let options =
        NatsServerOptions { max_payload: MAX_PAYLOAD, ..NatsServerOptions::new(directory.path()) };
    let server = NatsServer::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    (server, directory)
}

fn queue(name: &str, direct: bool) -> QueueOptions {
    QueueOptions {
        name: name.into(),
        filter: format!("test.{name}.>"),
        retention: Retention::LastPerSubject,
        unique: false,
        ack_wait: Duration::from_secs(2),
        max_deliver: 10,
        max_messages: 10_000,
        max_per_subject: None,
        max_bytes: 1 << 24,
        max_message_bytes: MAX_PAYLOAD,
        max_age: None,
        dedup_window: Duration::from_secs(60),
        overflow: Overflow::Refuse,
        direct,
    }
}

fn queues() -> Vec<QueueOptions> {
    vec![queue("told", true), queue("kept", false)]
}

async fn connect(server: &NatsServer, direct: bool, inbox: Option<String>) -> NatsBus {
    let options = NatsOptions {
        url: server.url(),
        queues: queues(),
        direct,
        inbox,
        ..NatsOptions::default()
    };
    NatsBus::connect(options).await.expect("connects")
}

async fn declared(server: &NatsServer) -> (NatsBus, NatsBus) {
    let (service, tenant) = (connect(server, false, None).await, connect(server, true, None).await);
    for queue in queues() {
        service.declare(&queue).await.expect("declares");
    }
    (service, tenant)
}

async fn raw(server: &NatsServer) -> async_nats::Client {
    async_nats::connect(server.url()).await.expect("connects")
}

/// Subscribes, and returns once the server has processed the subscription.
async fn subscribe(raw: &async_nats::Client, subject: &'static str) -> async_nats::Subscriber {
    let subscriber = raw.subscribe(subject).await.expect("subscribes");
    raw.request("$JS.API.INFO", "".into()).await.expect("is answered, after all earlier commands");
    subscriber
}

#[tokio::test]
async fn both_ways_of_reading_give_the_same() {
    let (mut server, _directory) = server().await;
    let (service, tenant) = declared(&server).await;
    let message = |subject: &str, body: &[u8]| Message::new(subject, body.to_vec());
    let stored = [
        message("test.told.plain", b"x"),
        message("test.told.empty", b""),
        message("test.told.named", b"x").with_id("a name"),
        // Content that looks like a refusal of the server.
        message("test.told.refusal", br#"{"error":{"code":503,"err_code":10008}}"#),
        message("test.told.large", &vec![7; MAX_PAYLOAD - (64 << 10)]),
        message("test.kept.plain", b"x"),
    ];
    for message in &stored {
        assert_eq!(service.publish(message.clone()).await, Ok(Published::Stored));
    }
    let strange = raw(&server).await;
    for (subject, header) in [("test.told.sealed", SEAL), ("test.told.strange", "long")] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header, "x".repeat(2000).as_str());
        let sent = strange.request_with_headers(subject, headers, "body".into()).await;
        assert!(sent.expect("is stored").payload.starts_with(br#"{"stream":"#));
    }
    let absent = ["test.told.absent", "test.kept.absent", "test.other.a", "test.told.*", ""];
    let both = async |subject: &str| {
        let both = (service.last(subject).await, tenant.last(subject).await);
        assert_eq!(both.0, both.1, "{subject}");
        let exists = (service.exists(subject).await, tenant.exists(subject).await);
        assert_eq!(exists.0, exists.1, "{subject}");
        both.0
    };
    let check = async || {
        for message in &stored {
            assert_eq!(both(&message.subject).await, Ok(Some(message.clone())));
        }
        let sealed = both("test.told.sealed").await;
        assert_eq!(sealed, Ok(Some(Message::new("test.told.sealed", "body"))));
        assert!(matches!(both("test.told.strange").await, Err(Error::BadHeader { .. })));
        for subject in absent {
            assert!(matches!(both(subject).await, Ok(None) | Err(_)), "{subject:?}");
        }
    };
    check().await;
    for _ in 0..5 {
        server.kill();
        let (read, ()) = tokio::join!(both("test.told.plain"), async {
            sleep(Duration::from_millis(100)).await;
            server.restart().await.expect("restarts");
        });
        assert_eq!(read, Ok(Some(stored[0].clone())));
    }
    check().await;
    service.purge("test.told.plain").await.expect("purges");
    assert_eq!(both("test.told.plain").await, Ok(None));
}

/// Rights to the tenant's own subjects, and to the whole stream of the services' keys only. Connections without another
/// user name act as this tenant.
const RIGHTS: &str = r#"
no_auth_user: acme
authorization {
  users = [
    { user: service, password: x }
    { user: acme, password: x, permissions: {
      publish: [
        "hermesh.upload.acme.>"
        "hermesh.keys.*.acme"
        "$JS.API.DIRECT.GET.hermesh-answers.hermesh.answer.acme.*"
        "$JS.API.DIRECT.GET.hermesh-services.hermesh.service.*"
        "$JS.API.STREAM.INFO.hermesh-services"
      ]
      subscribe: [ "_INBOX.tenant.acme.>", "hermesh.answer.acme.*" ]
    } }
  ]
}
"#;

#[tokio::test]
async fn a_tenant_needs_rights_to_its_own_subjects_only() {
    let (mut server, directory) = server().await;
    let service = NatsOptions { url: server.url(), ..NatsOptions::default() };
    let service = NatsBus::connect(service).await.expect("connects");
    topology::declare(&service).await.expect("declares");
    let receipts = SigningKey::generate().verifying_key();
    let answer = |tenant: &str, job: u8| format!("hermesh.answer.{tenant}.{:032x}", job);
    let (own, next, other) = (answer("acme", 1), answer("acme", 2), answer("umbra", 1));
    let stored = Message::new(&*own, "yes");
    for message in [ServiceKey(receipts).encode("x"), stored.clone(), Message::new(&*other, "no")] {
        service.publish(message).await.expect("publishes");
    }
    let configuration = directory.path().join("nats.conf");
    let text = fs::read_to_string(&configuration).expect("a configuration");
    fs::write(&configuration, text + RIGHTS).expect("can be written");
    server.restart().await.expect("restarts");

    let brief = Duration::from_millis(500);
    let tenant = |inbox| NatsOptions {
        url: server.url(),
        inbox,
        direct: true,
        request_timeout: brief,
        publish_patience: brief,
        ..NatsOptions::default()
    };
    let acme = NatsBus::connect(tenant(Some(inbox("tenant", "acme")))).await.expect("connects");
    assert_eq!(service_keys(&acme).await, Ok(vec![receipts]));
    assert_eq!(acme.last(&own).await, Ok(Some(stored)));
    assert_eq!(acme.last(&next).await, Ok(None));
    let mut heard = acme.subscribe(&next).await.expect("subscribes");
    let part = Message::new("hermesh.upload.acme.0.1.0", "x");
    assert_eq!(acme.publish(part).await, Ok(Published::Stored));

    let options = async_nats::ConnectOptions::with_user_and_password("service".into(), "x".into());
    let service = options.connect(server.url()).await.expect("connects");
    let mut requests = subscribe(&service, "hermesh.keys.list-parts.*").await;
    let asking = acme.request(Message::new("hermesh.keys.list-parts.acme", "which?"), SOON);
    let (told, ()) = tokio::join!(asking, async {
        let reply = requests.next().await.expect("a request").reply.expect("wants an answer");
        service.publish(reply, "these".into()).await.expect("replies");
        service.publish(next.clone(), "yes".into()).await.expect("publishes");
    });
    assert_eq!(told.expect("is told").body, "these");
    let heard = timeout(SOON, heard.next()).await.expect("is heard");
    assert_eq!(heard, Some(Message::new(next, "yes")));

    // It can read neither another tenant's message nor a whole stream.
    assert_eq!(acme.last(&other).await, Err(Error::Timeout(brief)));
    assert_eq!(acme.subjects("hermesh.upload.>").await, Err(Error::Timeout(brief)));
    // With another inbox prefix it does not receive replies.
    let elsewhere = NatsBus::connect(tenant(None)).await.expect("connects");
    assert_eq!(elsewhere.last(&own).await, Err(Error::Timeout(brief)));
}

/// The server that replies may be hostile.
#[tokio::test]
async fn one_message_does_not_pass_for_another() {
    let (server, _directory) = server().await;
    // The stream does not exist, so only the test replies.
    let tenant = connect(&server, true, None).await;
    let liar = raw(&server).await;
    let mut asked = subscribe(&liar, "$JS.API.DIRECT.GET.>").await;
    let mut lying = async |subjects: &[&str]| {
        let request = timeout(SOON, asked.next()).await.expect("asked").expect("asked");
        let expected = "$JS.API.DIRECT.GET.hermesh-told.test.told.a";
        assert_eq!((request.subject.as_str(), request.payload.len()), (expected, 0));
        let mut headers = async_nats::HeaderMap::new();
        for subject in subjects {
            headers.append("Nats-Subject", *subject);
        }
        let reply = request.reply.expect("a place for the answer");
        liar.publish_with_headers(reply, headers, "b".into()).await.expect("answers");
    };
    for subjects in [&["test.told.b"][..], &[], &["test.told.a", "test.told.b"]] {
        let (read, ()) = tokio::join!(tenant.last("test.told.a"), lying(subjects));
        assert!(matches!(read, Err(Error::Malformed { .. })), "{read:?}");
    }
    let (read, ()) = tokio::join!(tenant.last("test.told.a"), lying(&["test.told.a"]));
    assert_eq!(read, Ok(Some(Message::new("test.told.a", "b"))));
}

#[tokio::test]
async fn a_stream_that_is_read_otherwise_is_named() {
    let (server, _directory) = server().await;
    let (service, _) = declared(&server).await;
    let declared = service.declare(&queue("told", false)).await;
    let (found, expected) = ("true".to_owned(), "false".to_owned());
    let name = "told".to_owned();
    assert_eq!(declared, Err(Error::QueueMismatch { name, field: "direct", found, expected }));
}

/// An eavesdropper on all subjects sees every reply subject.
#[tokio::test]
async fn all_answers_go_to_the_one_place() {
    let (server, _directory) = server().await;
    let mine = inbox("tenant", "acme");
    let work = QueueOptions { retention: Retention::WorkQueue, ..queue("work", false) };
    let bus = connect(&server, true, Some(mine.clone())).await;
    let listener = raw(&server).await;
    let mut heard = subscribe(&listener, ">").await;
    for queue in queues().iter().chain([&work]) {
        bus.declare(queue).await.expect("declares");
    }
    let mut requests = bus.serve("test.ask").await.expect("serves");
    let answering = async {
        let request = requests.next().await.expect("a request");
        request.reply(Message::new("ignored", "yes")).await.expect("replies");
    };
    let asking = bus.request(Message::new("test.ask", "?"), SOON);
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.expect("is answered").body, "yes");
    bus.publish(Message::new("test.told.a", "x")).await.expect("publishes");
    bus.publish(Message::new("test.work.a", "x")).await.expect("publishes");
    assert_eq!(bus.exists("test.told.a").await, Ok(true));
    assert_eq!(bus.subjects("test.told.>").await.map(|found| found.len()), Ok(1));
    bus.pull(&["work"]).await.expect("pulls").ack().await.expect("acknowledges");
    bus.purge("test.told.a").await.expect("purges");
    // When this message has arrived, all earlier ones have too.
    listener.publish("test.end", "".into()).await.expect("publishes");

    let mut places = 0;
    loop {
        let message = timeout(SOON, heard.next()).await.expect("is heard").expect("is heard");
        if message.subject.as_str() == "test.end" {
            break;
        }
        match message.reply.as_deref() {
            // The test's own request, sent by `subscribe`.
            _ if message.subject.as_str() == "$JS.API.INFO" => {}
            // The acknowledgement of the delivery.
            Some(reply) if reply.starts_with("$JS.ACK.hermesh-work.") => {}
            Some(reply) => {
                places += 1;
                assert!(reply.starts_with(&format!("{mine}.")), "{}: {reply}", message.subject);
            }
            None => {}
        }
    }
    assert!(places > 8, "{places}");
}

#[tokio::test]
async fn answers_go_nowhere_but_to_inboxes() {
    let (server, _directory) = server().await;
    for bad in ["_INBOX", "_INBOX.", "_INBOX.>", "hermesh.job.acme", "", "_INBOX.a b"] {
        assert!(!is_inbox(bad), "{bad:?}");
        let (url, inbox) = (server.url(), Some(bad.to_owned()));
        let refused = NatsBus::connect(NatsOptions { url, inbox, ..NatsOptions::default() }).await;
        assert!(matches!(refused.map(drop), Err(Error::Malformed { .. })), "{bad:?}");
    }
}

/// The sidecar's headers must not make a message too large that its service was allowed to send.
#[tokio::test]
async fn every_message_leaves_room_for_its_seal() {
    let (server, _directory) = server().await;
    let (service, _) = declared(&server).await;
    let mut sizes = (0, MAX_PAYLOAD);
    while sizes.1 - sizes.0 > 1 {
        let size = usize::midpoint(sizes.0, sizes.1);
        let message = Message::new("test.unheard", vec![0; size]);
        match service.emit(message).await {
            Ok(()) => sizes.0 = size,
            Err(Error::TooLarge { .. }) => sizes.1 = size,
            Err(error) => panic!("{error}"),
        }
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(SEAL, "x".repeat(SEAL_ROOM).as_str());
    let sealed = async_nats::connect(server.url()).await.expect("connects");
    let body = vec![0; sizes.0].into();
    let sent = sealed.request_with_headers("test.told.a", headers, body).await;
    assert!(sizes.0 > MAX_PAYLOAD - 2 * SEAL_ROOM, "{sizes:?}");
    sent.expect("the server takes it");
}
