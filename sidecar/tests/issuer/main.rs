//! The issuer over HTTPS, as a program.

#[path = "../common/mod.rs"]
mod common;
mod https;
mod program;

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
