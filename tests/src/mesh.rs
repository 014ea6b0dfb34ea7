//! A mesh of stubs on an in-memory bus and a paused clock. Each service is started and killed separately.

use std::{future::Future, sync::Arc, time::Duration};

use hermesh_mesh::{
    Bytes, Clock, Digest, JobId, SigningKey, TenantId, TokioClock, UnixMillis,
    actor::Environment,
    bus::{Bus, BusHandle, Subscription, guarded::GuardedBus, memory::MemoryBus},
    client::Client,
    identity::SpiffeId,
    policy::Policy,
    telemetry::Metrics,
    topology,
    wire::{Context, Job, Priority},
};
use prometheus::Registry;

use crate::stub::{self, Model, Stub};

/// Lookups in one shard.
pub const PER_SHARD: usize = 4;
/// Long enough for any job on a paused clock.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Runs a scenario inside an actix system whose clock is paused.
pub fn scenario<F: Future<Output = ()>>(scenario: impl FnOnce() -> F) {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("builds a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(async { scenario().await });
}

/// A bus restricted to what the default policy allows a service. So every scenario also tests that the
/// policy allows enough.
pub fn guarded(service: &str, bus: BusHandle) -> BusHandle {
    guarded_as(&format!("service/{service}"), default_policy(), bus)
}

/// A bus restricted to what the default policy allows a tenant.
pub fn guarded_tenant(tenant: &TenantId, bus: BusHandle) -> BusHandle {
    let policy = default_policy().admitting([tenant.clone()]).expect("has rules for tenants");
    guarded_as(&format!("tenant/{tenant}"), policy, bus)
}

fn default_policy() -> Policy {
    Policy::parse(Policy::default_text()).expect("the default is good")
}

fn guarded_as(workload: &str, policy: Policy, bus: BusHandle) -> BusHandle {
    let id = SpiffeId::new(policy.trust_domain(), workload).expect("is a name");
    Arc::new(GuardedBus::new(bus, Arc::new(policy), id))
}

/// The parts that all services share.
pub struct Mesh {
    /// The bus.
    pub bus: MemoryBus,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The receipt signing key.
    pub identity: SigningKey,
}

impl Mesh {
    /// A mesh with key management and no other service.
    pub async fn start() -> (Self, hermesh_key_management::Handle) {
        let mesh = Self {
            bus: MemoryBus::default(),
            clock: Arc::new(TokioClock::starting_at(UnixMillis(1_700_000_000_000))),
            identity: SigningKey::generate(),
        };
        topology::declare(&mesh.bus).await.expect("declares");
        let keys = hermesh_key_management::start(
            hermesh_key_management::Options::default(),
            mesh.environment("key-management"),
            Arc::new(Stub::default()),
        );
        let keys = keys.await.expect("starts");
        (mesh, keys)
    }

    /// A handle on the bus.
    pub fn handle(&self) -> BusHandle {
        Arc::new(self.bus.clone())
    }

    /// The outcomes of all jobs.
    pub async fn bus_answers(&self) -> Subscription {
        let answers = self.bus.subscribe("hermesh.answer.>").await;
        answers.expect("subscribes")
    }

    /// The environment of a service.
    pub fn environment(&self, service: &'static str) -> Environment {
        self.environment_on(service, self.handle())
    }

    /// The same with another bus.
    pub fn environment_on(&self, service: &'static str, bus: BusHandle) -> Environment {
        Environment {
            bus: guarded(service, bus),
            clock: self.clock.clone(),
            // A registry of its own, so that the metrics of replicas do not collide.
            metrics: Metrics::new(service, &Registry::new()).expect("registers"),
        }
    }

    /// Starts a preprocessing service.
    pub async fn preprocessing(&self, bus: BusHandle) -> hermesh_preprocessing::Handle {
        let options = hermesh_preprocessing::Options {
            lookups_per_shard: PER_SHARD,
            max_input_bytes: 1 << 16,
            ..hermesh_preprocessing::Options::default()
        };
        let environment = self.environment_on("preprocessing", bus);
        let handle = hermesh_preprocessing::start(options, environment, Arc::new(Stub::default()));
        handle.await.expect("starts")
    }

    /// Starts an evaluation service.
    pub async fn evaluation(&self, bus: BusHandle, stub: &Arc<Stub>) -> hermesh_evaluation::Handle {
        self.evaluation_of(bus, stub, 2).await
    }

    /// Starts an evaluation service with one thread and this many shards in progress at a time.
    pub async fn evaluation_of(
        &self,
        bus: BusHandle,
        stub: &Arc<Stub>,
        in_flight: usize,
    ) -> hermesh_evaluation::Handle {
        let options = hermesh_evaluation::Options {
            threads: 1,
            in_flight,
            ..hermesh_evaluation::Options::default()
        };
        let environment = self.environment_on("evaluation", bus);
        let handle = hermesh_evaluation::start(options, environment, stub.clone());
        handle.await.expect("starts")
    }

    /// Starts an aggregation service.
    pub async fn aggregation(&self, bus: BusHandle) -> hermesh_aggregation::Handle {
        let options = hermesh_aggregation::Options {
            lookups_per_shard: PER_SHARD,
            ..hermesh_aggregation::Options::default()
        };
        let environment = self.environment_on("aggregation", bus);
        let identity = self.identity.clone();
        let stub = Arc::new(Stub::default());
        let handle = hermesh_aggregation::start(options, environment, stub, identity);
        handle.await.expect("starts")
    }

    /// A registered tenant with an uploaded key and a registered model.
    pub async fn tenant(&self, name: &str, model: &Model) -> Tenant {
        let signing = SigningKey::generate();
        let tenant: TenantId = name.parse().expect("a valid name");
        let client = Client::new(
            guarded_tenant(&tenant, self.handle()),
            self.clock.clone(),
            tenant.clone(),
            signing.clone(),
            self.identity.verifying_key(),
        );
        client.register().await.expect("registers");
        let key = stub::key(&model.parameters, name);
        let key = client.upload_key(key.into()).await.expect("uploads");
        let registered = client.register_model(model.encode().into()).await;
        Tenant { name: tenant, client, signing, key, model: registered.expect("registers") }
    }
}

/// A tenant, ready to submit.
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// Its connection.
    pub client: Client,
    /// Its signing key.
    pub signing: SigningKey,
    /// Its evaluation key.
    pub key: Digest,
    /// Its model.
    pub model: Digest,
}

impl Tenant {
    /// A signed job with this priority.
    pub fn job(&self, mesh: &Mesh, input: impl Into<Bytes>, priority: Priority) -> Job {
        let context = Context {
            job: JobId::random(),
            tenant: self.name.clone(),
            model: self.model,
            key: self.key,
            input: Digest([0; 32]),
            deadline: mesh.clock.now().plus(LIMIT),
            priority,
            trace: None,
        };
        Job::new(context, input.into(), &self.signing)
    }

    /// Submits an input.
    pub async fn submit(&self, input: impl Into<Bytes>) -> hermesh_mesh::client::Pending {
        let submitted = self.client.submit(self.model, self.key, input.into(), LIMIT);
        submitted.await.expect("submits")
    }
}
