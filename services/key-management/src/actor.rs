//! The actor: takes requests, stores records, replies, and moves objects between buckets.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{
    Bytes, Digest, Error as MeshError, Message, TenantId,
    actor::{Environment, LogicHandle, Running, blocking},
    bus::{Published, Request as BusRequest},
    objects::{self, Bucket},
    topology,
    wire::{FactsQuery, Refusal, Wire},
};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, SemaphorePermit};

use crate::{
    Effect, Error, Fact, Input, Inspect, Inspected, Logic, Options, Request, registry::Registry,
};

/// A running key management.
pub struct Handle(Running);

impl Handle {
    /// Finishes the requests in hand and stops.
    pub async fn stop(self) {
        self.0.stop().await;
    }

    /// Stops at once, as a crash would.
    pub fn kill(self) {
        self.0.kill();
    }
}

/// The requests of tenants.
const VERBS: [&str; 8] =
    ["tenant", "revoke", "upload", "model", "list-keys", "list-models", "list-parts", "read-audit"];
/// Requests handled at the same time: per kind of tenant request, and of admission, which asks for every
/// job.
const AT_ONCE: usize = 16;
const FACTS_AT_ONCE: usize = 64;
/// Uploads of one tenant that may be waiting for inspection or in it.
const IN_TURN: usize = 4;
const TURN: Duration = Duration::from_secs(5);
/// How often to look for keys that are no longer needed.
const SWEEP: Duration = Duration::from_secs(600);
/// How often the registry is read for one request. Nearly every repetition means that another request was
/// faster.
const ROUNDS: usize = 64;

/// Starts key management. Must be called inside an actix system.
pub async fn start(
    options: Options,
    environment: Environment,
    inspect: Arc<dyn Inspect>,
) -> Result<Handle, MeshError> {
    topology::declare(&*environment.bus).await?;
    let logic = Logic::new(options.clone());
    let service = Rc::new(Service {
        logic: LogicHandle::start(logic, environment.clock.clone(), options.mailbox),
        inspections: Semaphore::new(options.inspections.max(1)),
        turns: RefCell::default(),
        options,
        inspect,
        registry: Registry(environment.bus.clone()),
        environment: environment.clone(),
    });
    let mut running = Running::default();
    let facts = environment.bus.serve("hermesh.keys.facts").await?;
    let answering = service.clone();
    running.answer_many(facts, FACTS_AT_ONCE, async move |request| {
        let reply = answering.facts(&request.message).await;
        answering.reply(request, reply).await;
    });
    // One loop per kind of request, so that none waits for the inspection of an upload, above all no
    // revocation.
    for verb in VERBS {
        let requests = environment.bus.serve(&format!("hermesh.keys.{verb}.*")).await?;
        let service = service.clone();
        running.answer_many(requests, AT_ONCE, async move |request| {
            let reply = service.answer(&request.message).await;
            service.reply(request, reply).await;
        });
    }
    running.every(SWEEP, async move || {
        if let Err(error) = service.sweep().await {
            tracing::warn!(%error, "keys that are no longer needed were not deleted");
        }
    });
    Ok(Handle(running))
}

struct Service {
    options: Options,
    logic: LogicHandle<Logic>,
    inspect: Arc<dyn Inspect>,
    inspections: Semaphore,
    /// The tenants whose uploads are being inspected; one upload at a time for each.
    turns: RefCell<HashMap<TenantId, Arc<Mutex<()>>>>,
    registry: Registry,
    environment: Environment,
}

/// An upload held in memory; their number is limited.
struct Offered<'a> {
    bytes: Bytes,
    inspected: Inspected,
    _turn: OwnedMutexGuard<()>,
    _permit: SemaphorePermit<'a>,
}

impl Service {
    async fn reply(&self, request: BusRequest, reply: Result<Message, Error>) {
        self.environment.metrics.received(&request.message);
        let reply = reply.unwrap_or_else(|error| {
            tracing::info!(%error, subject = request.message.subject, "request refused");
            self.environment.metrics.failed(error.code());
            let refusal = Refusal {
                code: error.code(),
                message: error.to_string(),
                retryable: error.retryable(),
                retry_after: error.retry_after(),
            };
            refusal.encode(self.environment.metrics.service())
        });
        self.environment.metrics.sent(&reply);
        if let Err(error) = request.reply(reply).await {
            tracing::debug!(%error, "the sender of the request did not wait for the reply");
        }
    }

    async fn facts(&self, message: &Message) -> Result<Message, Error> {
        let query = FactsQuery::receive(message)?;
        let facts = self.registry.facts(&self.options, query).await?;
        Ok(facts.encode(self.environment.metrics.service()))
    }

    async fn answer(&self, message: &Message) -> Result<Message, Error> {
        let request = Request::receive(message)?;
        let tenant = self.registry.tenant(request.tenant()).await?;
        let mut effects = self.logic.call(Input::Asked(request.clone(), tenant)).await?;
        let mut offered = None;
        for _ in 0..ROUNDS {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Consult => {
                        let inspected =
                            offered.as_ref().map(|offered: &Offered<'_>| offered.inspected.clone());
                        let options = &self.options;
                        let records = self.registry.consult(options, &request, inspected).await?;
                        let input = Input::Known(request.clone(), Box::new(records));
                        effects = self.logic.call(input).await?;
                    }
                    Effect::Inspect => offered = Some(self.offered(&request).await?),
                    Effect::Keep => {
                        if let (Some(object), Some(offered)) = (Object::of(&request), &offered) {
                            let bytes = offered.bytes.clone();
                            let bus = &*self.environment.bus;
                            objects::put(bus, &object.bucket, bytes, |_, _| {}).await?;
                        }
                    }
                    Effect::Discard => {
                        if let Some(object) = Object::of(&request) {
                            self.delete(&object.uploads, object.digest).await?;
                        }
                    }
                    Effect::Release(key) => self.release(&request, key).await?,
                    Effect::Reply(reply) => {
                        return Ok(reply.encode(self.environment.metrics.service()));
                    }
                    Effect::Refuse(error) => return Err(error),
                    effect => self.carry_out(effect).await?,
                }
            }
        }
        Err(MeshError::Full { what: "the tenant's entry in the registry".into() }.into())
    }

    async fn carry_out(&self, effect: Effect) -> Result<(), MeshError> {
        match effect {
            Effect::Record(fact) => {
                let message = fact.encode(self.environment.metrics.service());
                let published = self.environment.publish(message).await?;
                if let (Published::Stored, Fact::Audit(entry)) = (published, &fact) {
                    tracing::info!(target: "audit", "{entry}");
                }
                Ok(())
            }
            Effect::Delete(key) => self.delete(&Bucket::Keys, key).await,
            _ => Ok(()),
        }
    }

    async fn release(&self, request: &Request, key: Digest) -> Result<(), Error> {
        if objects::exists(&*self.environment.bus, &Bucket::Keys, key).await? {
            let holders = self.registry.holders(key).await?;
            let input = Input::Held(request.tenant().clone(), key, holders);
            for effect in self.logic.call(input).await? {
                self.carry_out(effect).await?;
            }
        }
        Ok(())
    }

    /// Deletes the bytes of keys that are no longer needed, even if their tenants never return.
    async fn sweep(&self) -> Result<(), Error> {
        for key in objects::list(&*self.environment.bus, &Bucket::Keys).await? {
            let holders = self.registry.holders(key).await?;
            for effect in self.logic.call(Input::Kept(key, holders)).await? {
                self.carry_out(effect).await?;
            }
        }
        Ok(())
    }

    /// Waits until no other upload of the tenant is being inspected.
    async fn turn(&self, tenant: &TenantId) -> Result<OwnedMutexGuard<()>, Error> {
        let turn = {
            let mut turns = self.turns.borrow_mut();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(tenant.clone()).or_default().clone()
        };
        // One of the references is the list's.
        if Arc::strong_count(&turn) > IN_TURN + 1 {
            return Err(Error::NoRoom {
                what: "uploads of one tenant at the same time",
                limit: IN_TURN,
                advice: "ask again when they have been inspected",
                retry_after: Some(TURN),
            });
        }
        Ok(turn.lock_owned().await)
    }

    async fn delete(&self, bucket: &Bucket, object: Digest) -> Result<(), MeshError> {
        objects::delete(&*self.environment.bus, bucket, object).await
    }

    /// Reads and inspects the offered object.
    async fn offered(&self, request: &Request) -> Result<Offered<'_>, Error> {
        let object = Object::of(request).ok_or(MeshError::Malformed {
            what: "request",
            expected: "one that offers an object",
        })?;
        let stopped = |_| MeshError::Stopped("key management");
        let turn = self.turn(request.tenant()).await?;
        let permit = self.inspections.acquire().await.map_err(stopped)?;
        let bytes = self.bytes(&object).await?;
        let inspect = self.inspect.clone();
        let (inspected, is_model) = (bytes.clone(), object.bucket == Bucket::Models);
        let parameters =
            blocking(
                move || {
                    if is_model { inspect.model(&inspected) } else { inspect.key(&inspected) }
                },
            );
        let parameters = match parameters.await? {
            Ok(parameters) => parameters,
            Err(refused) => {
                self.delete(&object.uploads, object.digest).await?;
                return Err(Error::Rejected(refused.0));
            }
        };
        let token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>');
        if parameters.is_empty() || parameters.len() > 64 || !parameters.bytes().all(token) {
            return Err(Error::Rejected("the name of its parameter set is malformed".into()));
        }
        let inspected = Inspected { parameters, bytes: bytes.len() as u64 };
        Ok(Offered { bytes, inspected, _turn: turn, _permit: permit })
    }

    /// The bytes of an offer: the upload, or the stored object if another upload of the same bytes was
    /// accepted before.
    async fn bytes(&self, object: &Object) -> Result<Bytes, Error> {
        let bus = &*self.environment.bus;
        let Object { uploads, bucket, digest } = object;
        let limit = match bucket {
            Bucket::Models => self.options.max_model_bytes,
            _ => self.options.max_key_bytes,
        };
        match objects::get_and_clean(bus, uploads, *digest, limit).await {
            Err(MeshError::NoObject { .. }) => {
                match objects::get(bus, bucket, *digest, limit).await {
                    Err(MeshError::NoObject { .. }) => Err(Error::Incomplete(*digest)),
                    kept => Ok(kept?),
                }
            }
            Err(MeshError::DigestMismatch { .. }) => Err(Error::Damaged(*digest)),
            uploaded => Ok(uploaded?),
        }
    }
}

/// The object that a request is about, and the buckets that its bytes come from and go to.
struct Object {
    uploads: Bucket,
    bucket: Bucket,
    digest: Digest,
}

impl Object {
    fn of(request: &Request) -> Option<Self> {
        let uploads = Bucket::Uploads(request.tenant().clone());
        match request {
            Request::UploadKey(upload) => {
                Some(Self { uploads, bucket: Bucket::Keys, digest: upload.key })
            }
            Request::RegisterModel(offer) => {
                Some(Self { uploads, bucket: Bucket::Models, digest: offer.model })
            }
            _ => None,
        }
    }
}
