//! One connection of the workload, from its start to its end.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use hermesh_mesh::{identity::Peer, seal::SEAL_ROOM};
use rustls::ClientConfig;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
    },
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Gate, Rejection, Upstream,
    gate::lock,
    greeting,
    inbound::{Out, inbound},
    outbound::outbound,
    session::Session,
    upstream::Unreachable,
};
use crate::protocol::{
    self, ClientOp, ClientParser, Frame, Limits, ProtocolError, ServerOp, ServerParser,
};

/// How many bytes to read at once.
const READ: usize = 256 << 10;
/// The capacity up to which a buffer is kept after a large message.
const KEEP: usize = 1 << 20;
/// How long either side may take to accept what the other has sent.
const SLOW: Duration = Duration::from_secs(10);
/// How long a client may take to send CONNECT.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// The longest sleep, so that a jump of the clock or a suspended machine is noticed.
const NAP: Duration = Duration::from_secs(60);
/// How long to keep reading from a client after its connection was refused.
const HEARING: Duration = Duration::from_millis(500);
/// How long to wait after a failed accept, for example when file descriptors have run out.
const BREATH: Duration = Duration::from_millis(100);

/// Where the workload connects.
#[derive(Debug)]
pub enum Listener {
    /// A loopback address.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the workload closed the connection")]
    Client,
    #[error("the broker closed the connection")]
    Broker,
    #[error("{0}")]
    Unreachable(#[from] Unreachable),
    #[error("the workload violates the NATS protocol: {0}")]
    Protocol(ProtocolError),
    #[error("the broker violates the NATS protocol: {0}")]
    BrokerProtocol(ProtocolError),
    #[error("{0}")]
    Greeting(&'static str),
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("the broker's certificate was revoked")]
    BrokerRevoked,
    #[error("the other side did not accept data within {SLOW:?}")]
    Slow,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl End {
    /// Its name, as a label.
    fn name(&self) -> &'static str {
        match self {
            Self::Client => "workload",
            Self::Broker => "broker",
            Self::Unreachable(_) => "unreachable",
            Self::Protocol(_) => "protocol",
            Self::BrokerProtocol(_) => "broker_protocol",
            Self::Greeting(_) => "greeting",
            Self::Rejected(why) => why.name(),
            Self::BrokerRevoked => "broker_revoked",
            Self::Slow => "slow",
            Self::Io(_) => "io",
        }
    }

    /// The error that the client receives, in nats-server's words.
    fn told(&self) -> Option<&str> {
        match self {
            Self::Protocol(error) => Some(error.violation()),
            Self::Rejected(Rejection::Denied) => Some("Authorization Violation"),
            Self::Rejected(Rejection::Revoked) => Some("User Authentication Revoked"),
            Self::Rejected(Rejection::Expired) => Some("User Authentication Expired"),
            _ => None,
        }
    }
}

/// Accepts connections until told to stop, then gives the open ones `drain` to end.
pub async fn serve(
    listener: Listener,
    gate: Arc<Gate>,
    upstream: Arc<Upstream>,
    tls: watch::Receiver<Arc<ClientConfig>>,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let local = match accepted {
            Ok(local) if connections.len() < gate.connections() => local,
            Ok(mut local) => {
                let _ =
                    timeout(BREATH, local.write_all(b"-ERR 'maximum connections exceeded'\r\n"))
                        .await;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(BREATH).await;
                continue;
            }
        };
        let tls = tls.borrow().clone();
        connections.spawn(run(local, gate.clone(), upstream.clone(), tls));
    }
    drop(listener);
    let _ = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
}

async fn run(
    mut local: Box<dyn Stream>,
    gate: Arc<Gate>,
    upstream: Arc<Upstream>,
    tls: Arc<ClientConfig>,
) {
    let _counted = gate.metrics.connection();
    let end = match begin(&mut local, &gate, &upstream, tls).await {
        Err(end) => end,
        Ok(begun) => return carry(local, gate, begun).await,
    };
    if let End::Unreachable(why) = &end {
        gate.metrics.upstream_failed(why.name());
    }
    gate.metrics.ended(end.name());
    tracing::info!(identity = %gate.own(), why = %end, "no connection");
    if let Some(why) = end.told() {
        let mut told = BytesMut::new();
        protocol::write_err(&mut told, why);
        let _ = timeout(SLOW, local.write_all(&told)).await;
        let _ = timeout(SLOW, local.shutdown()).await;
        hear_out(&mut local).await;
    }
}

/// Reads what the client still sends. Closing a connection with unread bytes resets it, and the client
/// could lose the error that was sent to it.
async fn hear_out(client: &mut (impl AsyncRead + Unpin)) {
    let _ = timeout(HEARING, tokio::io::copy(client, &mut tokio::io::sink())).await;
}

/// Both sides after their greetings.
struct Begun {
    broker: Tls,
    peer: Peer,
    from_client: BytesMut,
    from_broker: BytesMut,
    verbose: bool,
    limits: Limits,
    broker_limits: Limits,
}

async fn begin(
    local: &mut Box<dyn Stream>,
    gate: &Gate,
    upstream: &Upstream,
    tls: Arc<ClientConfig>,
) -> Result<Begun, End> {
    let largest = gate.view().rules()?.limits().max_payload_bytes;
    let mut connected = upstream.connect(tls).await?;
    let (info, max_payload) = greeting::info(&connected.info, largest, SEAL_ROOM)
        .ok_or(End::Greeting("the broker's INFO has no headers or no max_payload"))?;
    let limits = Limits::client(max_payload);
    let mut out = BytesMut::new();
    protocol::write_info(&mut out, &info);
    local.write_all(&out).await?;
    let mut from_client = BytesMut::new();
    let connect = timeout(INTRODUCTION, introduction(local, limits, &mut from_client));
    let connect =
        connect.await.map_err(|_| End::Greeting("the workload did not send CONNECT in time"))??;
    let connect = greeting::connect(&connect)
        .ok_or(End::Greeting("the workload's CONNECT is not a JSON object"))?;
    out.clear();
    protocol::write_connect(&mut out, &connect.json);
    connected.stream.write_all(&out).await?;
    if connect.verbose {
        out.clear();
        protocol::ok(&mut out);
        local.write_all(&out).await?;
    }
    Ok(Begun {
        broker: connected.stream,
        peer: connected.peer,
        from_client,
        from_broker: connected.rest,
        verbose: connect.verbose,
        limits,
        broker_limits: Limits::server(max_payload + SEAL_ROOM),
    })
}

async fn introduction(
    local: &mut Box<dyn Stream>,
    limits: Limits,
    read: &mut BytesMut,
) -> Result<bytes::Bytes, End> {
    let mut parser = ClientParser::new(limits);
    loop {
        match parser.next(read).map_err(End::Protocol)? {
            Some(Frame { op: ClientOp::Connect(json), .. }) => return Ok(json),
            Some(_) => return Err(End::Rejected(Rejection::Denied)),
            None => {}
        }
        if local.read_buf(read).await? == 0 {
            return Err(End::Client);
        }
    }
}

/// Carries messages both ways until one side closes the connection or a workload loses its permission.
async fn carry(local: Box<dyn Stream>, gate: Arc<Gate>, begun: Begun) {
    let Begun { broker, peer, from_client, from_broker, verbose, limits, broker_limits } = begun;
    let (client_reader, client) = split(local);
    let (broker_reader, broker) = split(broker);
    let both = Arc::new(Both {
        gate,
        session: Mutex::new(Session::new(verbose)),
        client_reader: tokio::sync::Mutex::new(client_reader),
        client: Writer::new(client),
        broker: Writer::new(broker),
        peer,
        largest: limits.max_payload,
    });
    let mut parts = JoinSet::new();
    // One task per direction, so that signing and verifying run in parallel.
    parts.spawn(both.clone().client_to_broker(from_client, ClientParser::new(limits)));
    parts.spawn(both.clone().broker_to_client(
        broker_reader,
        from_broker,
        ServerParser::new(broker_limits),
    ));
    parts.spawn(both.clone().revoked());
    let end = match parts.join_next().await {
        Some(Ok(Err(end))) => end,
        // A panic, already logged.
        _ => End::Broker,
    };
    parts.shutdown().await;
    both.gate.metrics.ended(end.name());
    tracing::info!(identity = %both.gate.own(), why = %end, "a connection ended");
    if let Some(why) = end.told() {
        let mut told = BytesMut::new();
        protocol::write_err(&mut told, why);
        let _ = both.client.write(&mut told).await;
        both.client.close().await;
        hear_out(&mut *both.client_reader.lock().await).await;
    }
    both.broker.close().await;
    both.client.close().await;
}

struct Writer<S> {
    half: tokio::sync::Mutex<WriteHalf<S>>,
    /// Set while bytes are being written. A write that was interrupted leaves half an operation, so nothing
    /// more may be written: the other side would read it as the rest of that operation.
    writing: AtomicBool,
}

impl<S: AsyncWrite> Writer<S> {
    fn new(half: WriteHalf<S>) -> Self {
        Self { half: tokio::sync::Mutex::new(half), writing: AtomicBool::new(false) }
    }

    /// Writes all bytes.
    async fn write(&self, bytes: &mut BytesMut) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        let writing = async {
            let mut half = self.half.lock().await;
            if self.writing.swap(true, Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            half.write_all(bytes).await?;
            half.flush().await?;
            self.writing.store(false, Ordering::Relaxed);
            Ok(())
        };
        timeout(SLOW, writing).await.map_err(|_| End::Slow)??;
        match bytes.capacity() > KEEP {
            true => *bytes = BytesMut::new(),
            false => bytes.clear(),
        }
        Ok(())
    }

    async fn close(&self) {
        let _ = timeout(SLOW, async { self.half.lock().await.shutdown().await }).await;
    }
}

type Tls = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

struct Both {
    gate: Arc<Gate>,
    session: Mutex<Session>,
    /// Locked by the task that reads, for as long as it reads.
    client_reader: tokio::sync::Mutex<ReadHalf<Box<dyn Stream>>>,
    client: Writer<Box<dyn Stream>>,
    broker: Writer<Tls>,
    /// The broker.
    peer: Peer,
    /// The maximum size of a client's message.
    largest: usize,
}

impl Both {
    async fn client_to_broker(
        self: Arc<Self>,
        mut read: BytesMut,
        mut parser: ClientParser,
    ) -> Result<(), End> {
        let mut reader = self.client_reader.lock().await;
        let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut frames = Vec::new();
        loop {
            // Frames before a protocol error are valid and are still forwarded.
            let broken = loop {
                match parser.next(&mut read) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            if !frames.is_empty() {
                let passed =
                    outbound(&self.gate, &self.session, &frames, &mut to_broker, &mut to_client)?;
                frames.clear();
                // Refusals first: as from a server, they come before the broker's PONG to a later PING.
                self.client.write(&mut to_client).await?;
                self.broker.write(&mut to_broker).await?;
                // Skip a sleep of zero: it would last until the timer's next millisecond.
                if !passed.is_zero() {
                    sleep(passed).await;
                }
            }
            if let Some(error) = broken {
                return Err(End::Protocol(error));
            }
            read.reserve(READ);
            if reader.read_buf(&mut read).await? == 0 {
                return Err(End::Client);
            }
        }
    }

    async fn broker_to_client(
        self: Arc<Self>,
        mut reader: ReadHalf<Tls>,
        mut read: BytesMut,
        mut parser: ServerParser,
    ) -> Result<(), End> {
        let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
        loop {
            let view = self.gate.view();
            while let Some(frame) = parser.next(&mut read).map_err(End::BrokerProtocol)? {
                match &frame.op {
                    ServerOp::Msg { .. } | ServerOp::Malformed { .. } => {
                        let (gate, session) = (&self.gate, &self.session);
                        let out = Out { local: &mut to_client, upstream: &mut to_broker };
                        inbound(gate, &view, session, &frame, out);
                    }
                    ServerOp::Info(info) => {
                        // The server's new INFO, such as a new limit; the limit never exceeds the first
                        // one.
                        if let Some((info, _)) = greeting::info(info, self.largest, SEAL_ROOM) {
                            protocol::write_info(&mut to_client, &info);
                        }
                    }
                    ServerOp::Ping | ServerOp::Pong | ServerOp::Err(_) => {
                        if frame.op == ServerOp::Pong {
                            lock(&self.session).forget_ended();
                        }
                        to_client.extend_from_slice(&frame.raw);
                    }
                    // The server was not asked for `+OK`; see greeting::connect.
                    ServerOp::Ok => {}
                }
            }
            self.client.write(&mut to_client).await?;
            self.broker.write(&mut to_broker).await?;
            read.reserve(READ);
            if reader.read_buf(&mut read).await? == 0 {
                return Err(End::Broker);
            }
        }
    }

    /// Completes when the workload loses its permission to connect, or the broker's certificate is revoked.
    async fn revoked(self: Arc<Self>) -> Result<(), End> {
        let mut changes = self.gate.changes();
        loop {
            let view = self.gate.view();
            view.rules()?;
            if view.policy.is_revoked(&self.peer) {
                return Err(End::BrokerRevoked);
            }
            let left = view.now.until(view.identity.credentials.peer().not_after);
            tokio::select! {
                () = changes.next() => {}
                () = sleep(left.min(NAP) + Duration::from_millis(1)) => {}
            }
        }
    }
}
