//! The issuer's HTTP endpoints.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use hermesh_mesh::{
    Clock, UnixMillis,
    identity::Chain,
    issuer::{Issued, Issuer, IssuerError, Proof, Request, TokenError, files},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::{Body as _, Incoming},
    header,
};

use super::{
    Answer, Body, CERTIFICATE, HEALTH, MAX_BODY, ROOTS,
    attempts::{Attempts, WINDOW},
};

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// The certificate chain that TLS verified.
    pub(super) chain: Option<Chain>,
}

/// The issuer and what its endpoints need.
pub(super) struct Endpoints {
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    attempts: Mutex<Attempts>,
}

/// A status, and a reason for the caller.
struct Refusal(StatusCode, String);

impl Endpoints {
    pub(super) fn new(issuer: Arc<Issuer>, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, clock, attempts: Mutex::default() }
    }

    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (path.as_str(), method) {
            (CERTIFICATE, Method::POST) => match self.certificate(request, caller).await {
                Ok(answer) => response(StatusCode::OK, "application/json", answer),
                Err(Refusal(status, told)) => {
                    let mut refused = response(status, TEXT, told + "\n");
                    if status == StatusCode::TOO_MANY_REQUESTS {
                        let seconds = WINDOW.as_secs().into();
                        refused.headers_mut().insert(header::RETRY_AFTER, seconds);
                    }
                    refused
                }
            },
            (ROOTS, Method::GET) => {
                response(StatusCode::OK, "application/x-pem-file", self.issuer.roots())
            }
            (HEALTH, Method::GET) => match self.health() {
                Ok(()) => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
                Err(Refusal(status, told)) => response(status, TEXT, told + "\n"),
            },
            (CERTIFICATE, _) => method_not_allowed("POST"),
            (ROOTS | HEALTH, _) => method_not_allowed("GET"),
            _ => {
                let told = format!("expected POST {CERTIFICATE}, GET {ROOTS} or GET {HEALTH}\n");
                response(StatusCode::NOT_FOUND, TEXT, told)
            }
        }
    }

    fn health(&self) -> Result<(), Refusal> {
        let (now, authority) = (self.clock.now(), self.issuer.authority());
        if (authority.from()..authority.until()).contains(&now) {
            return Ok(());
        }
        Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "the root is not valid now".into()))
    }

    async fn certificate(
        &self,
        request: hyper::Request<Incoming>,
        caller: Caller,
    ) -> Result<String, Refusal> {
        let now = self.clock.now();
        let Body { csr, token } = read(request).await?;
        let token = match token {
            Some(text) => {
                self.may_try(caller.address, now)?;
                Some(
                    text.0
                        .parse()
                        .map_err(|error| self.refused(&IssuerError::Token(error), &caller, now))?,
                )
            }
            None => None,
        };
        let proof = match (token, &caller.chain) {
            (Some(token), _) => Proof::Token(token),
            (None, Some(chain)) => Proof::Certificate(chain.clone()),
            (None, None) => {
                let told = "expected a join token, or a client certificate that is to be renewed";
                return Err(Refusal(StatusCode::UNAUTHORIZED, told.into()));
            }
        };
        let issuer = self.issuer.clone();
        // On a blocking thread: issuing waits for the disk.
        let work = move || issuer.issue(Request { csr: csr.as_bytes(), proof }, now);
        let issued = tokio::task::spawn_blocking(work).await;
        let issued = issued.map_err(|_| unable())?;
        let issued = issued.map_err(|error| self.refused(&error, &caller, now))?;
        log(&issued, &caller);
        let answer = Answer {
            certificate: files::to_pem(issued.chain.certificates()),
            roots: self.issuer.roots(),
            expires: issued.peer.not_after.0,
        };
        serde_json::to_string(&answer).map_err(|_| unable())
    }

    fn may_try(&self, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.allowed(address, now) {
            return Ok(());
        }
        let told = "too many wrong tokens from this address; try again in a minute";
        Err(Refusal(StatusCode::TOO_MANY_REQUESTS, told.into()))
    }

    fn refused(&self, error: &IssuerError, caller: &Caller, now: UnixMillis) -> Refusal {
        let renewing = caller.chain.as_ref().and_then(|chain| chain.peer().ok());
        let renewing = renewing.map(|peer| peer.id.to_string());
        let address = caller.address;
        tracing::warn!(%error, %address, renewing, "refused a certificate");
        if matches!(
            error,
            IssuerError::Token(
                TokenError::Malformed | TokenError::Unknown | TokenError::Expired { .. }
            )
        ) {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.failed(address, now);
        }
        let status = match error {
            IssuerError::Request(_) => StatusCode::BAD_REQUEST,
            IssuerError::Root { .. } => StatusCode::SERVICE_UNAVAILABLE,
            // The caller learns nothing about the issuer's files.
            IssuerError::Make(_) | IssuerError::Token(TokenError::File { .. }) => return unable(),
            _ => StatusCode::FORBIDDEN,
        };
        Refusal(status, error.to_string())
    }
}

fn log(issued: &Issued, caller: &Caller) {
    let peer = &issued.peer;
    let renewed = issued.renewed.as_ref().map(|peer| peer.fingerprint.to_string());
    tracing::info!(
        id = %peer.id,
        fingerprint = %peer.fingerprint,
        expires = %peer.not_after,
        renewed,
        address = %caller.address,
        "issued a certificate"
    );
}

fn unable() -> Refusal {
    let told = "the issuer cannot issue a certificate now; the reason is in its log";
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, told.into())
}

async fn read(request: hyper::Request<Incoming>) -> Result<Body, Refusal> {
    let long = || {
        let told = format!("expected at most {MAX_BODY} bytes");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, told)
    };
    let body = request.into_body();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(long());
    }
    let bytes = match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(long()),
        Err(_) => return Err(Refusal(StatusCode::BAD_REQUEST, "the body ended early".into())),
    };
    serde_json::from_slice(&bytes).map_err(|_| {
        let told = r#"expected {"csr": "-----BEGIN CERTIFICATE REQUEST-----…", "token": "…"}"#;
        Refusal(StatusCode::BAD_REQUEST, told.into())
    })
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let told = format!("expected {allowed}\n");
    let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", told);
    refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    refused
}
