//! The actor: requests in, replies out, objects moved between buckets.

use std::{rc::Rc, sync::Arc};

use hermesh_mesh::{
    Bytes, Digest, Error as MeshError, Message,
    actor::{Environment, LogicHandle, Running, blocking},
    bus::{Bucket, Request},
    topology,
    wire::{
        Accepted, FactsQuery, KeyRevoked, Refusal, RegisterModel, RegisterTenant, RevokeKey,
        UploadEvaluationKey, Wire,
    },
};

use crate::{AuditEntry, Effect, Error, Input, Inspect, Kind, Logic, Options, Reply};

/// A running key management.
pub struct Handle {
    running: Running,
    logic: LogicHandle<Logic>,
}

impl Handle {
    /// The audit log, newest entry last.
    pub async fn audit(&self) -> Result<Vec<AuditEntry>, Error> {
        let effects = self.logic.call(Input::Audit).await?;
        Ok(effects
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Reply(Reply::Audit(entries)) => Some(entries),
                _ => None,
            })
            .unwrap_or_default())
    }

    /// Finishes what is in hand and ends.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Ends at once, as a crash would.
    pub fn kill(self) {
        self.running.kill();
    }
}

/// Starts key management. Must be called inside an actix system.
pub async fn start(
    options: Options,
    environment: Environment,
    inspect: Arc<dyn Inspect>,
) -> Result<Handle, MeshError> {
    topology::declare(&*environment.bus).await?;
    let logic =
        LogicHandle::start(Logic::new(options.clone()), environment.clock.clone(), options.mailbox);
    let service = Rc::new(Service {
        options,
        logic: logic.clone(),
        inspect,
        environment: environment.clone(),
    });
    let mut running = Running::default();
    // A loop each, so that nothing waits for the inspection of an upload, a revocation least of all.
    for filter in [
        "hermesh.keys.facts",
        "hermesh.keys.tenant.*",
        "hermesh.keys.revoke.*",
        "hermesh.keys.upload.*",
        "hermesh.keys.model",
    ] {
        let requests = environment.bus.serve(filter).await?;
        let service = service.clone();
        running.answer(requests, async move |request| service.answer(request).await);
    }
    Ok(Handle { running, logic })
}

struct Service {
    options: Options,
    logic: LogicHandle<Logic>,
    inspect: Arc<dyn Inspect>,
    environment: Environment,
}

impl Service {
    async fn answer(&self, request: Request) {
        self.environment.metrics.received(&request.message);
        let source = self.environment.metrics.service();
        let reply = match self.handle(&request.message).await {
            Ok(Some(Reply::Facts(facts))) => facts.encode(source),
            Ok(_) => Accepted.encode(source),
            Err(error) => {
                let code = error.code();
                tracing::info!(%error, subject = request.message.subject, "request refused");
                self.environment.metrics.failed(code);
                let refusal =
                    Refusal { code, message: error.to_string(), retryable: error.retryable() };
                refusal.encode(source)
            }
        };
        self.environment.metrics.sent(&reply);
        if let Err(error) = request.reply(reply).await {
            tracing::debug!(%error, "the asker did not wait for the reply");
        }
    }

    async fn handle(&self, message: &Message) -> Result<Option<Reply>, Error> {
        let input = match message.headers.get("ce-type") {
            Some(RegisterTenant::TYPE) => Input::RegisterTenant(Wire::receive(message)?),
            Some(UploadEvaluationKey::TYPE) => Input::UploadKey(Wire::receive(message)?),
            Some(RevokeKey::TYPE) => Input::RevokeKey(Wire::receive(message)?),
            Some(RegisterModel::TYPE) => Input::RegisterModel(Wire::receive(message)?),
            _ => Input::Query(FactsQuery::receive(message)?),
        };
        let mut reply = None;
        let mut effects = self.logic.call(input).await?;
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Inspect(kind, object) => {
                        let parameters = self.inspect(&kind, object).await?;
                        self.keep(&kind, object).await?;
                        let input = Input::Inspected(kind, object, parameters);
                        next.extend(self.logic.call(input).await?);
                    }
                    Effect::Withdraw { tenant, key, unused } => {
                        let fact = KeyRevoked { tenant, key };
                        let source = self.environment.metrics.service();
                        self.environment.publish(fact.encode(source)).await?;
                        if unused {
                            self.environment.bus.delete(Bucket::Keys, key).await?;
                        }
                    }
                    Effect::Reply(answer) => reply = Some(answer),
                }
            }
            effects = next;
        }
        Ok(reply)
    }

    fn limit(&self, kind: &Kind) -> usize {
        match kind {
            Kind::Key(_) => self.options.max_key_bytes,
            Kind::Model => self.options.max_model_bytes,
        }
    }

    async fn inspect(&self, kind: &Kind, object: Digest) -> Result<String, Error> {
        let bytes = self.offered(kind, object).await?;
        let inspect = self.inspect.clone();
        let is_model = *kind == Kind::Model;
        // An upload that fails stays: it may be a good one, offered by somebody else as what it is not.
        blocking(move || {
            let got = Digest::of(&bytes);
            if got != object {
                let expected = object;
                return Err(MeshError::DigestMismatch { expected, got }.into());
            }
            let parameters = if is_model { inspect.model(&bytes) } else { inspect.key(&bytes) };
            parameters.map_err(|refused| Error::Rejected(refused.0))
        })
        .await?
    }

    /// The bytes of an offer: uploaded, or kept already because somebody else has offered the same.
    async fn offered(&self, kind: &Kind, object: Digest) -> Result<Bytes, MeshError> {
        let bus = &self.environment.bus;
        let limit = self.limit(kind);
        match bus.get(Bucket::Uploads, object, limit).await {
            Err(absent @ MeshError::NoObject { .. }) => {
                bus.get(bucket(kind), object, limit).await.map_err(|_| absent)
            }
            other => other,
        }
    }

    async fn keep(&self, kind: &Kind, object: Digest) -> Result<(), Error> {
        let bus = &self.environment.bus;
        let bytes = self.offered(kind, object).await?;
        bus.put(bucket(kind), bytes).await?;
        bus.delete(Bucket::Uploads, object).await?;
        Ok(())
    }
}

fn bucket(kind: &Kind) -> Bucket {
    match kind {
        Kind::Key(_) => Bucket::Keys,
        Kind::Model => Bucket::Models,
    }
}
