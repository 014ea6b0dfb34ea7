//! The connection to the broker: TLS before or after its INFO.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use hermesh_mesh::identity::Peer;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    protocol::{Limits, ServerOp, ServerParser},
    tls::{self, no_host},
};

/// When TLS begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handshake {
    /// After the broker's INFO. That INFO is in plain text and is not trusted, except for the maximum
    /// message size.
    #[default]
    AfterInfo,
    /// At once (`handshake_first` of nats-server 2.10 and later).
    First,
}

/// How to reach the broker.
#[derive(Debug)]
pub struct Upstream {
    /// `host:port` of its servers, tried in order.
    pub servers: Vec<String>,
    /// When TLS begins.
    pub handshake: Handshake,
    /// How long a connection to one of them may take.
    pub patience: Duration,
    /// The server used last; it is tried first.
    pub last: AtomicUsize,
}

/// A connection, the server's INFO, and the bytes received since.
pub(super) struct Connected {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: Peer,
    pub(super) info: bytes::Bytes,
    pub(super) rest: BytesMut,
}

/// Why the broker cannot be reached; the name is a label.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("no INFO of a NATS server: {0}")]
    Greeting(&'static str),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

impl Unreachable {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Greeting(_) => "greeting",
            Self::Timeout(_) => "timeout",
        }
    }
}

impl Upstream {
    /// Connects to the first server that accepts.
    pub(super) async fn connect(&self, tls: Arc<ClientConfig>) -> Result<Connected, Unreachable> {
        let mut last = Unreachable::Greeting("no server is configured");
        let (count, first) = (self.servers.len(), self.last.load(Ordering::Relaxed));
        for number in (0..count).map(|turn| (first + turn) % count) {
            let server = &self.servers[number];
            match timeout(self.patience, self.connect_to(server, tls.clone())).await {
                Ok(Ok(connected)) => {
                    self.last.store(number, Ordering::Relaxed);
                    return Ok(connected);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = Unreachable::Timeout(self.patience),
            }
            tracing::warn!(server, error = %last, "the broker cannot be reached");
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        server: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<Connected, Unreachable> {
        let mut stream = TcpStream::connect(server).await.map_err(Unreachable::Connect)?;
        stream.set_nodelay(true).map_err(Unreachable::Connect)?;
        let mut before = None;
        if self.handshake == Handshake::AfterInfo {
            let (info, rest) = greeting(&mut stream).await?;
            if !rest.is_empty() {
                // Bytes after INFO and before TLS would be taken for bytes received under TLS.
                return Err(Unreachable::Greeting("more than INFO before TLS"));
            }
            before = Some(info);
        }
        // The SPIFFE ID in its certificate identifies the server, not a DNS name.
        let connecting = TlsConnector::from(tls).connect(no_host(), stream);
        let mut stream = connecting.await.map_err(Unreachable::Tls)?;
        let (info, rest) = match before {
            Some(info) => (info, BytesMut::new()),
            None => greeting(&mut stream).await?,
        };
        let peer = tls::peer(stream.get_ref().1);
        let peer = peer.map_err(|_| Unreachable::Greeting("no certificate"))?;
        Ok(Connected { stream, peer, info, rest })
    }
}

/// Reads the server's INFO.
async fn greeting(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<(bytes::Bytes, BytesMut), Unreachable> {
    let mut parser = ServerParser::new(Limits { max_payload: 0, ..Limits::server(0) });
    let mut read = BytesMut::new();
    loop {
        match parser.next(&mut read) {
            Ok(Some(frame)) => {
                let ServerOp::Info(info) = frame.op else {
                    return Err(Unreachable::Greeting("it sends something else before INFO"));
                };
                return Ok((info, read));
            }
            Ok(None) => {}
            Err(_) => return Err(Unreachable::Greeting("it speaks another protocol")),
        }
        match stream.read_buf(&mut read).await {
            Ok(0) => return Err(Unreachable::Greeting("it closed the connection")),
            Ok(_) => {}
            Err(error) => return Err(Unreachable::Connect(error)),
        }
    }
}
