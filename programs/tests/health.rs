//! The programs in one process, against a real nats-server.

#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{LIMIT, get, ready, ready_is, system};
use hermesh_mesh::{
    Error as MeshError, SigningKey,
    actor::Environment,
    nats_server::{NatsServer, NatsServerOptions},
};
use hermesh_programs::{
    Aggregation, Bound, Error, Evaluation, KeyManagement, Preprocessing, Program, build,
    config::{Config, Range},
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{sync::Semaphore, time::timeout};

async fn server(directory: &TempDir) -> NatsServer {
    NatsServer::start(NatsServerOptions::new(directory.path().join("nats"))).await.unwrap()
}

fn config<P: Program>(url: &str) -> Config<P::Options> {
    let mut config = Config::default();
    config.nats.url = url.into();
    config.nats.request_timeout = Duration::from_secs(2);
    config.drain = Duration::from_secs(5);
    config
}

async fn end(bound: Bound) -> Result<(), Error> {
    bound.stopper().stop();
    timeout(LIMIT, bound.ended()).await.expect("ends")
}

#[test]
fn all_four_are_ready_while_the_broker_is_there() {
    system(async {
        let directory = TempDir::new().unwrap();
        let mut nats = server(&directory).await;
        let url = nats.url();
        let mut signing = config::<Aggregation>(&url);
        signing.identity = Some(directory.path().join("key"));
        let programs = [
            (
                KeyManagement::NAME,
                build::<KeyManagement>(config::<KeyManagement>(&url)).await.unwrap(),
            ),
            (
                Preprocessing::NAME,
                build::<Preprocessing>(config::<Preprocessing>(&url)).await.unwrap(),
            ),
            (Evaluation::NAME, build::<Evaluation>(config::<Evaluation>(&url)).await.unwrap()),
            (Aggregation::NAME, build::<Aggregation>(signing).await.unwrap()),
        ];
        for (_, program) in &programs {
            assert_ne!(program.address().port(), 0);
            ready_is(program.address(), 200, "ready").await;
            assert_eq!(get(program.address(), "/healthz").await.unwrap().0, 200);
            // `client/tests/mesh.rs` checks the contents of the metrics after some work.
            assert_eq!(get(program.address(), "/metrics").await.unwrap().0, 200);
            assert_eq!(get(program.address(), "/").await.unwrap().0, 404);
        }
        nats.kill();
        for (_, program) in &programs {
            ready_is(program.address(), 503, "NATS").await;
            assert_eq!(get(program.address(), "/healthz").await.unwrap().0, 200);
        }
        nats.restart().await.unwrap();
        for (_, program) in &programs {
            ready_is(program.address(), 200, "ready").await;
        }
        for (name, program) in programs {
            let address = program.address();
            end(program).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(get(address, "/healthz").await, None, "{name} still listens");
        }
    });
}

#[test]
fn a_program_that_starts_before_its_broker_waits_for_it() {
    system(async {
        let directory = TempDir::new().unwrap();
        let mut nats = server(&directory).await;
        nats.kill();
        let program = build::<Evaluation>(config::<Evaluation>(&nats.url())).await.unwrap();
        ready_is(program.address(), 503, &nats.url()).await;
        assert_eq!(get(program.address(), "/healthz").await.unwrap().0, 200);
        nats.restart().await.unwrap();
        ready_is(program.address(), 200, "ready").await;
        end(program).await.unwrap();

        // The program can be stopped while it waits.
        nats.kill();
        let program = build::<Evaluation>(config::<Evaluation>(&nats.url())).await.unwrap();
        ready_is(program.address(), 503, "").await;
        end(program).await.unwrap();
    });
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    system(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config::<Evaluation>("nats://127.0.0.1:1");
        config.http.listen = taken.local_addr().unwrap();
        let error = build::<Evaluation>(config).await.err().expect("is refused");
        assert!(
            matches!(error, Error::Listen { address, .. } if address == taken.local_addr().unwrap())
        );
    });
}

/// A service whose start and stop the test controls.
struct Told;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Script {
    /// Whether its start fails without hope of a retry.
    hopeless: bool,
}

thread_local! {
    static STOPPING: Arc<Semaphore> = Arc::new(Semaphore::new(0));
}

impl Program for Told {
    const NAME: &'static str = "told";
    const COMMAND: &'static str = "told";
    const PORT: u16 = 1;
    const DOCUMENTED: &'static str = "";
    const RANGES: &'static [Range] = &[];

    type Options = Script;
    type Handle = ();

    async fn start(script: Script, _: Environment, _: Option<SigningKey>) -> Result<(), MeshError> {
        if script.hopeless {
            return Err(MeshError::QueueMismatch {
                name: "jobs".into(),
                field: "max_messages",
                found: "1".into(),
                expected: "2".into(),
            });
        }
        Ok(())
    }

    async fn stop((): (), patience: Duration) {
        assert_eq!(patience, Duration::from_secs(5));
        let stopping = STOPPING.with(Arc::clone);
        stopping.acquire().await.unwrap().forget();
    }
}

#[test]
fn a_program_that_drains_is_not_ready_but_alive() {
    system(async {
        let directory = TempDir::new().unwrap();
        let nats = server(&directory).await;
        let program = build::<Told>(config::<Told>(&nats.url())).await.unwrap();
        let address = program.address();
        ready_is(address, 200, "ready").await;
        let ended = tokio::task::spawn_local(end(program));
        ready_is(address, 503, "draining").await;
        assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
        assert!(!ended.is_finished());
        STOPPING.with(|stopping| stopping.add_permits(1));
        ended.await.unwrap().unwrap();
    });
}

#[test]
fn what_no_waiting_helps_against_ends_the_program() {
    system(async {
        let directory = TempDir::new().unwrap();
        let nats = server(&directory).await;
        let mut config = config::<Told>(&nats.url());
        config.service.hopeless = true;
        let program = build::<Told>(config).await.unwrap();
        assert_eq!(ready(program.address()).await.0, 503);
        let error = timeout(LIMIT, program.ended()).await.unwrap().unwrap_err();
        let Error::Service(error) = error else { panic!("{error}") };
        assert!(matches!(*error, MeshError::QueueMismatch { .. }), "{error}");
    });
}
