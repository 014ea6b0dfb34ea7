//! One tenant's session with the embedded mesh.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use hermesh_embedded::{Embedded, Options, Tenant};
use hermesh_engine::{EvaluationKey, Program};
use hermesh_mesh::wire::Status;
use hermesh_mesh::{Digest, SigningKey, TenantId};

/// How long an answer is waited for; the services drop jobs that take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(12 * 3600);

pub(super) struct Session {
    tenant: Tenant,
    model: Digest,
    key: Digest,
    // Last, so that it outlives the tenant's connection.
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

    /// Has the mesh compute on an encrypted input. The receipt of the answer has been verified.
    pub(super) fn infer(&self, input: Vec<u8>, progress: impl FnMut(&Status)) -> Result<Vec<u8>> {
        let answer = self.tenant.infer(self.model, self.key, input, PATIENCE, progress)?;
        Ok(answer.body.to_vec())
    }

    pub(super) fn embedded(&self) -> &Embedded {
        &self.embedded
    }
}

/// The services' options for that many threads; one per core by default.
pub(super) fn options(threads: Option<NonZeroUsize>) -> Options {
    match threads {
        Some(threads) => Options::default().with_threads(threads.get()),
        None => Options::default(),
    }
}
