//! A mesh in another process on this machine, over HTTP.
//!
//! The messages are those of any bus, with the same signatures; see `hermesh_embedded::gateway`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use hermesh_embedded::gateway::message_from_http;
use hermesh_mesh::wire::{
    Context, Failure, FailureCode, Job, Outcome, Refusal, RegisterModel, RegisterTenant, Status,
    TraceParent, UploadEvaluationKey, Wire, accepted,
};
use hermesh_mesh::{
    Clock, Digest, JobId, Message, SigningKey, SystemClock, TenantId, VerifyingKey,
};
use ureq::http::{Method, Request, StatusCode};
use ureq::{Agent, AsSendBody};

use crate::{Error, Result};

/// How long one request may take: longer than the mesh waits for the outcome of a job, or for a key
/// to be checked.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after its deadline the failure of a job may still arrive.
const GRACE: Duration = Duration::from_secs(5);
/// Bound on an answer, in bytes: what the bus lets through.
const MAX_ANSWER: u64 = 32 << 20;

/// Where a mesh listens: `http://`, a loopback host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshUrl(String);

impl FromStr for MeshUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let authority = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let (host, port) = authority.and_then(|text| text.rsplit_once(':')).unwrap_or_default();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = address.unwrap_or(host).parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        if !loopback || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(Error::MeshUrl { found: text.to_owned() });
        }
        Ok(Self(format!("http://{host}:{port}")))
    }
}

impl fmt::Display for MeshUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One tenant's connection to a mesh.
pub struct Remote {
    agent: Agent,
    url: MeshUrl,
    tenant: TenantId,
    signing: SigningKey,
    service: VerifyingKey,
}

impl Remote {
    /// Connects and registers the tenant. Answers must be signed with `service`; without one, with
    /// the key that the mesh itself states.
    pub fn connect(
        url: MeshUrl,
        tenant: TenantId,
        signing: SigningKey,
        service: Option<VerifyingKey>,
    ) -> Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // Loopback is not reached through a proxy, whatever the environment says.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        let agent = Agent::new_with_config(config);
        let stated = stated_key(&agent, &url)?;
        if let Some(expected) = service.filter(|expected| *expected != stated) {
            let (expected, found) = (Box::new(expected), Box::new(stated));
            return Err(Error::ServiceKey { expected, found });
        }
        let remote = Self { agent, url, tenant, signing, service: stated };
        remote.ask(&RegisterTenant::new(remote.tenant.clone(), &remote.signing))?;
        Ok(remote)
    }

    /// The key that signs receipts.
    pub fn service_key(&self) -> VerifyingKey {
        self.service
    }

    /// Makes sure that the mesh has an evaluation key; sends it only if it is missing.
    pub fn upload_key(&self, key: &[u8]) -> Result<Digest> {
        let digest = Digest::of(key);
        let offer = UploadEvaluationKey::new(self.tenant.clone(), digest, &self.signing);
        self.offer(&offer, key)?;
        Ok(digest)
    }

    /// Makes sure that the mesh has a model; sends it only if it is missing.
    pub fn register_model(&self, model: &[u8]) -> Result<Digest> {
        let digest = Digest::of(model);
        self.offer(&RegisterModel { model: digest }, model)?;
        Ok(digest)
    }

    /// Signs and submits an encrypted input, and waits for the answer, whose receipt has been
    /// verified.
    pub fn infer(
        &self,
        model: Digest,
        key: Digest,
        input: Vec<u8>,
        within: Duration,
        progress: impl FnMut(&Status),
    ) -> Result<Vec<u8>> {
        let context = Context {
            job: JobId::random(),
            tenant: self.tenant.clone(),
            model,
            key,
            input: Digest::of(&input),
            deadline: SystemClock.now().plus(within),
            trace: Some(TraceParent::random()),
        };
        let job = Job::new(context, input.into(), &self.signing);
        self.send("/v1/jobs", &job)?;
        self.wait(&job, within, progress)
    }

    fn wait(
        &self,
        job: &Job,
        within: Duration,
        mut progress: impl FnMut(&Status),
    ) -> Result<Vec<u8>> {
        let context = &job.context;
        let path = format!("/v1/jobs/{}/{}", context.tenant, context.job);
        let give_up = context.deadline.plus(GRACE);
        let mut done = 0;
        while SystemClock.now() < give_up {
            let (status, message) = exchange(&self.agent, self.request(Method::GET, &path), ())?;
            if status == StatusCode::OK {
                let outcome = Outcome::decode(&message)?;
                if outcome.job() != (&context.tenant, context.job) {
                    return Err(Error::NotAMesh { found: "the outcome of another job".into() });
                }
                return match outcome {
                    Outcome::Failure(failure) => {
                        Err(hermesh_mesh::Error::Failed(Box::new(failure)).into())
                    }
                    Outcome::Answer(answer) => {
                        answer.receipt.verify(&self.service, context, &answer.body)?;
                        Ok(answer.body.to_vec())
                    }
                };
            }
            if let Ok(status) = Status::decode(&message) {
                // Replicas report side by side; what is shown does not go back.
                if status.done >= done {
                    done = status.done;
                    progress(&status);
                }
            } else if let Ok(failure) = Failure::decode(&message)
                // Another submission under this one's name is none of its business.
                && failure.refused == Some(job.signature)
            {
                return Err(hermesh_mesh::Error::Failed(Box::new(failure)).into());
            }
        }
        Err(hermesh_mesh::Error::Timeout(within).into())
    }

    fn offer(&self, request: &impl Wire, bytes: &[u8]) -> Result<()> {
        match self.ask(request) {
            Err(Error::Mesh(hermesh_mesh::Error::Refused(refusal)))
                if refusal.code == FailureCode::DigestMismatch =>
            {
                let upload = self.request(Method::PUT, "/v1/uploads");
                exchange(&self.agent, upload, bytes)?;
                self.ask(request)
            }
            other => other,
        }
    }

    fn ask(&self, request: &impl Wire) -> Result<()> {
        Ok(accepted(&self.send("/v1/requests", request)?)?)
    }

    fn send(&self, path: &str, message: &impl Wire) -> Result<Message> {
        let message = message.encode("client");
        let mut request = self.request(Method::POST, path);
        for (name, value) in message.headers.iter() {
            request = request.header(name, value);
        }
        Ok(exchange(&self.agent, request, &*message.body)?.1)
    }

    fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.url))
    }
}

/// The key with which the mesh says it signs receipts.
fn stated_key(agent: &Agent, url: &MeshUrl) -> Result<VerifyingKey> {
    let request = Request::builder().uri(format!("{url}/healthz"));
    let (_, message) = exchange(agent, request, ())?;
    match message.headers.get("Hermesh-Service") {
        Some(key) => Ok(key.parse()?),
        None => Err(Error::NotAMesh { found: "an answer without a Hermesh-Service header".into() }),
    }
}

/// One request and its response; a refusal is an error.
fn exchange(
    agent: &Agent,
    request: ureq::http::request::Builder,
    body: impl AsSendBody,
) -> Result<(StatusCode, Message)> {
    let http = |source| Error::Http { source: Box::new(source) };
    let request = request.body(body).map_err(|error| http(error.into()))?;
    let (head, mut body) = agent.run(request).map_err(http)?.into_parts();
    let body = body.with_config().limit(MAX_ANSWER).read_to_vec().map_err(http)?;
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let message = message_from_http(headers, body.into())?;
    if head.status.is_success() {
        return Ok((head.status, message));
    }
    // A refusal says so in its headers; anything else is not from a mesh.
    Err(match message.headers.get("ce-type") {
        Some(Refusal::TYPE) => {
            hermesh_mesh::Error::Refused(Box::new(Refusal::decode(&message)?)).into()
        }
        Some(Failure::TYPE) => {
            hermesh_mesh::Error::Failed(Box::new(Failure::decode(&message)?)).into()
        }
        _ => Error::NotAMesh { found: format!("HTTP status {}", head.status) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_urls_are_meshes() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:65535", "http://[::1]:65535"),
        ] {
            assert_eq!(text.parse::<MeshUrl>().unwrap().to_string(), expected);
        }
        for text in [
            "",
            "127.0.0.1:8080",
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:x",
            "http://example.com:80",
            "http://10.0.0.1:8080",
            "http://127.0.0.1:80/path:80",
            "http://user@127.0.0.1:80",
            "http://localhost.example:80",
        ] {
            let found = text.parse::<MeshUrl>();
            assert!(matches!(found, Err(Error::MeshUrl { .. })), "{text}: {found:?}");
        }
    }
}
