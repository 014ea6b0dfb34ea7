//! Runs services as threads of this process, each with its own connection to the broker.

use std::{sync::Arc, thread::JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use hermesh_mesh::{
    SigningKey, SystemClock,
    actor::Environment,
    bus::{
        BusHandle,
        nats::{NatsBus, NatsOptions},
    },
    telemetry::Metrics,
};
use prometheus::Registry;
use tokio::sync::oneshot;

use super::timed::Timed;

/// The kind of service.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    KeyManagement,
    Preprocessing,
    Evaluation,
    Aggregation,
}

/// A running service; dropping it stops it.
pub(super) struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts a service and waits until it is ready.
    pub(super) fn start(
        role: Role,
        engine: Timed,
        url: &str,
        identity: &SigningKey,
    ) -> Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (url, identity) = (url.to_owned(), identity.clone());
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                match run(role, engine, &url, identity).await {
                    Ok(_running) => {
                        let _ = ready.send(Ok(()));
                        // The service stops when the starting thread drops the sender.
                        let _ = stopped.await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        is_ready.recv().map_err(|_| anyhow!("the {role:?} thread ended by itself"))??;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed its message already.
            let _ = thread.join();
        }
    }
}

/// A separate connection.
pub(super) async fn connect(url: &str) -> Result<BusHandle> {
    let options = NatsOptions { url: url.to_owned(), ..NatsOptions::default() };
    Ok(Arc::new(NatsBus::connect(options).await?))
}

async fn run(
    role: Role,
    engine: Timed,
    url: &str,
    identity: SigningKey,
) -> Result<Box<dyn std::any::Any>> {
    let environment = Environment {
        bus: connect(url).await.context("cannot connect")?,
        clock: Arc::new(SystemClock),
        metrics: Metrics::new("bench", &Registry::new())?,
    };
    let engine = Arc::new(engine);
    Ok(match role {
        Role::KeyManagement => {
            let options = hermesh_key_management::Options::default();
            Box::new(hermesh_key_management::start(options, environment, engine).await?)
        }
        Role::Preprocessing => {
            let options = hermesh_preprocessing::Options::default();
            Box::new(hermesh_preprocessing::start(options, environment, engine).await?)
        }
        Role::Evaluation => {
            // A machine of one core.
            let options = hermesh_evaluation::Options {
                threads: 1,
                in_flight: 1,
                ..hermesh_evaluation::Options::default()
            };
            Box::new(hermesh_evaluation::start(options, environment, engine).await?)
        }
        Role::Aggregation => {
            let options = hermesh_aggregation::Options::default();
            Box::new(hermesh_aggregation::start(options, environment, engine, identity).await?)
        }
    })
}
