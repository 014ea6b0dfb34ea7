//! The services as processes on a real nats-server.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use hermesh_embedded::{Embedded, Options};
use hermesh_mesh::{
    SigningKey, SystemClock,
    client::Client,
    nats_server::{NatsServer, NatsServerOptions},
};
use hermesh_tests::{
    history::{
        cluster::Cluster,
        role::{self, Engine},
        workload::Workload as _,
    },
    real::RealWorkload,
};

const LIMIT: Duration = Duration::from_secs(600);
const CRASH_HISTORY: &str = env!("CARGO_BIN_EXE_crash-history");

/// The answers are equal byte for byte.
#[test]
fn the_embedded_mesh_and_the_one_over_nats_give_the_same_answers() {
    let workload = RealWorkload::new();
    let numbers = 0..4;
    let (name, signing) = ("acme".parse().expect("a valid name"), SigningKey::generate());
    let embedded = Embedded::start(Options::default()).expect("starts");
    let tenant = embedded.register_tenant(name, signing).expect("registers");
    let model = tenant.register_model(workload.model()).expect("registers");
    let key = tenant.upload_key(workload.key("acme")).expect("uploads");
    let here: Vec<_> = numbers
        .clone()
        .map(|number| {
            let answer = tenant.infer(model, key, workload.input(number), LIMIT, |_| {});
            answer.expect("an answer").body
        })
        .collect();

    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let there: Vec<_> = runtime.expect("builds").block_on(async {
        let server = NatsServer::start(NatsServerOptions::new(directory.path().join("nats")));
        let server = server.await.expect("nats-server starts");
        let url = server.url();
        let program = Path::new(CRASH_HISTORY);
        let cluster = Cluster::start(server, program, Engine::Real, directory.path());
        let _cluster = cluster.expect("starts");
        let bus = role::connect(&url).await;
        let (name, signing) = ("acme".parse().expect("a valid name"), SigningKey::generate());
        let service = role::identity().verifying_key();
        let client = Client::new(bus, Arc::new(SystemClock), name, signing, service);
        // The services may still be starting.
        while client.register().await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let key = client.upload_key(workload.key("acme").into()).await.expect("uploads");
        let model = client.register_model(workload.model().into()).await.expect("registers");
        let mut answers = Vec::new();
        for number in numbers {
            let input = workload.input(number).into();
            let pending = client.submit(model, key, input, LIMIT).await.expect("submits");
            answers.push(pending.outcome(|_| {}).await.expect("an answer").body);
        }
        answers
    });
    for (number, (here, there)) in here.iter().zip(&there).enumerate() {
        assert!(workload.is_right(number, here) && workload.is_right(number, there));
        assert_eq!(here, there, "job {number}");
    }
}

/// The short form of the long histories, with the same processes and faults.
#[test]
fn nothing_is_lost_in_a_short_history_of_crashes() {
    let history =
        Command::new(CRASH_HISTORY).args(["--jobs", "400", "--seed", "7"]).output().expect("runs");
    let text = String::from_utf8_lossy(&history.stdout);
    assert!(history.status.success(), "{text}\n{}", String::from_utf8_lossy(&history.stderr));
}
