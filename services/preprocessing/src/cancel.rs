//! Cancellation: an outcome like any other, which all services see.

use hermesh_mesh::{
    Digest, Error as MeshError, JobId, TenantId,
    actor::Environment,
    bus::{Published, Request},
    wire::{
        Accepted, Answer, CancelJob, Cancelled, FactsQuery, Failure, FailureCode, Outcome, Refusal,
        Wire,
    },
};

use crate::actor::facts;

/// Why a cancellation is refused.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("tenant {0} is not registered; register it first")]
    UnknownTenant(TenantId),
    #[error("job {0} has already ended; fetch its outcome")]
    Ended(JobId),
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl Error {
    fn code(&self) -> FailureCode {
        match self {
            Self::UnknownTenant(_) => FailureCode::UnknownTenant,
            Self::Ended(_) => FailureCode::Ended,
            Self::Mesh(MeshError::BadSignature { .. }) => FailureCode::BadSignature,
            Self::Mesh(MeshError::Full { .. }) => FailureCode::Overloaded,
            Self::Mesh(error) if error.retryable() => FailureCode::Internal,
            Self::Mesh(_) => FailureCode::Malformed,
        }
    }
}

/// Handles a request to cancel a job, whether begun or not.
pub(crate) async fn answer(environment: &Environment, request: Request) {
    environment.metrics.received(&request.message);
    let source = environment.metrics.service();
    let reply = match cancel(environment, &request).await {
        Ok(()) => Accepted.encode(source),
        Err(error) => {
            tracing::info!(%error, "cancellation refused");
            let code = error.code();
            environment.metrics.failed(code);
            let message = error.to_string();
            let retryable = code.retryable();
            Refusal { code, message, retryable, retry_after: None }.encode(source)
        }
    };
    environment.metrics.sent(&reply);
    if let Err(error) = request.reply(reply).await {
        tracing::debug!(%error, "the sender of the request did not wait for the reply");
    }
}

async fn cancel(environment: &Environment, request: &Request) -> Result<(), Error> {
    let order = CancelJob::receive(&request.message)?;
    let (tenant, job) = (&order.tenant, order.job);
    // No key or model is needed.
    let nothing = Digest([0; 32]);
    let query = FactsQuery { tenant: tenant.clone(), key: nothing, model: nothing };
    let verifying = facts(environment, &query).await?.tenant;
    let verifying = verifying.ok_or_else(|| Error::UnknownTenant(tenant.clone()))?;
    order.verify(&verifying)?;
    let source = environment.metrics.service();
    let cancelled = Cancelled { tenant: tenant.clone(), job };
    environment.publish(cancelled.encode(source)).await?;
    // After the cancellation is recorded: admission reserves the job id first, then looks for a
    // cancellation.
    if environment.admitted(tenant, job).await?.is_none() {
        return Ok(());
    }
    let why = "the tenant has cancelled the job";
    let cancelled = Failure::ending(tenant, job, FailureCode::Cancelled, why);
    if environment.fail(&cancelled).await? == Published::Duplicate {
        // The reply may have been lost: a repeated request gets the same one.
        let outcome = environment.bus.last(&Answer::subject_of(tenant, job)).await?;
        match outcome.as_ref().map(Outcome::receive) {
            Some(Ok(Outcome::Failure(failure))) if failure.code == FailureCode::Cancelled => {}
            _ => return Err(Error::Ended(job)),
        }
    }
    // Workers skip the job's tasks that are still queued.
    Ok(())
}
