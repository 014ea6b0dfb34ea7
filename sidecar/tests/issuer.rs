//! The issuer over HTTPS, as a program.

mod common;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser as _;
use hermesh_mesh::{
    Clock, SystemClock, UnixMillis,
    identity::{CertificateError, Chain, Credentials, Purpose, SpiffeId, Trust},
    issuer::{
        Authority, Directory, DirectoryError, Issuer, KeyAndRequest, Lifetime, Token, Tokens, Uses,
        files::{self, Existing},
        grant,
    },
};
use hermesh_sidecar::{
    issuer::{Ask, CertificateAuthority as _, Cli, Client, ClientError, Error, Options, bind, run},
    source::{Enrolment, Source},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{ServerName, UnixTime},
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use common::{DOMAIN, HOUR, MINUTE, id};

/// A clock that the test sets.
#[derive(Debug)]
struct Settable(AtomicU64);

impl Settable {
    fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).expect("fits");
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Settable {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

impl TimeProvider for Settable {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.now().0)))
    }
}

/// A running issuer.
struct World {
    place: TempDir,
    clock: Arc<Settable>,
    root: Authority,
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let place = TempDir::new().expect("a directory");
        let now = SystemClock.now();
        let clock = Arc::new(Settable(AtomicU64::new(now.0)));
        let directory = Directory::new(place.path());
        let root = directory.init(DOMAIN, now, 48 * HOUR).expect("makes a root");
        let issuer = Issuer::new(
            directory.authority().expect("reads"),
            &directory.roots().expect("reads"),
            directory.tokens().expect("opens"),
            Lifetime::default(),
            |_| false,
        );
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            hosts: vec!["127.0.0.1".into(), "issuer.local".into()],
        };
        let issuer = Arc::new(issuer.expect("an issuer"));
        let bound = bind(issuer, options, clock.clone()).await.expect("binds");
        let address = bound.address();
        let mut task = JoinSet::new();
        task.spawn(bound.serve(std::future::pending()));
        Self { place, clock, root, address, _task: task }
    }

    fn token(&self, workload: &str) -> Token {
        let tokens = Tokens::open(&self.place.path().join("tokens")).expect("opens");
        tokens.create(&id(workload), &[], self.clock.now(), HOUR).expect("a token")
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(DOMAIN, self.root.certificate().as_bytes()).expect("roots")
    }

    fn client(&self) -> Client {
        Client::new(self.address.to_string(), self.clock.clone())
    }

    async fn join(&self, workload: &str) -> Credentials {
        let asked = KeyAndRequest::generate(&id(workload)).expect("a request");
        let token = Some(self.token(workload));
        let ask = Ask { trust: self.trust(), credentials: None, csr: asked.request.clone(), token };
        let answer = self.client().certificate(ask).await.expect("a certificate");
        Credentials::from_pem(answer.certificate.as_bytes(), asked.key.as_bytes())
            .expect("belong together")
    }

    async fn renew(
        &self,
        credentials: &Credentials,
        as_whom: &str,
    ) -> Result<SpiffeId, ClientError> {
        let ask = Ask {
            trust: self.trust(),
            credentials: Some(credentials.clone()),
            csr: KeyAndRequest::generate(&id(as_whom)).expect("a request").request,
            token: None,
        };
        let answer = self.client().certificate(ask).await?;
        let chain = Chain::from_pem(answer.certificate.as_bytes()).expect("a chain");
        Ok(self.trust().verify(&chain, Purpose::Client, self.clock.now()).expect("valid").id)
    }

    async fn tls(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for root in self.trust().roots() {
            roots.add(root.clone()).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_details(provider, self.clock.clone())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends a request and returns everything received.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = self.tls(&[&TLS13]).await.expect("a handshake");
        // Ignored: the response may come before the whole request has been read.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
        String::from_utf8(answer).expect("text")
    }

    async fn get(&self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: issuer\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, body: &str) -> String {
        let head = format!(
            "POST /v1/certificate HTTP/1.1\r\nhost: issuer\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(format!("{head}{body}").as_bytes()).await
    }
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

fn escaped(csr: &str) -> String {
    csr.replace('\n', "\\n")
}

#[tokio::test]
async fn a_workload_joins_and_renews_over_https() {
    let world = World::start().await;
    let first = world.join("service/evaluation").await;
    assert_eq!(*first.id(), id("service/evaluation"));
    world.clock.advance(30 * MINUTE);
    let renewed = world.renew(&first, "service/evaluation").await.expect("renews");
    assert_eq!(renewed, id("service/evaluation"));
    let error = world.renew(&first, "service/aggregation").await.expect_err("it lies");
    assert!(matches!(error, ClientError::Refused { status: 403, .. }), "{error}");
}

#[tokio::test]
async fn a_source_enrols_over_https() {
    let world = World::start().await;
    let token = world.place.path().join("token");
    let text = world.token("service/evaluation").reveal();
    files::write_secret(&token, text.as_bytes(), Existing::Keep).expect("writes");
    let source = Source::Issuer(Enrolment {
        address: world.address.to_string(),
        roots: world.place.path().join("roots.pem"),
        identity: id("service/evaluation"),
        token: Some(token),
        directory: world.place.path().join("identity"),
    });
    let handle = timeout(MINUTE, source.start(world.clock.clone())).await.expect("starts");
    assert_eq!(*handle.current().id(), id("service/evaluation"));
    assert!(world.place.path().join("identity/identity.pem").exists());
}

#[tokio::test]
async fn the_issuers_own_certificate_is_renewed() {
    let world = World::start().await;
    let peer = async || {
        let stream = world.tls(&[&TLS13]).await.expect("a handshake");
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().expect("has one");
        Chain::new(certificates.to_vec()).expect("a chain").peer().expect("a name")
    };
    let first = peer().await;
    assert_eq!(first.id, id("issuer/hermesh"));
    assert_eq!(peer().await, first);
    world.clock.advance(30 * MINUTE);
    let second = peer().await;
    assert_ne!(second.fingerprint, first.fingerprint);
    assert!(second.not_after > first.not_after);
}

#[tokio::test]
async fn an_expired_certificate_renews_nothing() {
    let world = World::start().await;
    let old = world.join("service/evaluation").await;
    world.clock.advance(HOUR + MINUTE);
    let error = world.renew(&old, "service/evaluation").await.expect_err("it is too old");
    assert!(!matches!(error, ClientError::Refused { .. }), "it ends with TLS: {error}");
}

#[tokio::test]
async fn a_certificate_of_another_root_renews_nothing() {
    let (world, other) = (World::start().await, World::start().await);
    let theirs = other.join("service/evaluation").await;
    let error = world.renew(&theirs, "service/evaluation").await.expect_err("an unknown root");
    assert!(!matches!(error, ClientError::Refused { .. }), "it ends with TLS: {error}");
}

#[tokio::test]
async fn who_is_not_the_issuer_is_told_no_token() {
    let world = World::start().await;
    let now = world.clock.now();
    // A workload of our domain that is not the issuer, and the issuer of another domain.
    let other = Authority::create(DOMAIN, now, now.plus(HOUR)).expect("creates");
    for (authority, workload) in [(&world.root, "service/evaluation"), (&other, "issuer/hermesh")] {
        let grant = grant(authority, id(workload), Vec::new(), now, HOUR).expect("grants");
        let credentials = authority.credentials(&grant).expect("issues");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified_key())));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            acceptor.accept(stream).await.is_err()
        });
        let ask = Ask {
            trust: world.trust(),
            credentials: None,
            csr: String::new(),
            token: Some(world.token("service/evaluation")),
        };
        let client = Client::new(address, world.clock.clone());
        let error = client.certificate(ask).await.expect_err("it is not the issuer");
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
        assert!(server.await.expect("ends"), "the handshake is broken off");
    }
}

#[tokio::test]
async fn tls_is_of_version_1_3() {
    let world = World::start().await;
    world.tls(&[&TLS13]).await.expect("a handshake");
    let error = world.tls(&[&TLS12]).await.expect_err("too old");
    let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion);
    assert_eq!(alert, Some(&expected));
}

#[tokio::test]
async fn long_bodies_are_refused() {
    let world = World::start().await;
    let long = "x".repeat((64 << 10) + 1);
    assert_eq!(status(&world.post(&long).await), "413");
    // Without a content length.
    let head = "POST /v1/certificate HTTP/1.1\r\nhost: issuer\r\ntransfer-encoding: chunked";
    let chunked = format!("{head}\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    assert_eq!(status(&world.send(chunked.as_bytes()).await), "413");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: issuer\r\nx: {long}\r\n\r\n");
    assert_eq!(status(&world.send(head.as_bytes()).await), "431");
    assert_eq!(status(&world.get("/healthz").await), "200");
}

#[tokio::test]
async fn what_is_not_asked_as_it_should_be_is_refused() {
    let world = World::start().await;
    let csr = escaped(&KeyAndRequest::generate(&id("tenant/acme")).expect("a request").request);
    let token = world.token("tenant/acme").reveal();
    for (expected, body) in [
        ("400", "".to_owned()),
        ("400", "{}".to_owned()),
        ("400", r#"{"csr": 1}"#.to_owned()),
        ("400", format!(r#"{{"csr": "{csr}", "identity": "service/evaluation"}}"#)),
        ("401", format!(r#"{{"csr": "{csr}"}}"#)),
        ("400", format!(r#"{{"csr": "nothing", "token": "{}"}}"#, *token)),
        ("403", format!(r#"{{"csr": "{csr}", "token": "nothing"}}"#)),
        ("200", format!(r#"{{"csr": "{csr}", "token": "{}"}}"#, *token)),
        ("403", format!(r#"{{"csr": "{csr}", "token": "{}"}}"#, *token)),
    ] {
        let answer = world.post(&body).await;
        assert_eq!(status(&answer), expected, "{body}: {answer}");
    }
    assert_eq!(status(&world.get("/v1/certificate").await), "405");
    assert_eq!(status(&world.get("/").await), "404");
}

#[tokio::test]
async fn an_address_may_guess_ten_times_a_minute() {
    let world = World::start().await;
    let csr = escaped(&KeyAndRequest::generate(&id("tenant/acme")).expect("a request").request);
    let ask = |token: &str| format!(r#"{{"csr": "{csr}", "token": "{token}"}}"#);
    for attempt in 0..10 {
        assert_eq!(status(&world.post(&ask(&"A".repeat(43))).await), "403", "{attempt}");
    }
    let good = ask(&world.token("tenant/acme").reveal());
    let answer = world.post(&good).await;
    assert_eq!(status(&answer), "429");
    assert!(answer.contains("retry-after: 60"), "{answer}");
    world.clock.advance(MINUTE);
    assert_eq!(status(&world.post(&good).await), "200");
}

#[tokio::test]
async fn roots_and_health_are_for_everybody() {
    let world = World::start().await;
    let answer = world.get("/v1/roots").await;
    assert_eq!(status(&answer), "200");
    let roots = Trust::from_pem(DOMAIN, body(&answer).as_bytes()).expect("roots");
    assert_eq!(roots.roots(), world.trust().roots());
    assert_eq!(status(&world.get("/healthz").await), "200");
}

#[tokio::test]
async fn whoever_says_nothing_keeps_nobody_from_being_served() {
    let world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(world.address).await.expect("connects"));
    }
    assert_eq!(status(&world.get("/healthz").await), "200");
}

fn call(arguments: &[&str]) -> Result<String, Error> {
    let arguments = ["hermesh-issuer"].iter().chain(arguments);
    let cli = Cli::try_parse_from(arguments).expect("parses");
    let mut out = Vec::new();
    run(cli, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn init_makes_a_root_once() {
    let place = TempDir::new().expect("a directory");
    let directory = place.path().join("issuer");
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    call(&init).expect("makes a root");
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("root-key.pem")), 0o600);
    let before = fs::read(directory.join("root-key.pem")).expect("reads");
    let again = call(&init);
    assert!(matches!(again, Err(Error::Directory(DirectoryError::Exists(_)))), "{again:?}");
    assert_eq!(fs::read(directory.join("root-key.pem")).expect("reads"), before);
    let bad = call(&["init", "--domain", "Not One", "--directory", text(place.path())]);
    assert!(matches!(bad, Err(Error::Directory(DirectoryError::Domain(_)))), "{bad:?}");
}

#[test]
fn certificates_are_issued_without_a_server() {
    let place = TempDir::new().expect("a directory");
    let (directory, out) = (place.path().join("issuer"), place.path().join("nats"));
    call(&["init", "--domain", DOMAIN, "--directory", text(&directory)]).expect("makes a root");
    let issue = |identity, hours| {
        let common = ["issue", "--directory", text(&directory), "--out", text(&out)];
        let rest = ["--identity", identity, "--host", "nats.local", "--hours", hours];
        call(&[&common[..], &rest].concat())
    };
    issue("broker/nats", "48").expect("issues");
    assert_eq!(mode(&out.join("key.pem")), 0o600);
    let read = |name| fs::read(out.join(name)).expect("reads");
    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    let trust = Trust::from_pem(DOMAIN, &read("roots.pem")).expect("roots");
    let now = SystemClock.now();
    let peer = trust.verify(own.chain(), Purpose::Server, now).expect("valid");
    assert_eq!(peer.id, id("broker/nats"));
    assert!((47..=48).contains(&(now.until(peer.not_after).as_secs() / 3600)));
    let client = trust.verify(own.chain(), Purpose::Client, now);
    assert_eq!(client, Err(CertificateError::Purpose(Purpose::Client)), "brokers sign nothing");
    issue("service/evaluation", "1").expect("replaces");
    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    assert!(trust.verify(own.chain(), Purpose::Client, now).is_ok());
    let bad = issue("evaluation", "1");
    assert!(matches!(bad, Err(Error::Identity(_))), "{bad:?}");
    let authority = Directory::new(&directory).authority().expect("reads");
    let broker = grant(&authority, id("broker/nats"), Vec::new(), now, HOUR).expect("grants");
    assert_eq!(broker.uses, Uses::ServerOnly);
}

#[test]
fn certificates_are_kept_for_workloads_that_do_not_ask() {
    let place = TempDir::new().expect("a directory");
    let (directory, out) = (place.path().join("issuer"), place.path().join("identities"));
    let keep = |domain, last| {
        let common = ["keep", "--directory", text(&directory), "--out", text(&out)];
        let who = ["--identity", "service/evaluation", "--identity", "broker/nats"];
        call(&[&common[..], &who, &["--domain", domain, last]].concat())
    };
    let read = |name: &str| fs::read(out.join("service/evaluation").join(name)).expect("reads");

    // No file exists yet, and --check creates none.
    let none = keep(DOMAIN, "--check");
    assert!(matches!(none, Err(Error::File { .. })), "{none:?}");
    assert!(!directory.exists());
    keep(DOMAIN, "--once").expect("makes the root too");
    keep(DOMAIN, "--check").expect("all are there");
    let (first, root) = (read("certificate.pem"), read("roots.pem"));
    keep(DOMAIN, "--once").expect("again");
    assert_ne!(read("certificate.pem"), first);
    assert_eq!(read("roots.pem"), root);

    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    let trust = Trust::from_pem(DOMAIN, &root).expect("roots");
    let valid = trust.verify(own.chain(), Purpose::Client, SystemClock.now());
    assert_eq!(valid.expect("valid").id, id("service/evaluation"));
    assert_eq!(mode(&out.join("service/evaluation/key.pem")), 0o600);
    let other = keep("other.local", "--once");
    assert!(matches!(other, Err(Error::Directory(DirectoryError::Other { .. }))), "{other:?}");
    // The key of another workload.
    fs::write(out.join("service/evaluation/key.pem"), {
        fs::read(out.join("broker/nats/key.pem")).expect("reads")
    })
    .expect("writes");
    let spoilt = keep(DOMAIN, "--check");
    assert!(matches!(spoilt, Err(Error::NotKept { .. })), "{spoilt:?}");
}

#[test]
fn the_arguments_have_bounds() {
    let parse = |rest: &[&str]| {
        Cli::try_parse_from([&["hermesh-issuer"], rest].concat()).map_err(|error| error.kind())
    };
    for bad in [
        &["init", "--domain", "d", "--directory", "x", "--years", "31"][..],
        &["token", "--directory", "x", "--identity", "a/b", "--minutes", "0"],
        &["issue", "--directory", "x", "--identity", "a/b", "--out", "y", "--hours", "8761"],
        &["serve", "--directory", "x", "--minutes", "4"],
        &["serve", "--directory", "x", "--minutes", "1441"],
    ] {
        assert_eq!(parse(bad).expect_err("out of range"), clap::error::ErrorKind::ValueValidation);
    }
}

/// The program as a process.
struct Program {
    place: TempDir,
}

impl Program {
    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hermesh-issuer"));
        command.args(arguments).env_remove("HERMESH_LOG").kill_on_drop(true);
        command
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("issuer")
    }

    async fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command(arguments).output().await.expect("runs")
    }
}

#[tokio::test]
async fn the_program_says_how_it_ended() {
    let program = Program { place: TempDir::new().expect("a directory") };
    let directory = program.directory();
    let missing = program.run(&["serve", "--directory", text(&directory)]).await;
    assert_eq!(missing.status.code(), Some(1));
    let told = String::from_utf8(missing.stderr).expect("text");
    assert!(told.starts_with("error: ") && told.contains("root.pem"), "{told}");
    assert_eq!(program.run(&["serve"]).await.status.code(), Some(2));
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    assert_eq!(program.run(&init).await.status.code(), Some(0));
    let token = ["token", "--directory", text(&directory), "--identity", "Not/One"];
    assert_eq!(program.run(&token).await.status.code(), Some(2));
}

#[tokio::test]
async fn the_program_issues_and_logs_no_secret() {
    let program = Program { place: TempDir::new().expect("a directory") };
    let directory = program.directory();
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    assert!(program.run(&init).await.status.success());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "json", "--directory"];
    let mut serve = program.command(&[&serve[..], &[text(&directory)]].concat());
    let mut serve = serve.env("HERMESH_LOG", "trace").stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(serve.stderr.take().expect("piped")).lines();
    let mut log = Vec::new();
    let address = loop {
        let line = lines.next_line().await.expect("reads").expect("it says where");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        log.push(line);
        if value["message"] == "issuing" {
            break value["address"].as_str().expect("text").to_owned();
        }
    };
    // Created while the issuer runs.
    let token = ["token", "--directory", text(&directory), "--identity", "tenant/acme"];
    let token = program.run(&token).await;
    let token = String::from_utf8(token.stdout).expect("text").trim_end().to_owned();
    let roots = fs::read(directory.join("roots.pem")).expect("reads");
    let asked = KeyAndRequest::generate(&id("tenant/acme")).expect("a request");
    let client = Client::new(address, Arc::new(SystemClock));
    let ask = || Ask {
        trust: Trust::from_pem(DOMAIN, &roots).expect("roots"),
        credentials: None,
        csr: asked.request.clone(),
        token: Some(token.parse().expect("a token")),
    };
    client.certificate(ask()).await.expect("issues");
    let again = client.certificate(ask()).await.expect_err("it was used");
    assert!(matches!(again, ClientError::Refused { status: 403, .. }), "{again}");
    let process = serve.id().expect("it runs").to_string();
    let kill = tokio::process::Command::new("kill").args(["-TERM", &process]).status().await;
    assert!(kill.expect("runs").success());
    assert_eq!(serve.wait().await.expect("ends").code(), Some(0));
    while let Some(line) = lines.next_line().await.expect("reads") {
        log.push(line);
    }
    let log = log.join("\n");
    assert!(log.contains("issued a certificate") && log.contains("tenant/acme"), "{log}");
    assert!(log.contains("refused a certificate"), "{log}");
    assert!(!log.contains(&token), "the token is in the log");
}
