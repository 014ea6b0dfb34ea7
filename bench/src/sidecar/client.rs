//! A minimal NATS client that works on raw bytes. Both connections in the comparison use it, so they differ only in the
//! sidecar.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use hermesh_sidecar::{
    protocol::{self, Limits, ServerOp, ServerParser, Str},
    tls::no_host,
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const MAX_PAYLOAD: usize = 8 << 20;
const READ: usize = 256 << 10;
const CONNECT: &[u8] =
    br#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"bench"}"#;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A received message.
pub(super) struct Received {
    pub(super) sid: Str,
    pub(super) reply: Option<Str>,
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

pub(super) struct Client {
    stream: Box<dyn Stream>,
    parser: ServerParser,
    read: BytesMut,
    /// Bytes to be sent.
    pub(super) out: BytesMut,
}

impl Client {
    /// Connects to a sidecar, as a workload does.
    pub(super) async fn plain(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self::over(Box::new(stream));
        client.info().await?;
        client.introduce().await
    }

    /// Connects directly to the server, over mutual TLS.
    pub(super) async fn tls(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // INFO comes before TLS. It is read byte by byte, so that no byte after it is consumed.
        while stream.read_u8().await? != b'\n' {}
        let stream = TlsConnector::from(tls).connect(no_host(), stream).await?;
        Self::over(Box::new(stream)).introduce().await
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        let parser = ServerParser::new(Limits::server(MAX_PAYLOAD));
        Self { stream, parser, read: BytesMut::new(), out: BytesMut::new() }
    }

    async fn introduce(mut self) -> Result<Self> {
        protocol::write_connect(&mut self.out, CONNECT);
        self.settle().await?;
        Ok(self)
    }

    async fn info(&mut self) -> Result<()> {
        match self.operation().await? {
            ServerOp::Info(_) => Ok(()),
            other => bail!("expected INFO, got {other:?}"),
        }
    }

    pub(super) fn subscribe(&mut self, subject: &str, sid: &str) -> Result<()> {
        protocol::write_sub(&mut self.out, &name(subject)?, None, &name(sid)?);
        Ok(())
    }

    /// Ends a subscription after its first message.
    pub(super) fn only_one(&mut self, sid: &str) -> Result<()> {
        protocol::write_unsub(&mut self.out, &name(sid)?, Some(1));
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&[u8]>,
        payload: &[u8],
    ) -> Result<()> {
        let reply = reply.map(name).transpose()?;
        protocol::write_pub(&mut self.out, &name(subject)?, reply.as_ref(), headers, payload);
        Ok(())
    }

    /// Sends the written bytes.
    pub(super) async fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.stream.flush().await?;
        self.out.clear();
        Ok(())
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> Result<Received> {
        loop {
            if let Some(message) = received(self.operation().await?) {
                return Ok(message);
            }
        }
    }

    /// The next message, if it has arrived already.
    pub(super) fn here(&mut self) -> Result<Option<Received>> {
        while let Some(operation) = self.parsed()? {
            let message = received(operation);
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// Sends the written bytes, and waits until the server has processed them.
    pub(super) async fn settle(&mut self) -> Result<()> {
        protocol::ping(&mut self.out);
        self.send().await?;
        while self.operation().await? != ServerOp::Pong {}
        Ok(())
    }

    async fn operation(&mut self) -> Result<ServerOp> {
        loop {
            if let Some(operation) = self.parsed()? {
                return Ok(operation);
            }
            if !self.out.is_empty() {
                self.send().await?;
            }
            self.read.reserve(READ);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    fn parsed(&mut self) -> Result<Option<ServerOp>> {
        let Some(frame) = self.parser.next(&mut self.read)? else {
            return Ok(None);
        };
        match &frame.op {
            ServerOp::Err(error) => bail!("refused: {error}"),
            ServerOp::Ping => protocol::pong(&mut self.out),
            _ => {}
        }
        Ok(Some(frame.op))
    }
}

fn received(operation: ServerOp) -> Option<Received> {
    match operation {
        ServerOp::Msg { sid, reply, headers, payload, .. } => {
            Some(Received { sid, reply, headers: headers.unwrap_or_default(), payload })
        }
        _ => None,
    }
}

fn name(text: &str) -> Result<Str> {
    Str::new(Bytes::copy_from_slice(text.as_bytes())).context("an invalid name")
}
