//! A broker that alters, replays, misdirects and forges messages causes only rejections, counted by reason.
//! (It can still lose messages, or report that there are none; no sidecar can prevent that.)

mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hermesh_mesh::{
    Clock as _, Error, Message, SystemClock,
    bus::{Bus as _, nats::NatsBus},
    identity::Credentials,
    seal::{Content, HeaderBlock, SEAL, seal},
    topology,
};
use hermesh_sidecar::{
    protocol::{Frame, ServerOp, Str, write_msg},
    proxy::Handshake,
};
use tokio::time::timeout;
use world::{Domain, Sidecar, broker::Broker, message, policy, until};

const TASKS: &[&str] = &["tasks-normal"];
const TASK: &str = "hermesh.task.normal.acme.07.0.1";

/// Two services and a tenant, each behind its sidecar, on a broker that is honest until told otherwise.
struct Mesh {
    domain: Domain,
    broker: Broker,
    keys: Sidecar,
    preprocessing: Sidecar,
    evaluation: Sidecar,
    tenant: Sidecar,
}

impl Mesh {
    async fn start(handshake: Handshake) -> Self {
        let domain = Domain::new();
        let broker = Broker::start(&domain, handshake).await;
        let start = async |workload| {
            Sidecar::start(domain.identity(workload), policy(""), broker.address, handshake).await
        };
        let mesh = Self {
            keys: start("service/key-management").await,
            preprocessing: start("service/preprocessing").await,
            evaluation: start("service/evaluation").await,
            tenant: start("tenant/acme").await,
            domain,
            broker,
        };
        topology::declare(&mesh.keys.bus().await).await.expect("declares");
        mesh
    }

    /// Stores a task, and pulls it while the broker tampers with it.
    async fn pulled(
        &self,
        tamper: impl Fn(&Frame<ServerOp>) -> Vec<Bytes> + Send + 'static,
    ) -> Option<Message> {
        self.broker.tamper(tamper);
        let (from, to) = (self.preprocessing.bus().await, self.evaluation.bus().await);
        from.publish(message(TASK, "a shard")).await.expect("stores");
        let pulled = timeout(Duration::from_secs(2), to.pull(TASKS)).await;
        pulled.ok().map(|pulled| pulled.expect("pulls").message)
    }
}

fn text(text: &str) -> Str {
    Str::new(text.to_owned()).expect("text")
}

/// A message that the broker sends.
struct Sent {
    subject: Str,
    sid: Str,
    reply: Option<Str>,
    headers: Option<Bytes>,
    payload: Bytes,
}

impl Sent {
    fn of(frame: &Frame<ServerOp>) -> Option<Self> {
        let ServerOp::Msg { subject, sid, reply, headers, payload } = frame.op.clone() else {
            return None;
        };
        Some(Self { subject, sid, reply, headers, payload })
    }

    fn raw(&self) -> Bytes {
        let mut raw = BytesMut::new();
        let headers = self.headers.as_deref();
        write_msg(&mut raw, &self.subject, &self.sid, self.reply.as_ref(), headers, &self.payload);
        raw.freeze()
    }

    fn replace(&mut self, from: &str, to: &str) {
        let headers = self.headers.clone().unwrap_or_default();
        let headers = String::from_utf8(headers.to_vec()).expect("text");
        assert!(headers.contains(from), "no {from} in the headers");
        self.headers = Some(headers.replace(from, to).into());
    }
}

type Alteration = fn(&mut Sent);

/// Tampers with the messages of one subject.
fn to(
    subject: &'static str,
    change: impl Fn(&mut Sent) + Send + 'static,
) -> impl Fn(&Frame<ServerOp>) -> Vec<Bytes> + Send + 'static {
    move |frame| match Sent::of(frame) {
        Some(mut sent) if sent.subject.starts_with(subject) => {
            change(&mut sent);
            vec![sent.raw()]
        }
        _ => vec![frame.raw.clone()],
    }
}

/// Makes a request on the same connection. Its reply shows that the broker has processed all earlier
/// subscriptions.
async fn settle(bus: &NatsBus, subject: &str) {
    bus.last(subject).await.expect("may be read");
}

/// A header block with a message signature by any credentials.
fn sealed(credentials: &Credentials, subject: &str, lines: &str, body: &[u8]) -> Bytes {
    let block = format!("NATS/1.0\r\n{lines}\r\n");
    let headers = HeaderBlock::parse(block.as_bytes()).expect("well-formed");
    let body = hermesh_mesh::Digest::of(body);
    let content = Content { subject, reply: "", headers: &headers, body };
    let value = seal(credentials, &[content], SystemClock.now()).expect("seals").remove(0);
    format!("NATS/1.0\r\n{lines}{SEAL}: {value}\r\n\r\n").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_broker_is_not_noticed() {
    for handshake in [Handshake::AfterInfo, Handshake::First] {
        let mesh = Mesh::start(handshake).await;
        let taken = mesh.pulled(|frame| vec![frame.raw.clone()]).await.expect("arrives");
        assert_eq!(taken, message(TASK, "a shard"));
        assert_eq!(mesh.evaluation.metrics.rejected_in_all(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_does_not_arrive() {
    let alterations: [(&str, Alteration); 7] = [
        ("broken_seal", |sent| sent.payload = "a sharf".into()),
        ("broken_seal", |sent| sent.payload = "".into()),
        ("broken_seal", |sent| sent.replace("Hermesh-Job: 07", "Hermesh-Job: 08")),
        ("broken_seal", |sent| sent.replace("Hermesh-Job: 07\r\n", "")),
        ("broken_seal", |sent| sent.subject = text("hermesh.task.normal.acme.07.0.2")),
        // The pull would read this as an empty queue, and the task would be lost.
        ("bad_seal", |sent| sent.replace("NATS/1.0", "NATS/1.0 404 No Messages")),
        ("unsealed", |sent| sent.headers = None),
    ];
    for (reason, alter) in alterations {
        let mesh = Mesh::start(Handshake::AfterInfo).await;
        let taken = mesh.pulled(to("hermesh.task.", alter)).await;
        assert_eq!(taken, None, "{reason}");
        until(reason, || mesh.evaluation.rejections(reason) > 0).await;
    }
}

/// A message altered on its way is delivered again, intact, once the broker is honest.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_once_arrives_later() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    assert_eq!(mesh.pulled(to("hermesh.task.", |sent| sent.payload = "x".into())).await, None);
    mesh.broker.behave();
    let to = mesh.evaluation.bus().await;
    let taken = timeout(world::PATIENCE, to.pull(TASKS)).await.expect("comes again");
    assert_eq!(taken.expect("pulls").message, message(TASK, "a shard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invented_does_not_arrive() {
    let domain = Domain::new();
    let stranger = domain.credentials("service/preprocessing");
    for (reason, sealer) in [
        ("untrusted", None),
        ("sealer", Some("tenant/acme")),
        ("sealer", Some("service/key-management")),
    ] {
        let mesh = Mesh::start(Handshake::AfterInfo).await;
        let credentials = sealer.map(|sealer| mesh.domain.credentials(sealer));
        let credentials = credentials.unwrap_or_else(|| stranger.clone());
        let invent = move |sent: &mut Sent| {
            sent.payload = "invented".into();
            sent.headers = Some(sealed(&credentials, &sent.subject, "", b"invented"));
        };
        assert_eq!(mesh.pulled(to("hermesh.task.", invent)).await, None, "{reason}");
        until(reason, || mesh.evaluation.rejections(reason) > 0).await;
    }
}

/// Messages on subscriptions: unsigned ones, another tenant's, and replays.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_only_what_was_said() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let tenant = mesh.tenant.bus().await;
    let mut heard = tenant.subscribe("hermesh.status.acme.07").await.expect("subscribes");
    settle(&tenant, "hermesh.answer.acme.07").await;
    let umbra = mesh.domain.credentials("tenant/umbra");
    let turn = AtomicUsize::new(0);
    mesh.broker.tamper(move |frame| match Sent::of(frame) {
        Some(mut sent) if sent.subject.starts_with("hermesh.status.") => {
            match turn.fetch_add(1, Ordering::Relaxed) {
                0 => sent.headers = None,
                1 => {
                    sent.headers = Some(sealed(&umbra, "hermesh.status.acme.07", "", &sent.payload))
                }
                2 => sent.subject = text("hermesh.status.umbra.07"),
                _ => {}
            }
            vec![sent.raw()]
        }
        _ => vec![frame.raw.clone()],
    });
    let from = mesh.preprocessing.bus().await;
    for number in 0..4 {
        // Each with its own id, because the stream recognises recent ids as duplicates.
        let status = message("hermesh.status.acme.07", format!("{number}")).with_id(number);
        from.publish(status).await.expect("stores");
    }
    let first = timeout(world::PATIENCE, heard.next()).await.expect("hears").expect("is there");
    assert_eq!(first.body, "3");
    for reason in ["unsealed", "sealer", "readdressed"] {
        assert_eq!(mesh.tenant.rejections(reason), 1, "{reason}");
    }
}

/// Requests are accepted once; replies only from a workload that serves the request, and only at its reply
/// subject.
#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_are_what_they_were() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let (keys, asker) = (mesh.keys.bus().await, mesh.preprocessing.bus().await);
    let mut requests = keys.serve("hermesh.keys.facts").await.expect("serves");
    settle(&keys, "hermesh.registry.tenant.acme").await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            count.fetch_add(1, Ordering::Relaxed);
            let body = request.message.body.clone();
            let _ = request.reply(Message::new("any", body)).await;
        }
    });
    let ask = async |body: &'static str| {
        asker.request(message("hermesh.keys.facts", body), Duration::from_millis(500)).await
    };
    assert_eq!(ask("honest").await.expect("answers").body, "honest");

    // A request that is delivered twice is served once.
    mesh.broker.tamper(|frame| match Sent::of(frame) {
        Some(sent) if &*sent.subject == "hermesh.keys.facts" => vec![sent.raw(), sent.raw()],
        _ => vec![frame.raw.clone()],
    });
    let before = served.load(Ordering::Relaxed);
    assert_eq!(ask("twice").await.expect("answers").body, "twice");
    until("replayed", || mesh.keys.rejections("replayed") == 1).await;
    assert_eq!(served.load(Ordering::Relaxed), before + 1);

    // A request with a changed reply subject is not served.
    mesh.broker.tamper(to("hermesh.keys.facts", |sent| {
        sent.reply = Some(text("_INBOX.service.preprocessing.elsewhere"));
    }));
    assert_eq!(ask("misdirected").await, Err(Error::Timeout(Duration::from_millis(500))));
    assert_eq!(mesh.keys.rejections("broken_seal"), 1);

    // Rejected replies: an altered one, one by a workload that does not serve the subject, and one to an
    // earlier request.
    let evaluation = mesh.domain.credentials("service/evaluation");
    let earlier = std::sync::Mutex::new(None::<Sent>);
    let turn = AtomicUsize::new(0);
    mesh.broker.tamper(move |frame| match Sent::of(frame) {
        Some(mut sent)
            if sent.subject.starts_with("_INBOX.service.preprocessing.")
                && sent.reply.is_none() =>
        {
            match turn.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    *earlier.lock().expect("not poisoned") = Sent::of(frame);
                    sent.payload = "altered".into();
                }
                1 => sent.headers = Some(sealed(&evaluation, &sent.subject, "", &sent.payload)),
                2 => {
                    let earlier = earlier.lock().expect("not poisoned").take().expect("was kept");
                    (sent.headers, sent.payload) = (earlier.headers, earlier.payload);
                }
                _ => {}
            }
            vec![sent.raw()]
        }
        _ => vec![frame.raw.clone()],
    });
    for reason in ["broken_seal", "sealer", "broken_seal"] {
        let before = mesh.preprocessing.rejections(reason);
        let asked = ask("true").await;
        assert_eq!(asked, Err(Error::Timeout(Duration::from_millis(500))), "{reason}");
        assert_eq!(mesh.preprocessing.rejections(reason), before + 1, "{reason}");
    }
    assert_eq!(ask("again").await.expect("answers").body, "again");
}

/// A stored message is read back unaltered, by both ways of reading.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_was_stored() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let (keys, tenant) = (mesh.keys.bus().await, mesh.tenant.bus().await);
    let record = message("hermesh.registry.tenant.acme", "a key");
    keys.publish(record.clone()).await.expect("stores");
    keys.publish(message("hermesh.registry.tenant.umbra", "another")).await.expect("stores");
    let from = mesh.preprocessing.bus().await;
    let answer = message("hermesh.answer.acme.07", "an answer");
    from.publish(answer.clone()).await.expect("stores");
    assert_eq!(keys.last(&record.subject).await, Ok(Some(record.clone())));
    assert_eq!(tenant.last(&answer.subject).await, Ok(Some(answer.clone())));

    type Rewrite = fn(String) -> String;
    let json: [(&str, &str, Rewrite); 4] = [
        ("broken_seal", "YSBrZXk=", |json| json.replace("YSBrZXk=", "YSBrZXo=")),
        ("readdressed", "tenant.acme", |json| json.replace("tenant.acme", "tenant.umbr")),
        ("unsealed", "hdrs", |json| {
            let (head, rest) = json.split_once("\"hdrs\":\"").expect("headers");
            let (_, tail) = rest.split_once("\",").expect("their end");
            format!("{head}{tail}")
        }),
        // A parser that ignores case in names, as Go's does, would read the second.
        ("unreadable", "data", |json| json.replace("\"data\"", "\"Data\":\"eA==\",\"data\"")),
    ];
    for (reason, found, alter) in json {
        mesh.broker.tamper(move |frame| match Sent::of(frame) {
            Some(mut sent)
                if sent
                    .payload
                    .starts_with(b"{\"type\":\"io.nats.jetstream.api.v1.stream_msg_get") =>
            {
                let json = String::from_utf8(sent.payload.to_vec()).expect("JSON");
                assert!(json.contains(found), "{json}");
                sent.payload = alter(json).into();
                vec![sent.raw()]
            }
            _ => vec![frame.raw.clone()],
        });
        assert_eq!(keys.last(&record.subject).await, Ok(None), "{reason}");
        assert_eq!(mesh.keys.rejections(reason), 1, "{reason}");
    }

    let direct: [(&str, Alteration); 3] = [
        ("broken_seal", |sent| sent.payload = "another answer".into()),
        ("readdressed", |sent| {
            sent.replace(
                "Nats-Subject: hermesh.answer.acme.07",
                "Nats-Subject: hermesh.answer.acme.08",
            )
        }),
        ("unsealed", |sent| {
            sent.headers = Some("NATS/1.0\r\nNats-Subject: hermesh.answer.acme.07\r\n\r\n".into())
        }),
    ];
    for (reason, alter) in direct {
        mesh.broker.tamper(move |frame| match Sent::of(frame) {
            Some(mut sent)
                if sent.headers.as_deref().is_some_and(|headers| {
                    String::from_utf8_lossy(headers).contains("Nats-Subject")
                }) =>
            {
                alter(&mut sent);
                vec![sent.raw()]
            }
            _ => vec![frame.raw.clone()],
        });
        assert_eq!(tenant.last(&answer.subject).await, Ok(None), "{reason}");
        assert_eq!(mesh.tenant.rejections(reason), 1, "{reason}");
    }
    mesh.broker.behave();
    assert_eq!(tenant.last(&answer.subject).await, Ok(Some(answer)));
}

/// A status line makes a message the broker's own. With headers or a body it is rejected, however a client
/// would read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_carries_nothing() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let keys = mesh.keys.bus().await;
    let mut requests = keys.serve("hermesh.keys.facts").await.expect("serves");
    settle(&keys, "hermesh.registry.tenant.acme").await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let _ = request.reply(Message::new("any", "true")).await;
        }
    });
    let asker = mesh.preprocessing.bus().await;
    for forged in ["200", "503", "503 No Responders", "100"] {
        mesh.broker.tamper(to("_INBOX.service.preprocessing.", move |sent| {
            let lines = "ce-type: hermesh.facts\r\nHermesh-Key-Owner: mallory";
            sent.headers = Some(format!("NATS/1.0 {forged}\r\n{lines}\r\n\r\n").into());
            sent.payload = Bytes::new();
        }));
        let wait = Duration::from_millis(300);
        let asked = asker.request(message("hermesh.keys.facts", "?"), wait).await;
        assert_eq!(asked, Err(Error::Timeout(wait)), "{forged}");
    }
    // Characters that only some parsers treat as white space: to some this is a delivery, to others a
    // status.
    for first in ["NATS/1.0 \u{a0}", "NATS/1.0 40", "NATS/1.0 4040"] {
        let mesh = Mesh::start(Handshake::AfterInfo).await;
        let invent = move |sent: &mut Sent| {
            sent.headers = Some(format!("{first}\r\nHermesh-Tenant: acme\r\n\r\n").into());
        };
        assert_eq!(mesh.pulled(to("hermesh.task.", invent)).await, None, "{first:?}");
        until("unreadable", || mesh.evaluation.rejections("unreadable") > 0).await;
        let dead = mesh.keys.metrics.rejected_in_all();
        assert_eq!(dead, 0, "something was buried");
    }
}

/// A broker that cannot read its store must not appear to say that nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_say_is_asked_again() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let (keys, tenant) = (mesh.keys.bus().await, mesh.tenant.bus().await);
    let record = message("hermesh.registry.tenant.acme", "a key");
    keys.publish(record.clone()).await.expect("stores");
    let answer = message("hermesh.answer.acme.07", "an answer");
    mesh.preprocessing.bus().await.publish(answer.clone()).await.expect("stores");
    let turns = Arc::new(AtomicUsize::new(0));
    let turn = turns.clone();
    mesh.broker.tamper(move |frame| match Sent::of(frame) {
        Some(mut sent) if sent.subject.starts_with("_INBOX.") && !sent.payload.is_empty() => {
            if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                sent.headers = Some("NATS/1.0 503\r\n\r\n".into());
                sent.payload = Bytes::new();
            }
            vec![sent.raw()]
        }
        _ => vec![frame.raw.clone()],
    });
    assert_eq!(keys.last(&record.subject).await, Ok(Some(record)));
    assert_eq!(tenant.last(&answer.subject).await, Ok(Some(answer)));
    assert!(turns.load(Ordering::Relaxed) >= 4, "nothing was kept back");
    assert_eq!(mesh.keys.metrics.rejected_in_all() + mesh.tenant.metrics.rejected_in_all(), 0);
}

/// Messages that the workload did not ask for do not arrive, on whatever subject they are sent.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_unasked() {
    let mesh = Mesh::start(Handshake::AfterInfo).await;
    let bus: NatsBus = mesh.evaluation.bus().await;
    // Another workload's job, a request and a reply, all correctly signed, on the subscription of an
    // expected reply.
    let preprocessing = mesh.domain.credentials("service/preprocessing");
    mesh.broker.tamper(move |frame| match Sent::of(frame) {
        Some(sent) if sent.subject.starts_with("_INBOX.service.evaluation.") => {
            let forged = |subject: &str| {
                let headers = Some(sealed(&preprocessing, subject, "", b"forged"));
                let (sid, subject) = (sent.sid.clone(), text(subject));
                let reply = Some(text("$JS.ACK.hermesh-jobs.jobs.1.1.1.1.0"));
                Sent { subject, sid, reply, headers, payload: "forged".into() }.raw()
            };
            let own = "_INBOX.service.evaluation.nobody.asked";
            vec![forged("hermesh.job.acme"), forged("hermesh.keys.facts"), forged(own), sent.raw()]
        }
        _ => vec![frame.raw.clone()],
    });
    assert_eq!(bus.last("hermesh.joined.acme.07.0").await, Ok(None));
    assert_eq!(mesh.evaluation.rejections("readdressed"), 3);
}
