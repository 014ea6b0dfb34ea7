//! Checks of the bodies of JetStream requests.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Publication};
use crate::{
    bus::{
        QueueOptions,
        nats::{convert::check_subject, streams},
    },
    policy::{Rules, Verb, covers, rules::is_filter},
};

/// The longest body that is parsed. Create requests are longer, but are compared as a whole with those of the bus.
pub(super) const LARGEST: usize = 2048;
/// The most replicas that JetStream supports for a stream.
const MAX_REPLICAS: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    last_by_subj: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Info {
    subjects_filter: Option<String>,
    #[serde(default, rename = "offset")]
    _offset: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    filter: String,
}

/// Checks the body of a request that is allowed with some bodies.
///
/// # Errors
/// The expected form of the body.
pub(super) fn check(
    call: Call,
    queue: &'static QueueOptions,
    rules: &Rules,
    body: &[u8],
) -> Result<Publication, &'static str> {
    match call {
        Call::Create => {
            let ours = |replicas| is(body, &streams::stream_request(queue, replicas));
            if !(1..=MAX_REPLICAS).any(ours) {
                return Err("the stream configuration of hermesh");
            }
        }
        Call::ConsumerCreate => {
            if !is(body, &streams::consumer_request(queue)) {
                return Err("the consumer configuration of hermesh");
            }
        }
        Call::ConsumerInfo | Call::ConsumerDelete => {
            if !body.is_empty() {
                return Err("none");
            }
        }
        Call::Next => {
            if body.len() > LARGEST {
                return Err("a request for the next messages");
            }
            return Ok(Publication::Next { queue: &queue.name });
        }
        Call::Get => {
            let expected = "{\"last_by_subj\": S}, and nothing else, with a subject of the stream";
            let Get { last_by_subj: subject } = read(body).ok_or(expected)?;
            let one = check_subject(&subject).is_ok() && covers(&queue.filter, &subject);
            if !one || !rules.allows(Verb::Read, &subject) {
                return Err(expected);
            }
            return Ok(Publication::Get { subject });
        }
        Call::Info => {
            let expected = "none, or {\"subjects_filter\": F, \"offset\": N} with a filter of the \
                            stream, all of which may be read";
            let info: Info =
                if body.is_empty() { Info::default() } else { read(body).ok_or(expected)? };
            let listed = |filter: &String| within(queue, filter) && rules.lists(filter);
            if !info.subjects_filter.as_ref().is_none_or(listed) {
                return Err(expected);
            }
        }
        Call::Purge => {
            let expected = "{\"filter\": F}, and nothing else, with a filter of the stream that may \
                            be purged";
            let Purge { filter } = read(body).ok_or(expected)?;
            if !within(queue, &filter) || !rules.allows(Verb::Purge, &filter) {
                return Err(expected);
            }
        }
    }
    Ok(Publication::Api)
}

fn within(queue: &QueueOptions, filter: &str) -> bool {
    is_filter(filter) && covers(&queue.filter, filter)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let read = || serde_json::from_slice(body).ok();
    (body.len() <= LARGEST).then(read)?
}

/// Whether a body equals the expected JSON apart from the order of fields. The lengths must be equal too, which
/// excludes repeated fields: nats-server would merge them.
fn is(body: &[u8], expected: &Value) -> bool {
    body.len() == expected.to_string().len()
        && serde_json::from_slice::<Value>(body).is_ok_and(|body| body == *expected)
}
