//! The paths.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Data, Payload, ServiceConfig},
};
use hermesh_mesh::{
    Bytes, JobId, Message, TenantId, VerifyingKey,
    bus::{Bucket, BusHandle},
    telemetry::Metrics,
    wire::{
        Admitted, Answer, Failure, Job, Refusal, RegisterModel, RegisterTenant, RevokeKey, Status,
        UploadEvaluationKey, VERSION, Wire,
    },
};
use prometheus::{Registry, TextEncoder};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    ROOM_UNIT,
    convert::{message_from_http, response},
    refusal::{Refused, status},
    staging::Staging,
};

/// How the gateway's messages name their sender; what counts is the tenant's signature in them.
pub(super) const SOURCE: &str = "gateway";
/// How long a request to key management may take; checking a key of 20 MB is the longest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct State {
    pub(super) bus: BusHandle,
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    pub(super) service: VerifyingKey,
    pub(super) room: Semaphore,
    pub(super) staging: Staging,
    pub(super) max_upload_bytes: usize,
    pub(super) max_input_bytes: usize,
    pub(super) body_timeout: Duration,
    pub(super) poll: Duration,
}

type Response = Result<HttpResponse, Refused>;

pub(super) fn configure(config: &mut ServiceConfig, state: &Data<State>) {
    config
        .app_data(state.clone())
        .service(web::resource("/healthz").get(health))
        .service(web::resource("/metrics").get(metrics))
        .service(web::resource("/v1/uploads").put(upload))
        .service(web::resource("/v1/requests").post(request))
        .service(web::resource("/v1/jobs").post(submit))
        .service(web::resource("/v1/jobs/{tenant}/{job}").get(outcome))
        .default_service(web::to(nothing_here));
}

async fn nothing_here() -> Response {
    Err(Refused::http(StatusCode::NOT_FOUND, "nothing is here; the paths start with /v1/"))
}

async fn health(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Hermesh-Version", VERSION))
        .insert_header(("Hermesh-Service", state.service.to_string()))
        .body("ok\n")
}

async fn metrics(state: Data<State>) -> Response {
    let text = TextEncoder::new().encode_to_string(&state.registry.gather()).map_err(|error| {
        Refused::http(StatusCode::INTERNAL_SERVER_ERROR, format!("no metrics: {error}"))
    })?;
    Ok(HttpResponse::Ok().content_type(prometheus::TEXT_FORMAT).body(text))
}

async fn upload(http: HttpRequest, payload: Payload, state: Data<State>) -> Response {
    let (body, _room) = state.receive(&http, payload, state.max_upload_bytes).await?;
    let size = body.len();
    let digest = state.bus.put(Bucket::Uploads, body).await?;
    for old in state.staging.add(digest, size) {
        state.bus.delete(Bucket::Uploads, old).await?;
    }
    Ok(HttpResponse::Created().body(format!("{digest}\n")))
}

async fn request(http: HttpRequest, payload: Payload, state: Data<State>) -> Response {
    let (body, _room) = state.receive(&http, payload, 0).await?;
    let message = message(&http, body)?;
    let request = match message.headers.get("ce-type") {
        Some(RegisterTenant::TYPE) => again::<RegisterTenant>(&message)?,
        Some(UploadEvaluationKey::TYPE) => again::<UploadEvaluationKey>(&message)?,
        Some(RevokeKey::TYPE) => again::<RevokeKey>(&message)?,
        Some(RegisterModel::TYPE) => again::<RegisterModel>(&message)?,
        Some(_) => {
            return Err(Refused::http(
                StatusCode::NOT_FOUND,
                "expected ce-type hermesh.register-tenant, hermesh.upload-evaluation-key, \
                 hermesh.revoke-key or hermesh.register-model",
            ));
        }
        None => return Err(Refused::http(StatusCode::BAD_REQUEST, "expected a ce-type header")),
    };
    state.metrics.received(&request);
    let reply = state.bus.request(request, REQUEST_TIMEOUT).await?;
    if reply.headers.get("ce-type") == Some(Refusal::TYPE) {
        return Err(Refusal::decode(&reply)?.into());
    }
    Ok(response(StatusCode::OK, &reply))
}

async fn submit(http: HttpRequest, payload: Payload, state: Data<State>) -> Response {
    let (body, _room) = state.receive(&http, payload, state.max_input_bytes).await?;
    let job = Job::decode(&message(&http, body)?)?;
    let (tenant, id) = (&job.context.tenant, job.context.job);
    let subject = Admitted::subject_of(tenant, id);
    // A refusal is shown once and stored nowhere, so it is waited for before the answer is given.
    let mut admissions = state.bus.subscribe(&subject).await?;
    let mut progress = state.bus.subscribe(&Status::subject_of(tenant, id)).await?;
    let message = job.encode(SOURCE);
    state.metrics.received(&message);
    state.bus.publish(message).await?;
    let mut stored = state.bus.last(&subject).await?;
    let give_up = Instant::now() + state.poll;
    loop {
        if let Some(message) = stored.take()
            && Admitted::receive(&message)?.signature == job.signature
        {
            break;
        }
        tokio::select! {
            Some(message) = admissions.next() => stored = Some(message),
            Some(message) = progress.next() => {
                if let Ok(failure) = Failure::receive(&message)
                    && failure.refused == Some(job.signature)
                {
                    return Ok(response(status(failure.code), &message));
                }
            }
            // Still in the queue: its refusal would be seen by whoever waits for its outcome.
            () = sleep_until(give_up) => break,
        }
    }
    let location = format!("/v1/jobs/{tenant}/{id}");
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).finish())
}

async fn outcome(http: HttpRequest, state: Data<State>) -> Response {
    // Names that parse have no wildcards in them: nobody waits for another one's subject.
    let tenant: TenantId = http.match_info().query("tenant").parse()?;
    let job: JobId = http.match_info().query("job").parse()?;
    let subject = Answer::subject_of(&tenant, job);
    // Subscribed before looking, so that nothing is missed in between.
    let mut answers = state.bus.subscribe(&subject).await?;
    let mut progress = state.bus.subscribe(&Status::subject_of(&tenant, job)).await?;
    if let Some(message) = state.bus.last(&subject).await? {
        return Ok(response(StatusCode::OK, &message));
    }
    tokio::select! {
        biased;
        Some(message) = answers.next() => Ok(response(StatusCode::OK, &message)),
        Some(message) = progress.next() => Ok(response(StatusCode::ACCEPTED, &message)),
        () = sleep(state.poll) => Ok(HttpResponse::Accepted().finish()),
    }
}

impl State {
    /// Receives a body whose length is announced and within `limit`, when there is room for it.
    async fn receive(
        &self,
        http: &HttpRequest,
        payload: Payload,
        limit: usize,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Refused> {
        let got = announced_length(http)?;
        let too_large = || hermesh_mesh::Error::TooLarge { what: "the body", got, limit };
        if got > limit {
            return Err(too_large().into());
        }
        let late = || {
            Refused::http(
                StatusCode::REQUEST_TIMEOUT,
                format!("expected the body within {:?}", self.body_timeout),
            )
        };
        let units = u32::try_from(got.div_ceil(ROOM_UNIT)).map_err(|_| too_large())?;
        let room = timeout(self.body_timeout, self.room.acquire_many(units)).await;
        let room =
            room.map_err(|_| late())?.map_err(|_| hermesh_mesh::Error::Stopped("the gateway"))?;
        let body = timeout(self.body_timeout, payload.to_bytes_limited(limit)).await;
        let body = body.map_err(|_| late())?.map_err(|_| too_large())?.map_err(|error| {
            Refused::http(StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}"))
        })?;
        Ok((body, room))
    }
}

fn announced_length(http: &HttpRequest) -> Result<usize, Refused> {
    let expected = "expected a Content-Length header and a body that is not chunked";
    let refused = || Refused::http(StatusCode::LENGTH_REQUIRED, expected);
    if http.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(refused());
    }
    match http.headers().get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(refused),
        None => Ok(0),
    }
}

fn message(http: &HttpRequest, body: Bytes) -> Result<Message, hermesh_mesh::Error> {
    let headers = http.headers().iter();
    message_from_http(headers.map(|(name, value)| (name.as_str(), value.as_bytes())), body)
}

/// Decoded and encoded again: nothing that is not understood goes on the bus.
fn again<T: Wire>(message: &Message) -> Result<Message, hermesh_mesh::Error> {
    T::decode(message).map(|decoded| decoded.encode(SOURCE))
}
