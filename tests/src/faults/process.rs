//! Services that start, die and start again.

use std::{rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Clock, Error, SigningKey,
    actor::Environment,
    telemetry::Metrics,
    wire::{Computed, Refused},
};
use prometheus::Registry;
use tokio::time::sleep;

use super::{
    bus::FaultyBus,
    plan::Sabotage,
    simulation::{Process, Simulation},
};
use crate::{
    mesh::{PER_SHARD, guarded},
    stub::{Model, Stub},
};

/// How long to wait before restarting a service that did not start.
const RETRY: Duration = Duration::from_secs(1);

/// The four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Key management.
    KeyManagement,
    /// Preprocessing.
    Preprocessing,
    /// Evaluation.
    Evaluation,
    /// Aggregation.
    Aggregation,
}

impl Service {
    /// All four.
    pub const ALL: [Self; 4] =
        [Self::KeyManagement, Self::Preprocessing, Self::Evaluation, Self::Aggregation];

    fn name(self) -> &'static str {
        match self {
            Self::KeyManagement => "key-management",
            Self::Preprocessing => "preprocessing",
            Self::Evaluation => "evaluation",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What all processes of a simulation share.
pub struct World {
    /// The simulation.
    pub simulation: Arc<Simulation>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The receipt signing key.
    pub identity: SigningKey,
}

enum Running {
    KeyManagement(hermesh_key_management::Handle),
    Preprocessing(hermesh_preprocessing::Handle),
    Evaluation(hermesh_evaluation::Handle),
    Aggregation(hermesh_aggregation::Handle),
}

impl Running {
    fn kill(self) {
        match self {
            Self::KeyManagement(handle) => handle.kill(),
            Self::Preprocessing(handle) => handle.kill(),
            Self::Evaluation(handle) => handle.kill(),
            Self::Aggregation(handle) => handle.kill(),
        }
    }
}

/// Keeps one replica of a service running, through all of its deaths.
pub async fn supervise(world: Rc<World>, service: Service, replica: usize) {
    for incarnation in 0.. {
        let name = format!("{}-{replica}.{incarnation}", service.name());
        let process = Process::new(&name, true);
        world.simulation.note(&process.name, "Start", None, "");
        let started = tokio::select! {
            biased;
            _ = process.died() => None,
            started = start(&world, service, &process) => Some(started),
        };
        match started {
            Some(Ok(running)) => {
                process.died().await;
                running.kill();
            }
            // Whatever the failed start left running is cut off too.
            Some(Err(_)) => process.die(RETRY),
            None => {}
        }
        world.simulation.note(&process.name, "Stop", None, "");
        world.simulation.history().crashes += 1;
        sleep(process.died().await).await;
    }
}

async fn start(world: &World, service: Service, process: &Arc<Process>) -> Result<Running, Error> {
    let bus = Arc::new(FaultyBus::new(world.simulation.clone(), process.clone()));
    let environment = Environment {
        bus: guarded(service.name(), bus),
        clock: world.clock.clone(),
        metrics: Metrics::new(service.name(), &Registry::new()).expect("registers"),
    };
    let stub = Arc::new(Stub::default());
    Ok(match service {
        Service::KeyManagement => {
            let options = hermesh_key_management::Options::default();
            let started = hermesh_key_management::start(options, environment, stub).await?;
            Running::KeyManagement(started)
        }
        Service::Preprocessing => {
            let options = hermesh_preprocessing::Options {
                lookups_per_shard: PER_SHARD,
                max_input_bytes: 1 << 16,
                ..Default::default()
            };
            let started = hermesh_preprocessing::start(options, environment, stub).await?;
            Running::Preprocessing(started)
        }
        Service::Evaluation => {
            let options =
                hermesh_evaluation::Options { threads: 1, in_flight: 2, ..Default::default() };
            let evaluator = Arc::new(Evaluator {
                stub,
                process: process.name.clone(),
                simulation: world.simulation.clone(),
            });
            let started = hermesh_evaluation::start(options, environment, evaluator).await?;
            Running::Evaluation(started)
        }
        Service::Aggregation => {
            let options =
                hermesh_aggregation::Options { lookups_per_shard: PER_SHARD, ..Default::default() };
            let identity = world.identity.clone();
            let started = hermesh_aggregation::start(options, environment, stub, identity).await?;
            Running::Aggregation(started)
        }
    })
}

/// The stub's evaluation, recorded in the history.
struct Evaluator {
    stub: Arc<Stub>,
    process: Arc<str>,
    simulation: Arc<Simulation>,
}

impl hermesh_evaluation::Compute for Evaluator {
    type Key = String;
    type Model = Model;

    fn key(&self, bytes: &[u8]) -> Result<(String, usize), Refused> {
        hermesh_evaluation::Compute::key(&*self.stub, bytes)
    }

    fn model(&self, bytes: &[u8]) -> Result<(Model, usize), Refused> {
        hermesh_evaluation::Compute::model(&*self.stub, bytes)
    }

    fn evaluate(
        &self,
        model: &Model,
        key: &String,
        shard: &[u8],
    ) -> Result<Computed<Vec<u8>>, Refused> {
        self.simulation.history().evaluates(&self.process, shard);
        let mut computed = self.stub.evaluate(model, key, shard)?;
        if self.simulation.sabotage == Sabotage::WrongResults
            && let Some(first) = computed.value.first_mut()
            && *first % 16 == 0
        {
            *first += 1;
        }
        Ok(computed)
    }
}
