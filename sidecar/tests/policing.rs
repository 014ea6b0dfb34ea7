//! What a sidecar refuses to its own workload, in nats-server's words, and when it ends its connection.

mod world;

use std::time::Duration;

use hermesh_mesh::{bus::Bus as _, topology};
use hermesh_sidecar::proxy::Handshake;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use world::{Domain, Sidecar, broker::Broker, policy};

struct Raw(BufReader<TcpStream>);

impl Raw {
    async fn connect(sidecar: &Sidecar) -> Self {
        let stream = TcpStream::connect(sidecar.address).await.expect("connects");
        let mut raw = Self(BufReader::new(stream));
        assert!(raw.line().await.starts_with("INFO {"));
        raw
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("writes");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        // Skip the server's own PINGs.
        while line.is_empty() || line == "PING\r\n" {
            line.clear();
            let read = timeout(world::PATIENCE, self.0.read_line(&mut line)).await;
            if read.expect("an answer").expect("reads") == 0 {
                return String::new();
            }
        }
        line.trim_end().to_owned()
    }
}

async fn world(workload: &str) -> (Domain, Broker, Sidecar) {
    let domain = Domain::new();
    let broker = Broker::start(&domain, Handshake::AfterInfo).await;
    let identity = domain.identity(workload);
    let sidecar = Sidecar::start(identity, policy(""), broker.address, Handshake::AfterInfo).await;
    (domain, broker, sidecar)
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_the_servers_words() {
    let (_domain, _broker, sidecar) = world("tenant/acme").await;
    let mut raw = Raw::connect(&sidecar).await;
    raw.say("CONNECT {\"verbose\":false}\r\nPING\r\n").await;
    assert_eq!(raw.line().await, "PONG");
    for (said, heard) in [
        (
            "PUB hermesh.job.umbra 1\r\nx\r\n",
            "-ERR 'Permissions Violation for Publish to \"hermesh.job.umbra\"'",
        ),
        (
            "PUB $JS.API.STREAM.DELETE.hermesh-jobs 0\r\n\r\n",
            "-ERR 'Permissions Violation for Publish to \"$JS.API.STREAM.DELETE.hermesh-jobs\"'",
        ),
        (
            "PUB hermesh.job.acme _INBOX.tenant.umbra.1 1\r\nx\r\n",
            "-ERR 'Permissions Violation for Publish to \"hermesh.job.acme\"'",
        ),
        (
            "PUB _INBOX.tenant.umbra.1 1\r\nx\r\n",
            "-ERR 'Permissions Violation for Publish to \"_INBOX.tenant.umbra.1\"'",
        ),
        (
            "SUB hermesh.answer.umbra.* 1\r\n",
            "-ERR 'Permissions Violation for Subscription to \"hermesh.answer.umbra.*\"'",
        ),
        ("SUB > 1\r\n", "-ERR 'Permissions Violation for Subscription to \">\"'"),
        ("SUB _INBOX.> 1\r\n", "-ERR 'Permissions Violation for Subscription to \"_INBOX.>\"'"),
        (
            "SUB hermesh.keys.> hermesh 1\r\n",
            "-ERR 'Permissions Violation for Subscription to \"hermesh.keys.>\" using queue \"hermesh\"'",
        ),
    ] {
        raw.say(said).await;
        assert_eq!(raw.line().await, heard);
    }
    assert_eq!(
        sidecar.refusals("denied")
            + sidecar.refusals("foreign_inbox")
            + sidecar.refusals("unasked"),
        8
    );
    // Subjects for one message store it only if there is none, and headers that are not text are refused.
    let hpub = |subject: &str, lines: &[u8]| {
        let block = [b"NATS/1.0\r\n", lines, b"\r\n"].concat();
        let line = format!("HPUB {subject} {} {}\r\n", block.len(), block.len() + 1);
        [line.as_bytes(), &block, b"x\r\n"].concat()
    };
    let once: &[u8] = b"Nats-Expected-Last-Subject-Sequence: 0\r\n";
    for (lines, may) in [
        (once, true),
        (b"".as_slice(), false),
        (b"Nats-Expected-Last-Subject-Sequence: 7\r\n", false),
        (b"Nats-Expected-Last-Subject-Sequence: 0\r\nNats-Rollup: all\r\n", false),
        (b"Nats-Expected-Last-Subject-Sequence: 0\r\nX: \xff\r\n", false),
        (b"Nats-Expected-Last-Subject-Sequence: 0\r\nhermesh-seal: x\r\n", false),
    ] {
        raw.say(hpub("hermesh.upload.acme.d1.1.0", lines)).await;
        raw.say("PING\r\n").await;
        let refused = "-ERR 'Permissions Violation for Publish to \"hermesh.upload.acme.d1.1.0\"'";
        if !may {
            assert_eq!(raw.line().await, refused);
        }
        assert_eq!(raw.line().await, "PONG", "{}", String::from_utf8_lossy(lines));
    }
    // The connection is still usable.
    raw.say("PING\r\n").await;
    assert_eq!(raw.line().await, "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_hear_of_every_step_does() {
    let (_domain, _broker, sidecar) = world("tenant/acme").await;
    let mut raw = Raw::connect(&sidecar).await;
    raw.say("CONNECT {\"verbose\":true}\r\nSUB hermesh.answer.acme.* 1\r\nPUB hermesh.job.umbra 1\r\nx\r\nPING\r\n").await;
    // For CONNECT, and for SUB.
    assert_eq!(raw.line().await, "+OK");
    assert_eq!(raw.line().await, "+OK");
    assert!(raw.line().await.starts_with("-ERR 'Permissions Violation for Publish"));
    assert_eq!(raw.line().await, "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_no_protocol_ends_the_connection() {
    let (_domain, _broker, sidecar) = world("tenant/acme").await;
    for (said, heard) in [
        ("PUB hermesh.job.acme 99999999\r\n", "-ERR 'Maximum Payload Violation'"),
        ("MSG hermesh.job.acme 1 1\r\nx\r\n", "-ERR 'Unknown Protocol Operation'"),
        ("GET / HTTP/1.1\r\n\r\n", "-ERR 'Unknown Protocol Operation'"),
    ] {
        let mut raw = Raw::connect(&sidecar).await;
        raw.say("CONNECT {}\r\n").await;
        raw.say(said).await;
        assert_eq!(raw.line().await, heard);
        assert_eq!(raw.line().await, "", "it is closed");
    }
    // A client that does not begin with CONNECT is refused.
    let mut raw = Raw::connect(&sidecar).await;
    raw.say("PING\r\n").await;
    assert_eq!(raw.line().await, "-ERR 'Authorization Violation'");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_connections_that_are_there() {
    for revoked in ["spiffe://hermesh.local/service/evaluation", "sha256"] {
        let (_domain, _broker, sidecar) = world("service/evaluation").await;
        let mut raw = Raw::connect(&sidecar).await;
        raw.say("CONNECT {}\r\nPING\r\n").await;
        assert_eq!(raw.line().await, "PONG");
        let fingerprint = sidecar.identity.borrow().credentials.peer().fingerprint;
        let entry = match revoked {
            "sha256" => format!("sha256:{fingerprint}"),
            id => id.to_owned(),
        };
        sidecar.policy.send_replace(policy_revoking(&entry).into());
        assert_eq!(raw.line().await, "-ERR 'User Authentication Revoked'");
        assert_eq!(raw.line().await, "", "it is closed");
    }
}

fn policy_revoking(entry: &str) -> hermesh_mesh::policy::Policy {
    let text = hermesh_mesh::policy::Policy::default_text();
    let text = text.replace("revoked = []", &format!("revoked = [\"{entry}\"]"));
    hermesh_mesh::policy::Policy::parse(&text).expect("a policy")
}

/// A workload's certificate expires, and there is no new one.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_expired_is_heard_no_more() {
    use hermesh_mesh::{Clock as _, SystemClock, issuer::Grant};
    use hermesh_sidecar::source::Identity;
    let domain = Domain::new();
    let broker = Broker::start(&domain, Handshake::AfterInfo).await;
    let until = SystemClock.now().plus(Duration::from_secs(4));
    let grant = Grant { until, ..Domain::grant("service/evaluation") };
    let credentials = domain.authority.credentials(&grant).expect("issues");
    let identity = Identity { credentials, trust: domain.trust() }.into();
    let sidecar = Sidecar::start(identity, policy(""), broker.address, Handshake::AfterInfo).await;
    let mut raw = Raw::connect(&sidecar).await;
    raw.say("CONNECT {}\r\nPING\r\n").await;
    assert_eq!(raw.line().await, "PONG");
    assert_eq!(raw.line().await, "-ERR 'User Authentication Expired'");
}

/// A message without signature, published around the sidecar, is removed from its queue.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_sealed_is_taken_out_of_its_queue() {
    use hermesh_mesh::bus::nats::{NatsBus, NatsOptions};
    let (_domain, broker, sidecar) = world("service/preprocessing").await;
    let options = NatsOptions { url: broker.server.url(), ..NatsOptions::default() };
    let around = NatsBus::connect(options).await.expect("connects");
    topology::declare(&around).await.expect("declares");
    around.publish(world::message("hermesh.job.acme", "x")).await.expect("stores");
    let bus = sidecar.bus().await;
    let pulled = timeout(Duration::from_secs(2), bus.pull(&[topology::JOBS])).await;
    assert!(pulled.is_err(), "it was delivered");
    assert_eq!(sidecar.rejections("unsealed"), 1);
    let gone = async {
        while around.subjects("hermesh.job.*").await != Ok(Vec::new()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(world::PATIENCE, gone).await.expect("it is taken out");
}
