//! Starts the services and gives each what it needs.

use std::{sync::Arc, time::Duration};

use hermesh_mesh::{
    Clock, SigningKey,
    actor::Environment,
    bus::{BusHandle, guarded::GuardedBus},
    identity::SpiffeId,
    policy::Policy,
    telemetry::Metrics,
};
use prometheus::Registry;

use crate::{Error, Options};

/// How long each service may take to finish the work in hand. Work returned after that is lost.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Wiring {
    pub(crate) options: Options,
    pub(crate) bus: BusHandle,
    pub(crate) policy: Arc<Policy>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) identity: SigningKey,
}

pub(crate) struct Services {
    key_management: hermesh_key_management::Handle,
    preprocessing: hermesh_preprocessing::Handle,
    evaluation: hermesh_evaluation::Handle,
    aggregation: hermesh_aggregation::Handle,
}

impl Wiring {
    pub(crate) async fn start(self) -> Result<Services, Error> {
        let environment = |service| {
            let id = SpiffeId::new(self.policy.trust_domain(), &format!("service/{service}"))?;
            Ok::<_, Error>(Environment {
                bus: Arc::new(GuardedBus::new(self.bus.clone(), self.policy.clone(), id)),
                clock: self.clock.clone(),
                metrics: Metrics::new(service, &self.registry)?,
            })
        };
        Ok(Services {
            key_management: hermesh_key_management::start(
                self.options.key_management,
                environment("key-management")?,
                Arc::new(hermesh_key_management::Engine),
            )
            .await?,
            preprocessing: hermesh_preprocessing::start(
                self.options.preprocessing,
                environment("preprocessing")?,
                Arc::new(hermesh_preprocessing::Engine),
            )
            .await?,
            evaluation: hermesh_evaluation::start(
                self.options.evaluation,
                environment("evaluation")?,
                Arc::new(hermesh_evaluation::Engine),
            )
            .await?,
            aggregation: hermesh_aggregation::start(
                self.options.aggregation,
                environment("aggregation")?,
                Arc::new(hermesh_aggregation::Engine),
                self.identity,
            )
            .await?,
        })
    }
}

impl Services {
    /// Stops the services in the order in which work flows through them.
    pub(crate) async fn stop(self) {
        self.preprocessing.stop(PATIENCE).await;
        self.evaluation.stop(PATIENCE).await;
        self.aggregation.stop(PATIENCE).await;
        self.key_management.stop().await;
    }
}
