//! Tenants that keep a number of jobs in progress.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use hermesh_mesh::{Digest, Error, SigningKey, SystemClock, bus::BusHandle, client::Client};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::timed::INPUT_BYTES;

const PATIENCE: Duration = Duration::from_secs(600);

/// A registered tenant.
pub(super) struct Tenant {
    client: Client,
    key: Digest,
    model: Digest,
}

impl Tenant {
    /// Registers a tenant.
    pub(super) async fn register(
        bus: &BusHandle,
        name: &str,
        service: &SigningKey,
    ) -> Result<Self> {
        let client = Client::new(
            bus.clone(),
            Arc::new(SystemClock),
            name.parse()?,
            SigningKey::generate(),
            service.verifying_key(),
        );
        client.register().await?;
        let key = client.upload_key(format!("key of {name}").into_bytes().into()).await?;
        let model = client.register_model(b"model".to_vec().into()).await?;
        Ok(Self { client, key, model })
    }

    /// Runs one job and returns its time in seconds.
    pub(super) async fn job(&self) -> Result<f64, Error> {
        let started = Instant::now();
        let input = vec![0; INPUT_BYTES].into();
        let pending = self.client.submit(self.model, self.key, input, PATIENCE).await?;
        pending.outcome(|_| {}).await?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Runs `jobs` jobs, `window` of them at a time, alternating between the tenants. Returns the seconds of each.
pub(super) async fn run(tenants: &[Arc<Tenant>], jobs: usize, window: usize) -> Result<Vec<f64>> {
    let window = Arc::new(Semaphore::new(window));
    let mut running = JoinSet::new();
    for number in 0..jobs {
        let tenant = tenants[number % tenants.len()].clone();
        let permit = window.clone().acquire_owned().await?;
        running.spawn(async move {
            let seconds = tenant.job().await;
            drop(permit);
            seconds
        });
    }
    let mut seconds = Vec::new();
    while let Some(job) = running.join_next().await {
        seconds.push(job??);
    }
    Ok(seconds)
}
