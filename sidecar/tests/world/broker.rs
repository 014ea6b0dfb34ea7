//! A malicious broker: it has the certificate of a real one, stores and delivers through a nats-server
//! behind it, and tampers with messages.

use std::{net::SocketAddr, sync::Arc, sync::Mutex};

use bytes::{Bytes, BytesMut};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use hermesh_sidecar::{
    protocol::{Frame, Limits, ServerOp, ServerParser},
    proxy::Handshake,
    tls,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::Domain;

/// Replaces a frame of the server by any number of frames.
pub type Tamper = Box<dyn FnMut(&Frame<ServerOp>) -> Vec<Bytes> + Send>;

pub struct Broker {
    pub address: SocketAddr,
    pub server: NatsServer,
    tamper: Arc<Mutex<Tamper>>,
    _directory: tempfile::TempDir,
}

impl Broker {
    pub async fn start(domain: &Domain, handshake: Handshake) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = NatsServer::start(NatsServerOptions::new(directory.path())).await;
        let server = server.expect("starts");
        let behind = server.url().replace("nats://", "");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let honest: Tamper = Box::new(|frame| vec![frame.raw.clone()]);
        let tamper = Arc::new(Mutex::new(honest));
        let identity = domain.identity("broker/nats");
        let tls =
            tls::server(&identity.credentials, &identity.trust, Arc::new(|_| false)).expect("TLS");
        let (acceptor, shared) = (TlsAcceptor::from(tls), tamper.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, tamper) = (acceptor.clone(), shared.clone());
                let behind = behind.clone();
                tokio::spawn(async move {
                    let _ = carry(stream, &behind, handshake, acceptor, tamper).await;
                });
            }
        });
        Self { address, server, tamper, _directory: directory }
    }

    pub fn tamper(&self, tamper: impl FnMut(&Frame<ServerOp>) -> Vec<Bytes> + Send + 'static) {
        *self.tamper.lock().expect("not poisoned") = Box::new(tamper);
    }

    pub fn behave(&self) {
        self.tamper(|frame| vec![frame.raw.clone()]);
    }
}

async fn carry(
    mut client: TcpStream,
    behind: &str,
    handshake: Handshake,
    acceptor: TlsAcceptor,
    tamper: Arc<Mutex<Tamper>>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    let mut parser = ServerParser::new(Limits::server(16 << 20));
    let mut read = BytesMut::new();
    let info = loop {
        if let Some(frame) = parser.next(&mut read).expect("a nats-server") {
            break frame.raw;
        }
        server.read_buf(&mut read).await?;
    };
    if handshake == Handshake::AfterInfo {
        client.write_all(&info).await?;
    }
    let mut client = acceptor.accept(client).await?;
    if handshake == Handshake::First {
        client.write_all(&info).await?;
        client.flush().await?;
    }
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.split();
    let back = async {
        loop {
            while let Some(frame) = parser.next(&mut read).expect("a nats-server") {
                let frames = (tamper.lock().expect("not poisoned"))(&frame);
                for frame in frames {
                    to_client.write_all(&frame).await?;
                }
                to_client.flush().await?;
            }
            if from_server.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = back => ended,
        ended = tokio::io::copy(&mut from_client, &mut to_server) => ended.map(drop),
    }
}
