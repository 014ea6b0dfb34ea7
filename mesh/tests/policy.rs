//! Enforcement of the policy: by a guarded bus, and by the generated configuration of nats-server.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use hermesh_mesh::{
    Error, Message,
    bus::{Bus, Published, guarded::GuardedBus, memory::MemoryBus},
    identity::SpiffeId,
    issuer::{Authority, Grant, Uses},
    policy::{
        Policy, Verb,
        nats::{ServerOptions, render},
    },
    topology,
};
use rcgen::KeyPair;

fn policy() -> Arc<Policy> {
    let policy = Policy::parse(Policy::default_text()).expect("the default is good");
    let tenants = ["acme", "umbra"].map(|name| name.parse().expect("is a name"));
    Arc::new(policy.admitting(tenants).expect("has rules for tenants"))
}

fn id(workload: &str) -> SpiffeId {
    SpiffeId::new("hermesh.local", workload).expect("is one")
}

fn guarded(bus: &MemoryBus, workload: &str) -> GuardedBus {
    GuardedBus::new(Arc::new(bus.clone()), policy(), id(workload))
}

fn denied<T: std::fmt::Debug>(result: Result<T, Error>, verb: Verb) {
    match result {
        Err(Error::Denied(denied)) => assert_eq!(denied.verb, verb, "{denied}"),
        other => panic!("{verb} is not denied: {other:?}"),
    }
}

async fn bus() -> MemoryBus {
    let bus = MemoryBus::default();
    topology::declare(&bus).await.expect("declares");
    bus
}

#[tokio::test]
async fn a_guarded_bus_passes_on_what_is_allowed() {
    let bus = bus().await;
    let (acme, preprocessing) =
        (guarded(&bus, "tenant/acme"), guarded(&bus, "service/preprocessing"));
    topology::declare(&preprocessing).await.expect("declares");
    let job = Message::new("hermesh.job.acme", "job").with_id("a");
    assert_eq!(acme.publish(job).await, Ok(Published::Stored));
    let delivery = preprocessing.pull(&["jobs"]).await.expect("pulls");
    let (handle, message) = (delivery.handle(), delivery.message.clone());
    preprocessing.adopt(&handle, message).await.expect("adopts").ack().await.expect("settles");
    let mut heard = acme.subscribe("hermesh.status.acme.*").await.expect("subscribes");
    let status = Message::new("hermesh.status.acme.0", "").with_id("b");
    preprocessing.emit(status.clone()).await.expect("emits");
    assert_eq!(heard.next().await, Some(status.clone()));
    assert_eq!(acme.last("hermesh.status.acme.0").await, Ok(Some(status)));
    assert_eq!(acme.exists("hermesh.answer.acme.0").await, Ok(false));
    assert_eq!(acme.subjects("hermesh.service.*").await, Ok(vec![]));
    assert_eq!(preprocessing.purge("hermesh.refused.acme.0.1").await, Ok(()));
    let mut orders = preprocessing.serve("hermesh.cancel.*").await.expect("serves");
    let asking = acme.request(Message::new("hermesh.cancel.acme", ""), Duration::from_secs(1));
    let answering = async {
        let order = orders.next().await.expect("is asked");
        order.reply(Message::new("", "yes")).await.expect("answers");
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.expect("is answered").body, "yes");
}

#[tokio::test]
async fn a_guarded_bus_refuses_the_rest() {
    let bus = bus().await;
    let acme = guarded(&bus, "tenant/acme");
    let message = |subject: &str| Message::new(subject, "").with_id("a");
    denied(acme.declare(&topology::queues()[0]).await, Verb::Declare);
    denied(acme.publish(message("hermesh.job.umbra")).await, Verb::Publish);
    denied(acme.emit(message("hermesh.answer.acme.0")).await, Verb::Publish);
    let ask = acme.request(message("hermesh.cancel.umbra"), Duration::from_secs(1));
    denied(ask.await, Verb::Publish);
    denied(acme.pull(&["jobs"]).await, Verb::Pull);
    denied(acme.adopt("jobs/1/1", message("hermesh.job.acme")).await, Verb::Pull);
    denied(acme.last("hermesh.answer.umbra.0").await, Verb::Read);
    denied(acme.exists("hermesh.key.0.1.0").await, Verb::Read);
    denied(acme.subjects("hermesh.answer.acme.*").await, Verb::Read);
    denied(acme.purge("hermesh.upload.acme.0.*.*").await, Verb::Purge);
    denied(acme.subscribe("hermesh.answer.>").await, Verb::Subscribe);
    denied(acme.serve("hermesh.keys.facts").await, Verb::Serve);
    assert!(matches!(acme.last("hermesh.answer.acme.*").await, Err(Error::Malformed { .. })));
    // One forbidden queue among several is refused.
    let evaluation = guarded(&bus, "service/evaluation");
    denied(evaluation.pull(&["tasks-express", "jobs"]).await, Verb::Pull);
    denied(guarded(&bus, "service/unknown").exists("hermesh.answer.acme.0").await, Verb::Read);
    // None of these calls has reached the bus.
    assert!(bus.traffic().is_empty(), "{:?}", bus.traffic());
    assert!(
        !Error::from(policy().check(&id("a/b"), Verb::Pull, "jobs").expect_err("x")).retryable()
    );
}

/// Creates a directory with a server certificate, and the options that refer to it.
fn options(directory: &Path) -> ServerOptions {
    let now = hermesh_mesh::Clock::now(&hermesh_mesh::SystemClock);
    let until = now.plus(Duration::from_secs(3600));
    let authority = Authority::create("hermesh.local", now, until).expect("creates a root");
    let key = KeyPair::generate().expect("makes a key");
    let grant = Grant {
        id: id("broker/nats"),
        hosts: vec!["127.0.0.1".into()],
        uses: Uses::ServerOnly,
        from: now,
        until,
    };
    let chain = authority.sign(&grant, &key).expect("signs");
    let file = |name: &str, tag: &str, der: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, pem(tag, der)).expect("writes");
        path
    };
    let roots = directory.join("roots.pem");
    fs::write(&roots, authority.certificate()).expect("writes");
    ServerOptions {
        listen: ([127, 0, 0, 1], 4222).into(),
        monitoring: Some(8222),
        certificate: file("broker.pem", "CERTIFICATE", &chain.certificates()[0]),
        key: file("broker.key", "PRIVATE KEY", &key.serialize_der()),
        roots,
        store: directory.join("a \"store\""),
        log: Some(directory.join("nats.log")),
        max_payload: 8 << 20,
        handshake_first: false,
        sync_always: false,
    }
}

fn pem(tag: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", lines.join("\n"))
}

#[test]
fn nats_server_takes_the_configuration() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let configuration = directory.path().join("nats.conf");
    let text = render(&policy(), &options(directory.path()));
    fs::write(&configuration, &text).expect("writes");
    let check =
        |program: &str| Command::new(program).arg("-t").arg("-c").arg(&configuration).output();
    let output = check("nats-server").or_else(|_| check("/usr/sbin/nats-server")).expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
}

#[test]
fn the_configuration_has_a_user_for_each_that_has_business_on_the_bus() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let options = options(directory.path());
    let text = render(&policy(), &options);
    let users = |text: &str| -> Vec<String> {
        let users = text.lines().filter_map(|line| line.trim().strip_prefix("user: \""));
        users.map(|user| user.trim_end_matches('"').to_owned()).collect()
    };
    let services = ["aggregation", "evaluation", "key-management", "preprocessing"];
    let services = services.map(|name| format!("service/{name}"));
    let expected = services.into_iter().chain(["tenant/acme".into(), "tenant/umbra".into()]);
    let expected: Vec<String> = expected.map(|name| id(&name).to_string()).collect();
    assert_eq!(users(&text), expected);
    assert!(text.contains("verify_and_map: true") && text.contains("http: \"127.0.0.1:8222\""));
    assert!(!text.contains("no_auth_user") && !text.contains("password"));
    assert!(!text.contains("handshake_first") && !text.contains("sync_interval"));
    let newer = ServerOptions { handshake_first: true, sync_always: true, ..options.clone() };
    let newer = render(&policy(), &newer);
    assert!(newer.contains("handshake_first: true") && newer.contains("sync_interval: always"));
    let revoked = "revoked = [\"spiffe://hermesh.local/service/evaluation\"]";
    let revoked = Policy::default_text().replace("revoked = []", revoked);
    let revoked = Policy::parse(&revoked).expect("is good");
    assert!(!users(&render(&revoked, &options)).contains(&id("service/evaluation").to_string()));
}
