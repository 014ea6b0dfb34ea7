//! One tenant's session with the embedded mesh.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use hermesh_embedded::{Embedded, Options, Tenant};
use hermesh_engine::{EvaluationKey, Program};
use hermesh_mesh::wire::Status;
use hermesh_mesh::{Digest, SigningKey, TenantId};

/// Deadline of a job; the services drop jobs that take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(12 * 3600);

pub(super) struct Session {
    tenant: Tenant,
    model: Digest,
    key: Digest,
    // The last field, so that it is dropped after the tenant's connection.
    embedded: Embedded,
}

impl Session {
    /// Starts the services, registers the tenant, uploads the evaluation key and the model.
    pub(super) fn start(
        threads: Option<NonZeroUsize>,
        name: TenantId,
        signing: SigningKey,
        key: &EvaluationKey,
        program: &Program,
    ) -> Result<Self> {
        let embedded = Embedded::start(options(threads))?;
        let tenant = embedded.register_tenant(name, signing)?;
        let key = tenant.upload_key(key.encode().to_vec())?;
        let model = tenant.register_model(program.encode().to_vec())?;
        Ok(Self { tenant, model, key, embedded })
    }

    /// Sends an encrypted input and returns the answer, after verifying its receipt.
    pub(super) fn infer(&self, input: Vec<u8>, progress: impl FnMut(&Status)) -> Result<Vec<u8>> {
        let answer = self.tenant.infer(self.model, self.key, input, PATIENCE, progress)?;
        Ok(answer.body.to_vec())
    }

    pub(super) fn embedded(&self) -> &Embedded {
        &self.embedded
    }
}

/// The services' options for a number of threads; one per core by default.
pub(super) fn options(threads: Option<NonZeroUsize>) -> Options {
    match threads {
        Some(threads) => Options::default().with_threads(threads.get()),
        None => Options::default(),
    }
}
