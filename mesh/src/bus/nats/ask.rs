//! Requests to the NATS server, repeated while it is unreachable.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap, Message, Request, StatusCode,
    client::{RequestError, RequestErrorKind},
    jetstream,
};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Refusals are short. Longer replies are not parsed for one.
const MAX_REFUSAL: usize = 2048;

/// JetStream errors that mean that a stream, account or server has reached a limit.
pub(super) const FULL: [u64; 6] = [10077, 10023, 10002, 10028, 10047, 10122];

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server refused it.
    Refused(jetstream::Error),
    /// There was no reply, or none that could be read.
    Failed(Error),
}

impl Unanswered {
    pub(super) fn code(&self) -> Option<u64> {
        match self {
            Self::Refused(error) => Some(error.error_code().0),
            Self::Failed(_) => None,
        }
    }

    /// Converts to an error for the caller.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Refused(error) => Error::Broker {
                what: what.into(),
                code: error.error_code().0,
                why: error.to_string(),
            },
            Self::Failed(error) => error,
        }
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: jetstream::Error,
}

/// A growing pause between retries.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(super) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// Sends requests to the server and repeats them.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) client: Client,
    /// Number of connections made. A change means that the server has lost the state it kept for the previous
    /// connection.
    pub(super) made: watch::Receiver<u64>,
    pub(super) request_timeout: Duration,
    pub(super) patience: Duration,
}

impl Asker {
    pub(super) fn connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// A receiver that changes with the next connection.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        let mut made = self.made.clone();
        made.mark_unchanged();
        made
    }

    /// Repeats a request until there is a definite reply or patience runs out. Only for requests that may be sent
    /// twice.
    pub(super) async fn ask(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<Bytes, Unanswered> {
        let answer = |reply: Message| match refusal(&reply.payload) {
            None => Some(Ok(reply.payload)),
            Some(error) if not_ready(&error) => None,
            Some(error) => Some(Err(Unanswered::Refused(error))),
        };
        self.ask_until(subject, headers, body, answer).await
    }

    /// Reads the last message of a subject directly from a stream that allows it. If the stream does not exist or does
    /// not allow it, there is no reply.
    pub(super) async fn direct(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Message>, Unanswered> {
        let from = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let answer = |reply: Message| match reply.status {
            None => Some(Ok(Some(reply))),
            Some(StatusCode::NOT_FOUND) => Some(Ok(None)),
            // The server cannot answer now; the request itself is well formed.
            Some(_) => None,
        };
        self.ask_until(&from, None, Bytes::new(), answer).await
    }

    /// Repeats a request until `answer` accepts a reply or patience runs out.
    async fn ask_until<T>(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        body: Bytes,
        answer: impl Fn(Message) -> Option<Result<T, Unanswered>>,
    ) -> Result<T, Unanswered> {
        let deadline = Instant::now() + self.patience;
        let mut pause = Pause::new();
        loop {
            let reply = self.ask_once(subject, headers.clone(), body.clone()).await;
            let answered = match reply {
                Some(Ok(reply)) => answer(reply),
                Some(Err(error)) => Some(Err(Unanswered::Failed(error))),
                None => None,
            };
            match answered {
                Some(answer) => return answer,
                None if Instant::now() >= deadline => {
                    return Err(Unanswered::Failed(Error::Timeout(self.patience)));
                }
                None => pause.wait().await,
            }
        }
    }

    /// One reply, or `None` if the server is unreachable.
    async fn ask_once(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Option<Result<Message, Error>> {
        let mut connections = self.connections();
        // Messages sent without a connection would pile up in the client.
        if !self.connected() {
            let _ = timeout(LONGEST_PAUSE, connections.changed()).await;
            if !self.connected() {
                return None;
            }
        }
        let mut request = Request::new().timeout(Some(self.request_timeout)).payload(body);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let reply = tokio::select! {
            reply = self.client.send_request(subject.to_owned(), request) => reply,
            // The reply is lost with the old connection.
            _ = connections.changed() => return None,
        };
        match reply {
            Ok(reply) => Some(Ok(reply)),
            Err(error) => fatal(&error).map(Err),
        }
    }

    /// Sends a request to JetStream's API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &serde_json::Value,
    ) -> Result<T, Unanswered> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.ask(&format!("$JS.API.{subject}"), None, body).await?;
        read(&answer).map_err(Unanswered::Failed)
    }
}

/// Decodes a reply of the server.
pub(super) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| {
        tracing::warn!(%error, "a reply that is not JetStream's");
        Error::Malformed { what: "the NATS server's answer", expected: "JSON of JetStream" }
    })
}

fn refusal(answer: &[u8]) -> Option<jetstream::Error> {
    if answer.len() > MAX_REFUSAL {
        return None;
    }
    serde_json::from_slice::<Refusal>(answer).ok().map(|refusal| refusal.error)
}

/// Whether the error means "not available yet": the server is starting or has no leader. The limits in [`FULL`] have
/// the same class of codes.
fn not_ready(error: &jetstream::Error) -> bool {
    error.code() == 503 && !FULL.contains(&error.error_code().0)
}

/// The error of a request that no retry can fix.
fn fatal(error: &RequestError) -> Option<Error> {
    match error.kind() {
        RequestErrorKind::TimedOut | RequestErrorKind::NoResponders | RequestErrorKind::Other => {
            None
        }
        RequestErrorKind::InvalidSubject => {
            Some(Error::Malformed { what: "subject", expected: "printable tokens" })
        }
        RequestErrorKind::MaxPayloadExceeded => {
            Some(Error::TooLarge { what: "message", got: 0, limit: 0 })
        }
    }
}
