//! The embedded mesh: all four services in one process, on an in-memory bus and a thread of its own. The
//! interface blocks, so a command line without an async runtime can use it.
//!
//! The default policy applies to services and tenants, as it would with sidecars. This crate only wires the
//! parts together.

mod services;

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use hermesh_mesh::{
    Bytes, Clock, Digest, SigningKey, SystemClock, TenantId, VerifyingKey,
    bus::{
        guarded::GuardedBus,
        memory::{MemoryBus, MemoryBusOptions},
    },
    client::{Client, Pending},
    identity::SpiffeId,
    policy::{Policy, PolicyError},
    wire::{Answer, Status},
};
use prometheus::Registry;
use tokio::{runtime, sync::oneshot};

/// Why the embedded mesh did not start, or a request to it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request was refused, or a job failed.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),
    /// The metrics could not be registered.
    #[error("the metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The default policy has no rules for a tenant.
    #[error("the policy does not admit the tenant: {0}")]
    Policy(#[from] PolicyError),
    /// The thread could not be started.
    #[error("the mesh's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread ended unexpectedly.
    #[error("a thread of the mesh ended by itself; this is a defect, its message is above")]
    Died,
}

/// The services' options.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The bus.
    pub bus: MemoryBusOptions,
    /// Key management.
    pub key_management: hermesh_key_management::Options,
    /// Preprocessing.
    pub preprocessing: hermesh_preprocessing::Options,
    /// Evaluation.
    pub evaluation: hermesh_evaluation::Options,
    /// Aggregation.
    pub aggregation: hermesh_aggregation::Options,
}

impl Options {
    /// Sets the number of threads that compute.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.evaluation.threads = threads;
        self.evaluation.in_flight = threads;
        self
    }
}

/// A running embedded mesh. Dropping it stops it.
pub struct Embedded {
    bus: MemoryBus,
    policy: Arc<Policy>,
    registry: Registry,
    clock: Arc<dyn Clock>,
    identity: VerifyingKey,
    runtime: runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts all services and waits until they are ready.
    ///
    /// # Errors
    /// [`Error::Thread`], or a service rejects its options.
    pub fn start(options: Options) -> Result<Self, Error> {
        let bus = MemoryBus::new(options.bus.clone());
        let registry = Registry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let policy = Arc::new(Policy::parse(Policy::default_text())?);
        let identity = SigningKey::generate();
        let verifying = identity.verifying_key();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let wiring = services::Wiring {
            options,
            bus: Arc::new(bus.clone()),
            policy: policy.clone(),
            clock: clock.clone(),
            registry: registry.clone(),
            identity,
        };
        let thread = std::thread::Builder::new().name("hermesh".into()).spawn(move || {
            actix::System::new().block_on(async move {
                match wiring.start().await {
                    Ok(services) => {
                        // If the receiver is gone, `start` has returned already: do not run.
                        if ready.send(Ok(runtime::Handle::current())).is_ok() {
                            let _ = stopped.await;
                        }
                        services.stop().await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        Ok(Self {
            runtime: is_ready.recv().map_err(|_| Error::Died)??,
            bus,
            policy,
            registry,
            clock,
            identity: verifying,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The bus, with its count of the messages that the services saw.
    pub fn bus(&self) -> &MemoryBus {
        &self.bus
    }

    /// The services' metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The key that verifies receipts.
    pub fn identity(&self) -> VerifyingKey {
        self.identity
    }

    /// Registers a tenant and returns its connection.
    ///
    /// # Errors
    /// The name is taken by another key.
    pub fn register_tenant(&self, tenant: TenantId, key: SigningKey) -> Result<Tenant, Error> {
        let policy = (*self.policy).clone().admitting([tenant.clone()])?;
        let id = SpiffeId::new(policy.trust_domain(), &format!("tenant/{tenant}"))?;
        let bus = GuardedBus::new(Arc::new(self.bus.clone()), Arc::new(policy), id);
        let client = Client::new(Arc::new(bus), self.clock.clone(), tenant, key, self.identity);
        self.runtime.block_on(client.register())?;
        Ok(Tenant { client, runtime: self.runtime.clone() })
    }

    /// Lets every service finish the work in hand, and stops. Unfinished jobs are lost.
    pub fn stop(self) {}
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Ignored: the panic of a thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// One tenant's connection to the embedded mesh, usable while the mesh runs.
#[derive(Clone)]
pub struct Tenant {
    client: Client,
    runtime: runtime::Handle,
}

impl Tenant {
    /// Uploads an evaluation key, and waits until it has been checked.
    ///
    /// # Errors
    /// The key does not decode, is revoked, or belongs to another tenant.
    pub fn upload_key(&self, key: impl Into<Bytes>) -> Result<Digest, Error> {
        Ok(self.runtime.block_on(self.client.upload_key(key.into()))?)
    }

    /// Revokes an evaluation key for good.
    ///
    /// # Errors
    /// The key does not belong to this tenant.
    pub fn revoke_key(&self, key: Digest) -> Result<(), Error> {
        Ok(self.runtime.block_on(self.client.revoke_key(key))?)
    }

    /// Uploads a model, and waits until it has been checked.
    ///
    /// # Errors
    /// The model does not decode.
    pub fn register_model(&self, model: impl Into<Bytes>) -> Result<Digest, Error> {
        let register = self.client.register_model(model.into());
        Ok(self.runtime.block_on(register)?)
    }

    /// Submits an encrypted input, with a deadline `within` from now.
    ///
    /// # Errors
    /// The job could not be stored.
    pub fn submit(
        &self,
        model: Digest,
        key: Digest,
        input: impl Into<Bytes>,
        within: Duration,
    ) -> Result<Submitted, Error> {
        let submit = self.client.submit(model, key, input.into(), within);
        Ok(Submitted { pending: self.runtime.block_on(submit)?, runtime: self.runtime.clone() })
    }

    /// Submits an encrypted input and waits for the answer, whose receipt has been verified.
    ///
    /// # Errors
    /// [`hermesh_mesh::Error::Failed`] when the job was refused or failed.
    pub fn infer(
        &self,
        model: Digest,
        key: Digest,
        input: impl Into<Bytes>,
        within: Duration,
        on_progress: impl FnMut(&Status),
    ) -> Result<Answer, Error> {
        self.submit(model, key, input, within)?.wait(on_progress)
    }
}

/// A submitted job.
pub struct Submitted {
    pending: Pending,
    runtime: runtime::Handle,
}

impl Submitted {
    /// Waits for the answer, whose receipt has been verified.
    ///
    /// # Errors
    /// [`hermesh_mesh::Error::Failed`] when the job was refused or failed.
    pub fn wait(self, on_progress: impl FnMut(&Status)) -> Result<Answer, Error> {
        Ok(self.runtime.block_on(self.pending.outcome(on_progress))?)
    }
}
