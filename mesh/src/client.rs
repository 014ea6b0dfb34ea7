//! The tenant's client of the mesh.

mod pending;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::pending::{Pending, State};
use crate::{
    Clock, Digest, Error, JobId, Message, Signature, SigningKey, TenantId, VerifyingKey, actor,
    bus::{Bus, BusHandle},
    objects::{self, Bucket},
    wire::{
        AuditEntry, AuditLog, CancelJob, Context, Job, KeyList, KeyStatus, ListKeys, ListModels,
        ListParts, ModelList, ModelStatus, PartList, Priority, ReadAudit, RegisterModel,
        RegisterTenant, Replaces, RevokeKey, ServiceKey, TraceParent, UploadEvaluationKey, Wire,
        accepted, answer_to,
    },
};

/// Time limit of a request; checking a 20 MB key takes longest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The most service keys that are read.
const MAX_SERVICE_KEYS: usize = 64;

/// The keys that the mesh on this bus claims to sign receipts with, sorted. The caller decides whether to trust them.
///
/// # Errors
/// Errors of the bus.
pub async fn service_keys(bus: &dyn Bus) -> Result<Vec<VerifyingKey>, Error> {
    let mut keys = Vec::new();
    for subject in bus.subjects(ServiceKey::FILTER).await?.iter().take(MAX_SERVICE_KEYS) {
        let stated = bus.last(subject).await?;
        keys.extend(stated.and_then(|message| ServiceKey::receive(&message).ok()).map(|key| key.0));
    }
    keys.sort_by_key(|key| *key.as_bytes());
    Ok(keys)
}

/// One tenant's connection.
#[derive(Clone)]
pub struct Client {
    bus: BusHandle,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    key: SigningKey,
    services: Vec<VerifyingKey>,
}

impl Client {
    /// A client for `tenant` that signs with `key` and trusts receipts of `service`.
    pub fn new(
        bus: BusHandle,
        clock: Arc<dyn Clock>,
        tenant: TenantId,
        key: SigningKey,
        service: VerifyingKey,
    ) -> Self {
        Self { bus, clock, tenant, key, services: vec![service] }
    }

    /// Replaces the trusted services: receipts of any of these are accepted, and no others.
    #[must_use]
    pub fn trusting(self, services: Vec<VerifyingKey>) -> Self {
        Self { services, ..self }
    }

    /// Binds the tenant's name to its signing key.
    pub async fn register(&self) -> Result<(), Error> {
        let request = RegisterTenant::new(self.tenant.clone(), &self.key);
        accepted(&self.ask(&request).await?)
    }

    /// Uploads an evaluation key and submits it for checking.
    pub async fn upload_key(&self, key: Bytes) -> Result<Digest, Error> {
        self.offer_key(key, None, |_, _| {}).await
    }

    /// Uploads an evaluation key, optionally as the replacement of an older one, and submits it for checking. Calls
    /// `on_progress` with the bytes stored so far and the total. An interrupted upload resumes where it stopped.
    pub async fn offer_key(
        &self,
        key: Bytes,
        replaces: Option<Replaces>,
        on_progress: impl FnMut(usize, usize),
    ) -> Result<Digest, Error> {
        let digest = self.upload(key, on_progress).await?;
        let tenant = self.tenant.clone();
        let request = match replaces {
            Some(older) => UploadEvaluationKey::rotation(tenant, digest, older, &self.key),
            None => UploadEvaluationKey::new(tenant, digest, &self.key),
        };
        accepted(&self.ask(&request).await?)?;
        Ok(digest)
    }

    /// Revokes an evaluation key permanently.
    pub async fn revoke_key(&self, key: Digest) -> Result<(), Error> {
        let request = RevokeKey::new(self.tenant.clone(), key, &self.key);
        accepted(&self.ask(&request).await?)
    }

    /// The tenant's evaluation keys.
    pub async fn list_keys(&self) -> Result<Vec<KeyStatus>, Error> {
        let question = ListKeys::new(self.tenant.clone(), self.clock.now(), &self.key);
        Ok(answer_to::<KeyList>(&self.ask(&question).await?)?.0)
    }

    /// The newest entries of the tenant's audit log, newest last.
    pub async fn read_audit(&self, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let question = ReadAudit::new(self.tenant.clone(), self.clock.now(), limit, &self.key);
        Ok(answer_to::<AuditLog>(&self.ask(&question).await?)?.0)
    }

    /// Uploads a model and submits it for checking.
    pub async fn register_model(&self, model: Bytes) -> Result<Digest, Error> {
        self.offer_model(model, |_, _| {}).await
    }

    /// Uploads a model and submits it for checking; `on_progress` as in [`Self::offer_key`].
    pub async fn offer_model(
        &self,
        model: Bytes,
        on_progress: impl FnMut(usize, usize),
    ) -> Result<Digest, Error> {
        let digest = self.upload(model, on_progress).await?;
        accepted(&self.ask(&RegisterModel::new(self.tenant.clone(), digest, &self.key)).await?)?;
        Ok(digest)
    }

    /// The models that the tenant has registered.
    pub async fn list_models(&self) -> Result<Vec<ModelStatus>, Error> {
        let question = ListModels::new(self.tenant.clone(), self.clock.now(), &self.key);
        Ok(answer_to::<ModelList>(&self.ask(&question).await?)?.0)
    }

    /// Signs and submits a job with a deadline of `within` from now.
    pub async fn submit(
        &self,
        model: Digest,
        key: Digest,
        input: Bytes,
        within: Duration,
    ) -> Result<Pending, Error> {
        let context = Context {
            job: JobId::random(),
            tenant: self.tenant.clone(),
            model,
            key,
            input: Digest::of(&input),
            deadline: self.clock.now().plus(within),
            priority: Priority::default(),
            trace: Some(TraceParent::random()),
        };
        self.submit_job(Job::new(context, input, &self.key)).await
    }

    /// Submits an existing signed job. Submitting it twice still makes one job.
    pub async fn submit_job(&self, job: Job) -> Result<Pending, Error> {
        // Subscribe before publishing, so that no outcome is missed.
        let mut pending = self.attach(job.context.clone(), job.signature).await?;
        pending.attached = false;
        self.bus.publish(job.encode("client")).await?;
        Ok(pending)
    }

    /// Waits for a job submitted earlier, by this process or another.
    pub async fn attach(&self, context: Context, signature: Signature) -> Result<Pending, Error> {
        let (bus, services) = (self.bus.clone(), self.services.clone());
        Pending::attach(bus, &*self.clock, services, context, signature).await
    }

    /// Cancels a job: it ends with the failure `cancelled`, unless it has already ended.
    pub async fn cancel(&self, job: JobId) -> Result<(), Error> {
        accepted(&self.ask(&CancelJob::new(self.tenant.clone(), job, &self.key)).await?)
    }

    async fn upload(
        &self,
        bytes: Bytes,
        on_progress: impl FnMut(usize, usize),
    ) -> Result<Digest, Error> {
        let digest = actor::digest(bytes.clone()).await?;
        let (tenant, at) = (self.tenant.clone(), self.clock.now());
        // Key management is asked for the list: permission to list a stream would show other tenants' subjects.
        let question = ListParts::new(tenant.clone(), digest, at, &self.key);
        let there = answer_to::<PartList>(&self.ask(&question).await?)?.0;
        let bucket = Bucket::Uploads(tenant);
        objects::complete(&*self.bus, &bucket, digest, bytes, &there, on_progress).await?;
        Ok(digest)
    }

    async fn ask(&self, request: &impl Wire) -> Result<Message, Error> {
        let message = request.encode("client");
        self.bus.request(message, REQUEST_TIMEOUT).await
    }
}
