//! Reading stored messages of streams.

use std::collections::HashMap;

use async_nats::{
    HeaderMap,
    header::NATS_SUBJECT,
    jetstream::{message::StreamMessage, stream::RawMessage},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{NatsBus, convert::check_subject, streams};
use crate::{Error, bus::QueueOptions};

/// The most subjects that one call lists.
const MAX_SUBJECTS: usize = 1 << 20;

/// A message as it is stored.
struct Found {
    /// `None` if the reply names no subject, or two.
    subject: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

/// Headers and body of the message stored under a subject.
pub(super) async fn stored(
    bus: &NatsBus,
    subject: &str,
) -> Result<Option<(HeaderMap, Bytes)>, Error> {
    check_subject(subject)?;
    let queue = bus.queue_of(subject)?;
    let found = match bus.0.direct && queue.direct {
        true => of_any_server(bus, &queue, subject).await?,
        false => of_the_leader(bus, &queue, subject).await?,
    };
    match found {
        Some(Found { subject: Some(of), headers, body }) if of == subject => {
            Ok(Some((headers, body)))
        }
        // The server, or an attacker in its place, returned the message of another subject.
        Some(_) => Err(Error::Malformed {
            what: "stored message",
            expected: "the one of the subject that was asked for",
        }),
        None => Ok(None),
    }
}

async fn of_any_server(
    bus: &NatsBus,
    queue: &QueueOptions,
    subject: &str,
) -> Result<Option<Found>, Error> {
    let stream = streams::stream_name(&queue.name);
    let found = bus.0.asker.direct(&stream, subject).await;
    let found = found.map_err(|error| error.into_error(&stream))?;
    Ok(found.map(|message| {
        let headers = message.headers.unwrap_or_default();
        let mut said = headers.get_all(NATS_SUBJECT).map(ToString::to_string);
        let subject = said.next().filter(|_| said.next().is_none());
        Found { subject, headers, body: message.payload }
    }))
}

async fn of_the_leader(
    bus: &NatsBus,
    queue: &QueueOptions,
    subject: &str,
) -> Result<Option<Found>, Error> {
    #[derive(Deserialize)]
    struct Stored {
        message: RawMessage,
    }
    let last = json!({ "last_by_subj": subject });
    let Some(stored) = bus.ask_stream::<Stored>("MSG.GET", queue, &last).await? else {
        return Ok(None);
    };
    let stored = StreamMessage::try_from(stored.message).map_err(|_| Error::Malformed {
        what: "stored message",
        expected: "headers and body in base64",
    })?;
    let StreamMessage { subject, headers, payload, .. } = stored;
    Ok(Some(Found { subject: Some(subject.to_string()), headers, body: payload }))
}

/// One page of the subjects in a stream.
#[derive(Deserialize)]
struct SubjectsPage {
    #[serde(default)]
    total: usize,
    state: SubjectsState,
}

#[derive(Deserialize)]
struct SubjectsState {
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

/// The subjects under a filter that have a stored message.
pub(super) async fn subjects(bus: &NatsBus, filter: &str) -> Result<Vec<String>, Error> {
    let queue = bus.queue_of(filter)?;
    let mut subjects = Vec::new();
    loop {
        let body = json!({ "subjects_filter": filter, "offset": subjects.len() });
        let page: Option<SubjectsPage> = bus.ask_stream("INFO", &queue, &body).await?;
        let Some(page) = page else {
            return Ok(subjects);
        };
        let found = page.state.subjects.unwrap_or_default();
        let last = found.is_empty() || subjects.len() + found.len() >= page.total;
        subjects.extend(found.into_keys());
        if subjects.len() > MAX_SUBJECTS {
            let got = page.total;
            return Err(Error::TooLarge { what: "list of subjects", got, limit: MAX_SUBJECTS });
        }
        if last {
            return Ok(subjects);
        }
    }
}
