//! The gateway as any program sees it: bytes in, bytes out. Real inference over it is tested with the
//! client, which has models and keys.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use hermesh_embedded::{
    Embedded, Error, Options,
    gateway::{self, Gateway},
};
use hermesh_mesh::{
    Bytes, Clock, Digest, JobId, SigningKey, SystemClock, TenantId,
    wire::{
        Context, FactsQuery, Job, KeyRevoked, RegisterModel, RegisterTenant, RevokeKey,
        UploadEvaluationKey, Wire,
    },
};

const MAX_UPLOAD: usize = 4096;
const MAX_INPUT: usize = 1024;

struct Running {
    gateway: Gateway,
    // Last, so that the services outlive the gateway.
    mesh: Embedded,
}

fn start() -> Running {
    start_with(gateway::Options::default())
}

fn start_with(options: gateway::Options) -> Running {
    let mesh = Embedded::start(Options::default().with_threads(1)).unwrap();
    let options =
        gateway::Options { max_upload_bytes: MAX_UPLOAD, max_input_bytes: MAX_INPUT, ..options };
    Running { gateway: Gateway::start(&mesh, &options).unwrap(), mesh }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The code of a refusal.
    fn code(&self) -> &str {
        assert_eq!(self.header("ce-type"), Some("hermesh.refusal"), "{}", self.head);
        assert_eq!(self.header("Hermesh-Reason").unwrap(), self.body.trim_end());
        self.header("Hermesh-Code").unwrap()
    }
}

impl Running {
    fn raw(&self, request: &[u8]) -> Reply {
        raw(self.gateway.address(), request)
    }

    fn send(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.raw(&[request.as_bytes(), body].concat())
    }

    fn post(&self, path: &str, message: &impl Wire) -> Reply {
        let message = message.encode("test");
        let headers: Vec<(&str, &str)> = message.headers.iter().collect();
        self.send(&format!("POST {path}"), &headers, &message.body)
    }

    /// Posts a job that is not admitted, and returns why.
    fn refusal(&self, job: &Job) -> String {
        let posted = self.post("/v1/jobs", job);
        assert_eq!(posted.status, 403, "{}", posted.head);
        assert_eq!(posted.header("ce-type"), Some("hermesh.failure"));
        assert_eq!(posted.header("Hermesh-Signature"), Some(&*job.signature.to_string()));
        posted.header("Hermesh-Code").unwrap().to_owned()
    }

    /// It still does its work for somebody.
    fn works(&self) {
        let tenant: TenantId = format!("t-{}", JobId::random()).parse().unwrap();
        let register = RegisterTenant::new(tenant, &SigningKey::generate());
        let reply = self.post("/v1/requests", &register);
        assert_eq!(reply.status, 200, "{}", reply.head);
        assert_eq!(reply.header("ce-type"), Some("hermesh.accepted"));
    }
}

fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut text = Vec::new();
    // After a refusal the rest of the body may find the connection closed.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("reply: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn context(name: &str) -> Context {
    Context {
        job: JobId::random(),
        tenant: tenant(name),
        model: Digest([1; 32]),
        key: Digest([2; 32]),
        input: Digest([0; 32]),
        deadline: SystemClock.now().plus(Duration::from_secs(3600)),
        trace: None,
    }
}

#[test]
fn it_listens_on_loopback_only() {
    let mesh = Embedded::start(Options::default().with_threads(1)).unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let listen = address.parse().unwrap();
        let options = gateway::Options { listen, ..gateway::Options::default() };
        let started = Gateway::start(&mesh, &options);
        assert!(matches!(started, Err(Error::NotLoopback(found)) if found == listen));
    }
}

#[test]
fn a_taken_port_is_said() {
    let running = start();
    let listen = running.gateway.address();
    let mesh = Embedded::start(Options::default().with_threads(1)).unwrap();
    let options = gateway::Options { listen, ..gateway::Options::default() };
    let started = Gateway::start(&mesh, &options);
    assert!(matches!(started, Err(Error::Listen { address, .. }) if address == listen));
}

#[test]
fn it_ends_when_dropped() {
    let Running { gateway, mesh } = start();
    let address = gateway.address();
    drop(gateway);
    assert!(TcpStream::connect(address).is_err());
    mesh.stop();
}

#[test]
fn health_states_the_service_key_and_metrics_are_prometheus() {
    let running = start();
    running.works();
    let health = running.send("GET /healthz", &[], b"");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    assert_eq!(health.header("Hermesh-Service"), Some(&*running.mesh.identity().to_string()));
    let metrics = running.send("GET /metrics", &[], b"");
    assert_eq!(metrics.status, 200);
    for service in ["gateway", "key-management"] {
        let line = format!(
            "hermesh_messages_total{{class=\"hermesh.keys\",direction=\"in\",service=\"{service}\"}} 1"
        );
        assert!(metrics.body.lines().any(|found| found == line), "{line}\n{}", metrics.body);
    }
}

#[test]
fn web_pages_are_kept_out() {
    let running = start();
    let get = |headers: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        running.raw(request.as_bytes())
    };
    for headers in [
        "Host: example.com\r\n",
        "Host: localhost.example.com:8080\r\n",
        "Host: localhost\r\nHost: example.com\r\n",
        "Host: localhost\r\nOrigin: http://localhost:8080\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: \r\n",
    ] {
        let reply = get(headers);
        assert!(matches!(reply.status, 400 | 403), "{headers:?}: {}", reply.head);
    }
    assert_eq!(get("Host: example.com\r\n").code(), "malformed");
    assert_eq!(get("Host: example.com\r\n").status, 403);
    assert_eq!(get("Host: [::1]:80\r\n").status, 200);
    let absolute = b"GET http://example.com/healthz HTTP/1.1\r\nHost: localhost\r\n\
                     Connection: close\r\n\r\n";
    assert_eq!(running.raw(absolute).status, 403);
    assert_eq!(running.raw(b"GET /healthz HTTP/1.0\r\n\r\n").status, 403);
    running.works();
}

#[test]
fn only_what_a_tenant_may_ask_has_a_path() {
    let running = start();
    for line in ["GET /", "POST /v1/facts", "GET /v1/jobs", "DELETE /v1/uploads", "PUT /v1/jobs"] {
        let status = running.send(line, &[], b"").status;
        assert!(matches!(status, 404 | 405), "{line}: {status}");
    }
    // Messages of the services.
    let (key, model) = (Digest([2; 32]), Digest([1; 32]));
    let query = FactsQuery { tenant: tenant("acme"), key, model };
    assert_eq!(running.post("/v1/requests", &query).status, 404);
    assert_eq!(
        running.post("/v1/requests", &KeyRevoked { tenant: tenant("acme"), key }).status,
        404
    );
    let register = RegisterTenant::new(tenant("acme"), &SigningKey::generate());
    assert_eq!(running.post("/v1/jobs", &register).status, 400);
    let wildcards = "GET /v1/jobs/*/00000000000000000000000000000000";
    assert_eq!(running.send(wildcards, &[], b"").status, 400);
    assert_eq!(running.send("GET /v1/jobs/acme/%3E", &[], b"").status, 400);
    running.works();
}

#[test]
fn malformed_messages_are_refused_with_their_reason() {
    let running = start();
    let message = RegisterTenant::new(tenant("acme"), &SigningKey::generate()).encode("test");
    let headers: Vec<(&str, &str)> = message.headers.iter().collect();
    let post = |headers: &[(&str, &str)]| running.send("POST /v1/requests", headers, b"");
    // Each header once missing, once twice, once wrong.
    for (index, (name, value)) in headers.iter().enumerate() {
        let mut changed = headers.clone();
        changed.insert(index, (name, value));
        assert_eq!(post(&changed).status, 400, "{name} twice");
        if matches!(*name, "ce-id" | "ce-source" | "ce-specversion") {
            continue;
        }
        let mut changed = headers.clone();
        changed.remove(index);
        assert_eq!(post(&changed).status, 400, "without {name}");
        changed.insert(index, (name, "no such value"));
        let reply = post(&changed);
        assert!(matches!(reply.status, 400 | 404), "wrong {name}: {}", reply.head);
        assert_eq!(reply.code(), "malformed");
    }
    let long = "x".repeat(1025);
    let mut changed = headers.clone();
    changed.push(("Hermesh-Extra", &long));
    assert_eq!(post(&changed).status, 400);
    let names: Vec<String> = (0..60).map(|n| format!("Hermesh-X-{n}")).collect();
    let mut changed = headers.clone();
    changed.extend(names.iter().map(|name| (&**name, "x")));
    assert_eq!(post(&changed).status, 400);
    let reply = running.send("POST /v1/requests", &headers, b"a body");
    assert_eq!((reply.status, reply.code()), (413, "too-large"));
    running.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n");
    assert_eq!(post(&headers).status, 200);
}

#[test]
fn bodies_are_bounded_in_size_and_time() {
    let running = start();
    let put = |headers: &str, body: &[u8]| {
        let head = "PUT /v1/uploads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        running.raw(&[head.as_bytes(), headers.as_bytes(), b"\r\n", body].concat())
    };
    // Refused by what is announced, before it comes.
    for length in ["4097", "99999999999"] {
        let reply = put(&format!("Content-Length: {length}\r\n"), b"");
        assert_eq!((reply.status, reply.code()), (413, "too-large"));
    }
    let unmeasurable = put("Content-Length: 99999999999999999999999999\r\n", b"");
    assert!(matches!(unmeasurable.status, 400 | 411), "{}", unmeasurable.head);
    let chunked = put("Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\n\r\n");
    assert_eq!(chunked.status, 411);

    let largest = vec![7; MAX_UPLOAD];
    let reply = running.send("PUT /v1/uploads", &[], &largest);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.body.trim_end(), Digest::of(&largest).to_string());
    running.works();
}

#[test]
fn bodies_that_stay_away_are_given_up() {
    let short = Duration::from_millis(50);
    let impatient = gateway::Options { body_timeout: short, ..gateway::Options::default() };
    let running = start_with(impatient);
    let head = "PUT /v1/uploads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let request = [head.as_bytes(), b"Content-Length: 100\r\n\r\nx"].concat();
    assert_eq!(running.raw(&request).status, 408);
}

#[test]
fn a_job_without_news_is_accepted_and_silent() {
    let short = Duration::from_millis(50);
    let running = start_with(gateway::Options { poll: short, ..gateway::Options::default() });
    let unknown = format!("GET /v1/jobs/acme/{}", JobId::random());
    let silent = running.send(&unknown, &[], b"");
    assert_eq!((silent.status, silent.header("ce-type")), (202, None), "{}", silent.head);
}

#[test]
fn key_management_refuses_over_http_as_on_the_bus() {
    let running = start();
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    let name = || tenant("acme");
    assert_eq!(running.post("/v1/requests", &RegisterTenant::new(name(), &key)).status, 200);

    let taken = running.post("/v1/requests", &RegisterTenant::new(name(), &other));
    assert_eq!((taken.status, taken.code()), (403, "tenant-refused"));
    let mut forged = RegisterTenant::new(tenant("forged"), &key);
    forged.key = other.verifying_key();
    let forged = running.post("/v1/requests", &forged);
    assert_eq!((forged.status, forged.code()), (403, "bad-signature"));

    let garbage = b"not a key".as_slice();
    let digest = Digest::of(garbage);
    let missing = running.post("/v1/requests", &UploadEvaluationKey::new(name(), digest, &key));
    assert_eq!((missing.status, missing.code()), (400, "digest-mismatch"));
    assert_eq!(running.send("PUT /v1/uploads", &[], garbage).status, 201);
    let stranger = running.post("/v1/requests", &UploadEvaluationKey::new(name(), digest, &other));
    assert_eq!((stranger.status, stranger.code()), (403, "bad-signature"));
    let undecodable = running.post("/v1/requests", &UploadEvaluationKey::new(name(), digest, &key));
    assert_eq!((undecodable.status, undecodable.code()), (400, "malformed"));
    let unknown = running.post("/v1/requests", &RevokeKey::new(name(), digest, &key));
    assert_eq!((unknown.status, unknown.code()), (404, "unknown-key"));
    assert_eq!(running.send("PUT /v1/uploads", &[], garbage).status, 201);
    let model = running.post("/v1/requests", &RegisterModel { model: digest });
    assert_eq!((model.status, model.code()), (400, "malformed"));
    running.works();
}

#[test]
fn a_job_that_is_not_admitted_is_refused() {
    let running = start();
    let key = SigningKey::generate();
    let context = context("nobody");
    let job = Job::new(context.clone(), Bytes::from_static(b"input"), &key);
    assert_eq!(running.refusal(&job), "unknown-tenant");

    assert_eq!(
        running.post("/v1/requests", &RegisterTenant::new(tenant("acme"), &key)).status,
        200
    );
    let forged = Context { job: JobId::random(), tenant: tenant("acme"), ..context.clone() };
    let forged = Job::new(forged, Bytes::from_static(b"input"), &SigningKey::generate());
    assert_eq!(running.refusal(&forged), "bad-signature");

    let large = Job::new(context, vec![0; MAX_INPUT + 1].into(), &key);
    assert_eq!(running.post("/v1/jobs", &large).status, 413);
    running.works();
}
