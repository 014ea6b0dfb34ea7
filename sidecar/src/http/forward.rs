//! Forwards requests to the service, rewritten by the sidecar.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, Sleep, sleep, timeout},
};

use super::IDENTITY;
use hermesh_mesh::identity::SpiffeId;

/// The headers of a client's request that are forwarded.
const ASKED: [HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-prometheus-scrape-timeout-seconds"),
];
/// The headers of the service's response that are returned.
const ANSWERED: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
    header::VARY,
];
/// The maximum size of a response's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The maximum number of bytes of a response held in memory.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// The maximum size of a response, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The service beside the sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Where it serves HTTP, on loopback.
    pub address: SocketAddr,
    /// How long the service may take to begin its response, and between parts of it.
    pub patience: Duration,
}

/// Why there is no response, or why it ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Away {
    /// The service does not listen.
    #[error("the service cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// The service does not speak HTTP, or closed the connection early.
    #[error("the service's response ended early: {0}")]
    Broken(#[from] hyper::Error),
    /// The service's response cannot be forwarded.
    #[error("the service's response cannot be forwarded: {0}")]
    Unexpected(&'static str),
    /// The service takes too long.
    #[error("the service takes longer than {} s", .0.as_secs_f64())]
    Slow(Duration),
}

impl Away {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Service {
    /// Forwards a client's request over a new connection: on loopback a connection costs almost nothing,
    /// and a new one cannot be stale.
    pub(super) async fn ask<B>(
        &self,
        client: &SpiffeId,
        request: &Request<B>,
    ) -> Result<Response<Answer>, Away> {
        let asked = timeout(self.patience, self.begin(client, request)).await;
        asked.unwrap_or(Err(Away::Slow(self.patience)))
    }

    async fn begin<B>(
        &self,
        client: &SpiffeId,
        request: &Request<B>,
    ) -> Result<Response<Answer>, Away> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let connection = Connection(tokio::spawn(async {
            // Ignored: the task that reads the response sees the error too.
            let _ = connection.await;
        }));
        let response = sender.send_request(self.rewritten(client, request)?).await?;
        let (head, body) = response.into_parts();
        if head.status.is_informational() {
            return Err(Away::Unexpected("another protocol"));
        }
        if body.size_hint().lower() > MAX_BYTES {
            return Err(Away::Unexpected("more than 64 MiB"));
        }
        let deadline = Box::pin(sleep(self.patience));
        let patience = self.patience;
        let answer = Answer { body, left: MAX_BYTES, patience, deadline, _connection: connection };
        let mut response = Response::new(answer);
        *response.status_mut() = head.status;
        *response.headers_mut() = kept(&head.headers, &ANSWERED);
        Ok(response)
    }

    fn rewritten<B>(
        &self,
        client: &SpiffeId,
        request: &Request<B>,
    ) -> Result<Request<Empty<Bytes>>, Away> {
        let unwritable = |_| Away::Unexpected("an address that cannot be written");
        let value = |text: &str| HeaderValue::from_str(text).map_err(unwritable);
        let mut rewritten = Request::new(Empty::new());
        *rewritten.method_mut() = request.method().clone();
        // Drop any scheme and host that the client put before the path.
        if let Some(path) = request.uri().path_and_query() {
            *rewritten.uri_mut() = path.clone().into();
        }
        *rewritten.headers_mut() = kept(request.headers(), &ASKED);
        let headers = rewritten.headers_mut();
        headers.insert(header::HOST, value(&self.address.to_string())?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(IDENTITY, value(client.as_str())?);
        Ok(rewritten)
    }
}

fn kept(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

/// The connection's task, which ends with the response.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The service's response as a stream, limited in length and in the time between its parts.
pub(super) struct Answer {
    body: Incoming,
    left: u64,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    _connection: Connection,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Away;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Away>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(self.passed_on(frame).transpose()),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let over = self.deadline.as_mut().poll(cx);
                over.map(|()| Some(Err(Away::Slow(self.patience))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Answer {
    fn passed_on(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Away> {
        // Trailers come last, and metrics and health need none.
        let Ok(data) = frame.into_data() else { return Ok(None) };
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.ok_or(Away::Unexpected("more than 64 MiB"))?;
        let deadline = Instant::now() + self.patience;
        self.deadline.as_mut().reset(deadline);
        Ok(Some(Frame::data(data)))
    }
}
