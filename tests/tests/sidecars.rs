//! Sidecars between the services and a nats-server that requires certificates.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use hermesh_mesh::{
    Error, SigningKey, SystemClock,
    bus::{Bus as _, nats::NatsBus},
    client::Client,
};
use hermesh_tests::history::{
    cluster::{Cluster, Process},
    role::{self, Engine, Role},
    workload::{StubWorkload, Workload as _},
};
use tokio::time::{sleep, timeout};

const CRASH_HISTORY: &str = env!("CARGO_BIN_EXE_crash-history");
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_sidecar_is_gone_has_no_way_to_the_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = Path::new(CRASH_HISTORY);
    let cluster = Cluster::start_with_sidecars(program, Engine::Stub, directory.path(), 1);
    let mut cluster = cluster.await.expect("starts");
    let tenant = "tenant/tenant-0";
    let sidecar = cluster.sidecar_of(tenant).expect("has a sidecar").url();
    let bus = role::connect_as(tenant, &sidecar).await;
    let (name, signing) = ("tenant-0".parse().expect("a name"), SigningKey::generate());
    let service = role::identity().verifying_key();
    let client = Client::new(bus, Arc::new(SystemClock), name, signing, service);
    // The services may still be starting.
    while client.register().await.is_err() {
        sleep(Duration::from_millis(200)).await;
    }
    let workload = StubWorkload;
    let key = client.upload_key(workload.key("tenant-0").into()).await.expect("uploads");
    let model = client.register_model(workload.model().into()).await.expect("registers");
    let submit = async |number| {
        let input = workload.input(number).into();
        client.submit(model, key, input, LIMIT).await.expect("submits")
    };
    let answer = submit(0).await.outcome(|_| {}).await.expect("an answer");
    assert!(workload.is_right(0, &answer.body));

    // Kill all of evaluation's sidecars; the services keep running.
    let gone: Vec<Process> = cluster.sidecars_of(Role::Evaluation).collect();
    assert!(!gone.is_empty());
    let address = cluster.sidecar_of("service/evaluation").expect("has a sidecar").url();
    let mut bus = role::options("service/evaluation", &address);
    bus.publish_patience = Duration::from_secs(1);
    let worker = NatsBus::connect(bus.clone()).await.expect("connects");
    worker.last("hermesh.key.none").await.expect("reads");
    for sidecar in &gone {
        cluster.kill(*sidecar).expect("is killed");
    }
    let pending = submit(1).await;
    let mut outcome = std::pin::pin!(pending.outcome(|_| {}));
    let waiting = timeout(Duration::from_secs(3), &mut outcome).await;
    assert!(waiting.is_err(), "a job without evaluation");
    let read = worker.last("hermesh.key.none").await;
    assert!(matches!(read, Err(Error::Timeout(_))), "{read:?}");
    assert!(NatsBus::connect(bus).await.is_err(), "connects to a sidecar that is gone");

    // Bypassing the sidecar does not help: without a certificate there is no connection.
    let around = role::options("service/evaluation", &cluster.server.url());
    let refused = NatsBus::connect(around).await;
    assert!(matches!(refused, Err(Error::Connect { .. })), "connects without a certificate");
    assert!(!spoken_in_plain(&cluster.server.url()).contains("PONG"), "answers without TLS");

    cluster.check().expect("the services run on");
    for sidecar in gone {
        cluster.revive(sidecar).expect("starts");
    }
    let answer = timeout(LIMIT, outcome).await.expect("goes on").expect("an answer");
    assert!(workload.is_right(1, &answer.body));
    worker.last("hermesh.key.none").await.expect("reads again");
}

/// The server's answer, after its greeting, to a client that speaks without TLS.
fn spoken_in_plain(url: &str) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://")).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("is set");
    let mut greeting = vec![0; 4096];
    assert!(stream.read(&mut greeting).expect("greets") > 0);
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").expect("is sent");
    let mut answer = String::new();
    // The server may close the connection in any way.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn runs(arguments: &[&str]) {
    let history = Command::new(CRASH_HISTORY).args(arguments).output().expect("runs");
    let text = String::from_utf8_lossy(&history.stdout);
    assert!(history.status.success(), "{text}\n{}", String::from_utf8_lossy(&history.stderr));
}

/// The short forms of the long histories.
#[test]
fn nothing_is_lost_when_sidecars_crash_as_well() {
    runs(&["--sidecars", "--jobs", "300", "--seed", "1"]);
}
