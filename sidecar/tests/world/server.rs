//! A real nats-server, configured from the policy.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hermesh_mesh::{
    identity::{Credentials, Trust},
    nats_server::{NatsServer, NatsServerOptions, free_port},
    policy::{
        Policy,
        nats::{ServerOptions, render},
    },
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Domain, PATIENCE, client};

pub struct Server {
    pub address: SocketAddr,
    pub server: NatsServer,
    options: ServerOptions,
    _directory: tempfile::TempDir,
}

impl Server {
    pub async fn start(domain: &Domain, policy: &Policy) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port().expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let options = ServerOptions {
            listen: address,
            monitoring: Some(free_port().expect("a port")),
            certificate: directory.path().join("certificate.pem"),
            key: directory.path().join("key.pem"),
            roots: directory.path().join("roots.pem"),
            store: directory.path().join("store"),
            log: Some(directory.path().join("nats.log")),
            max_payload: 8 << 20,
            handshake_first: false,
            sync_always: false,
        };
        write(domain, &options);
        let server = NatsServerOptions {
            port,
            configuration: Some(render(policy, &options)),
            ..NatsServerOptions::new(directory.path())
        };
        let server = NatsServer::start(server).await.expect("starts");
        Self { address, server, options, _directory: directory }
    }

    /// Makes it load rules from another policy.
    pub fn reload(&self, policy: &Policy) {
        self.server.reload(&render(policy, &self.options)).expect("reloads");
    }

    /// Gives it another certificate.
    pub fn rotate(&self, domain: &Domain, policy: &Policy) {
        write(domain, &self.options);
        self.reload(policy);
    }
}

fn write(domain: &Domain, options: &ServerOptions) {
    let (chain, key) = domain.pem("broker/nats");
    let put = |path: &Path, text: &str| fs::write(path, text).expect("writes");
    put(&options.certificate, &chain);
    put(&options.key, &key);
    put(&options.roots, domain.authority.certificate());
}

/// A connection straight to the server, bypassing the sidecar.
pub struct Straight(BufReader<TlsStream<TcpStream>>);

impl Straight {
    /// As one workload.
    pub async fn of(server: &Server, domain: &Domain, workload: &str) -> std::io::Result<Self> {
        Self::connect(server.address, &domain.credentials(workload), &domain.trust()).await
    }

    pub async fn connect(
        address: SocketAddr,
        credentials: &Credentials,
        trust: &Trust,
    ) -> std::io::Result<Self> {
        Self::with(address, client(credentials, trust)).await
    }

    pub async fn with(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut plain = BufReader::new(TcpStream::connect(address).await?);
        let mut info = String::new();
        plain.read_line(&mut info).await?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let stream = TlsConnector::from(tls).connect(name, plain.into_inner()).await?;
        let mut straight = Self(BufReader::new(stream));
        // In TLS 1.3 a client learns that it is refused only when it sends.
        straight
            .say("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n")
            .await?;
        match straight.errors().await? {
            errors if errors.is_empty() => Ok(straight),
            errors => Err(std::io::Error::other(errors.join(", "))),
        }
    }

    pub async fn say(&mut self, bytes: &str) -> std::io::Result<()> {
        self.0.write_all(bytes.as_bytes()).await?;
        self.0.flush().await
    }

    /// The first line that contains `what`.
    pub async fn hears(&mut self, what: &str) -> String {
        let reading = async {
            loop {
                let mut line = String::new();
                assert!(self.0.read_line(&mut line).await.expect("reads") > 0, "it hung up");
                if line.contains(what) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{what}: never heard"))
    }

    /// The errors until the next PONG.
    pub async fn errors(&mut self) -> std::io::Result<Vec<String>> {
        let mut errors = Vec::new();
        let reading = async {
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await? == 0 {
                    return Err(std::io::Error::other(format!("it hung up: {errors:?}")));
                }
                if line.starts_with("PONG") {
                    return Ok(());
                }
                if line.starts_with("-ERR") {
                    errors.push(line.trim_end().to_owned());
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("an answer")?;
        Ok(errors)
    }

    /// Whether the other side ends the connection.
    pub async fn ends(&mut self, within: Duration) -> bool {
        let reading = async {
            let mut line = String::new();
            while self.0.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                line.clear();
            }
        };
        timeout(within, reading).await.is_ok()
    }
}
