//! One service as its own process, with the stub or the real engine.

use std::{any::Any, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use hermesh_mesh::{
    Error, SigningKey, SystemClock,
    actor::Environment,
    bus::{
        BusHandle,
        nats::{NatsBus, NatsOptions},
    },
    identity::SpiffeId,
    telemetry::Metrics,
};
use prometheus::Registry;
use tokio::time::sleep;

use super::{PER_SHARD, recorder::Recorder, trust::DOMAIN};
use crate::{mesh::guarded, stub::Stub};

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Key management.
    KeyManagement,
    /// Preprocessing.
    Preprocessing,
    /// Evaluation.
    Evaluation,
    /// Aggregation.
    Aggregation,
}

impl Engine {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stub => "stub",
            Self::Real => "real",
        }
    }
}

impl Role {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyManagement => "key-management",
            Self::Preprocessing => "preprocessing",
            Self::Evaluation => "evaluation",
            Self::Aggregation => "aggregation",
        }
    }
}

/// The engine of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Plain numbers.
    Stub,
    /// TFHE.
    Real,
}

/// How a process is started.
#[derive(Debug, Args)]
pub struct Process {
    /// The service.
    pub role: Role,
    /// The engine.
    pub engine: Engine,
    /// The server.
    pub nats: String,
    /// The directory for its events.
    pub events: PathBuf,
    /// Whether the server is a sidecar, which permits subscriptions in the process's own inbox only.
    #[arg(long)]
    pub sidecar: bool,
}

/// The receipt signing key, a constant that all replicas share.
pub fn identity() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// Runs the service until the process is killed.
///
/// # Errors
/// The service cannot start.
pub fn run(process: &Process) -> anyhow::Result<()> {
    actix::System::new().block_on(async {
        let workload = format!("service/{}", process.role.name());
        let bus = match process.sidecar {
            true => connect_as(&workload, &process.nats).await,
            false => connect(&process.nats).await,
        };
        let id = format!("{}.{}", process.role.name(), std::process::id());
        let log = process.events.join(&id);
        let bus: BusHandle = Arc::new(Recorder::new(bus, &log, id)?);
        let _running = loop {
            match start(process, &bus).await {
                Ok(running) => break running,
                // The server may be down at the moment.
                Err(error) if error.retryable() => sleep(Duration::from_millis(200)).await,
                Err(error) => return Err(error.into()),
            }
        };
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// Connects, and waits for the server without a time limit.
pub async fn connect(url: &str) -> BusHandle {
    connect_with(NatsOptions { url: url.to_owned(), ..NatsOptions::default() }).await
}

/// Like [`connect`], but to the sidecar of a workload.
pub async fn connect_as(workload: &str, url: &str) -> BusHandle {
    connect_with(options(workload, url)).await
}

/// The options with which a workload connects to its sidecar.
pub fn options(workload: &str, url: &str) -> NatsOptions {
    let id = SpiffeId::new(DOMAIN, workload).expect("the name of a workload");
    NatsOptions {
        url: url.to_owned(),
        name: workload.to_owned(),
        inbox: Some(id.inbox()),
        direct: id.kind() == "tenant",
        ..NatsOptions::default()
    }
}

async fn connect_with(options: NatsOptions) -> BusHandle {
    loop {
        match NatsBus::connect(options.clone()).await {
            Ok(bus) => return Arc::new(bus),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Starts the service and returns what keeps it running.
async fn start(process: &Process, bus: &BusHandle) -> Result<Box<dyn Any>, Error> {
    use {
        hermesh_aggregation as aggregation, hermesh_evaluation as evaluation,
        hermesh_key_management as keys, hermesh_preprocessing as preprocessing,
    };
    let name = process.role.name();
    let environment = Environment {
        bus: guarded(name, bus.clone()),
        clock: Arc::new(SystemClock),
        metrics: Metrics::new(name, &Registry::new()).expect("registers"),
    };
    let stub = Arc::new(Stub::default());
    let keys_options = keys::Options::default();
    let begin = preprocessing::Options {
        lookups_per_shard: PER_SHARD,
        ..preprocessing::Options::default()
    };
    let join =
        aggregation::Options { lookups_per_shard: PER_SHARD, ..aggregation::Options::default() };
    let work = evaluation::Options { threads: 1, in_flight: 1, ..evaluation::Options::default() };
    Ok(match (process.role, process.engine) {
        (Role::KeyManagement, Engine::Stub) => {
            Box::new(keys::start(keys_options, environment, stub).await?)
        }
        (Role::KeyManagement, Engine::Real) => {
            Box::new(keys::start(keys_options, environment, Arc::new(keys::Engine)).await?)
        }
        (Role::Preprocessing, Engine::Stub) => {
            Box::new(preprocessing::start(begin, environment, stub).await?)
        }
        (Role::Preprocessing, Engine::Real) => {
            let engine = Arc::new(preprocessing::Engine);
            Box::new(preprocessing::start(begin, environment, engine).await?)
        }
        (Role::Evaluation, Engine::Stub) => {
            Box::new(evaluation::start(work, environment, stub).await?)
        }
        (Role::Evaluation, Engine::Real) => {
            Box::new(evaluation::start(work, environment, Arc::new(evaluation::Engine)).await?)
        }
        (Role::Aggregation, Engine::Stub) => {
            Box::new(aggregation::start(join, environment, stub, identity()).await?)
        }
        (Role::Aggregation, Engine::Real) => {
            let engine = Arc::new(aggregation::Engine);
            Box::new(aggregation::start(join, environment, engine, identity()).await?)
        }
    })
}
