//! Queues as JetStream streams and consumers.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, Config as ConsumerConfig, DeliverPolicy, Info as ConsumerInfo},
    stream::{
        Config as StreamConfig, DiscardPolicy, Info as StreamInfo, RetentionPolicy, StorageType,
    },
};
use serde_json::{Value, json};

use super::ask::{Asker, Pause, Unanswered};
use crate::{
    Error,
    bus::{Overflow, QueueOptions, Retention},
};

const PREFIX: &str = "hermesh-";
/// The most unacknowledged deliveries, over all pullers of a queue.
const MAX_ACK_PENDING: i64 = 100_000;
/// The most waiting pull requests.
const MAX_WAITING: i64 = 8192;

// JetStream's error codes.
pub(super) const STREAM_NOT_FOUND: u64 = 10059;
const STREAM_EXISTS: u64 = 10058;
const SUBJECTS_OVERLAP: u64 = 10065;
/// Tries to create a stream whose subjects are taken; about a second in total.
const CREATIONS: u32 = 6;
const CONSUMER_NOT_FOUND: u64 = 10014;

/// The stream name of a queue.
pub(crate) fn stream_name(queue: &str) -> String {
    format!("{PREFIX}{queue}")
}

/// The queue name of a stream.
pub(crate) fn queue_name(stream: &str) -> Option<&str> {
    stream.strip_prefix(PREFIX)
}

/// The options as JetStream can represent them: it limits the deduplication window to the message age.
fn effective(queue: &QueueOptions) -> QueueOptions {
    let window = queue.max_age.map_or(queue.dedup_window, |age| age.min(queue.dedup_window));
    let per_subject = queue.max_per_subject.filter(|_| queue.retention == Retention::WorkQueue);
    QueueOptions { dedup_window: window, max_per_subject: per_subject, ..queue.clone() }
}

/// The options that only the clients apply, written into the stream's description so that processes with different
/// options notice.
fn description(queue: &QueueOptions) -> String {
    format!(
        "hermesh queue; unique={} max_deliver={} ack_wait_ms={}",
        queue.unique,
        queue.max_deliver,
        queue.ack_wait.as_millis()
    )
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stream_config(queue: &QueueOptions, replicas: usize) -> StreamConfig {
    let last = queue.retention == Retention::LastPerSubject;
    let refuse = queue.overflow == Overflow::Refuse;
    StreamConfig {
        name: stream_name(&queue.name),
        description: Some(description(queue)),
        subjects: vec![queue.filter.clone()],
        // A work queue deletes acknowledged messages; messages that are read back stay within limits.
        retention: if last { RetentionPolicy::Limits } else { RetentionPolicy::WorkQueue },
        max_messages: signed(queue.max_messages),
        max_bytes: signed(queue.max_bytes),
        max_messages_per_subject: if last { 1 } else { queue.max_per_subject.map_or(-1, signed) },
        discard: if refuse { DiscardPolicy::New } else { DiscardPolicy::Old },
        // Where only the last message of a subject counts, it replaces the old one even if the queue is full.
        discard_new_per_subject: refuse && queue.max_per_subject.is_some(),
        max_age: queue.max_age.unwrap_or_default(),
        duplicate_window: queue.dedup_window,
        storage: StorageType::File,
        num_replicas: replicas,
        max_consumers: -1,
        max_message_size: i32::try_from(queue.max_message_bytes).unwrap_or(i32::MAX),
        allow_direct: queue.direct,
        ..StreamConfig::default()
    }
}

/// The options recorded in an existing stream.
fn options_of(found: &StreamConfig, wanted: &QueueOptions) -> Result<QueueOptions, Error> {
    let word = |name: &str| {
        let words = found.description.as_deref().unwrap_or_default().split([' ', ';']);
        words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    };
    let read = || {
        Some((
            word("unique")?.parse().ok()?,
            word("max_deliver")?.parse().ok()?,
            Duration::from_millis(word("ack_wait_ms")?.parse().ok()?),
        ))
    };
    let Some((unique, max_deliver, ack_wait)) = read() else {
        let text = found.description.clone().unwrap_or_default();
        return Err(mismatch(wanted, "description", text, description(wanted)));
    };
    let unsigned = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    let per_subject = found.max_messages_per_subject;
    let retention = match found.retention {
        RetentionPolicy::WorkQueue => Retention::WorkQueue,
        RetentionPolicy::Limits if per_subject == 1 => Retention::LastPerSubject,
        other => {
            let found = format!("{other:?}, {per_subject} per subject");
            return Err(mismatch(wanted, "retention", found, format!("{:?}", wanted.retention)));
        }
    };
    let limited = retention == Retention::WorkQueue && per_subject > 0;
    Ok(QueueOptions {
        name: wanted.name.clone(),
        filter: found.subjects.join(", "),
        retention,
        unique,
        ack_wait,
        max_deliver,
        max_messages: unsigned(found.max_messages),
        max_per_subject: limited.then(|| unsigned(per_subject)),
        max_bytes: unsigned(found.max_bytes),
        max_message_bytes: unsigned(found.max_message_size.into()),
        max_age: Some(found.max_age).filter(|age| !age.is_zero()),
        dedup_window: found.duplicate_window,
        overflow: match found.discard {
            DiscardPolicy::New => Overflow::Refuse,
            DiscardPolicy::Old => Overflow::DiscardOldest,
        },
        direct: found.allow_direct,
    })
}

fn mismatch(queue: &QueueOptions, field: &'static str, found: String, expected: String) -> Error {
    Error::QueueMismatch { name: queue.name.clone(), field, found, expected }
}

macro_rules! check_fields {
    ($queue:expr, $found:expr, $wanted:expr, $($field:ident),*) => {
        $(if $found.$field != $wanted.$field {
            let (found, wanted) = (format!("{:?}", $found.$field), format!("{:?}", $wanted.$field));
            return Err(mismatch($queue, stringify!($field), found, wanted));
        })*
    };
}

fn check_stream(queue: &QueueOptions, found: &StreamConfig, replicas: usize) -> Result<(), Error> {
    options_of(found, queue)?.expect(queue)?;
    let wanted = stream_config(queue, replicas);
    check_fields!(
        queue,
        found,
        wanted,
        discard_new_per_subject,
        storage,
        num_replicas,
        no_ack,
        sealed,
        deny_delete,
        deny_purge,
        mirror,
        sources,
        republish
    );
    Ok(())
}

fn consumer_config(queue: &QueueOptions) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: Some(queue.name.clone()),
        name: Some(queue.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: queue.ack_wait,
        // Deliveries are counted by hermesh, which stores exhausted messages as dead letters.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        max_waiting: MAX_WAITING,
        ..ConsumerConfig::default()
    }
}

/// The request that creates a queue's stream.
pub(crate) fn stream_request(queue: &QueueOptions, replicas: usize) -> Value {
    json!(stream_config(&effective(queue), replicas))
}

/// The request that creates a queue's consumer.
pub(crate) fn consumer_request(queue: &QueueOptions) -> Value {
    json!({ "stream_name": stream_name(&queue.name), "config": consumer_config(&effective(queue)) })
}

fn check_consumer(queue: &QueueOptions, found: &ConsumerConfig) -> Result<(), Error> {
    let wanted = consumer_config(queue);
    check_fields!(
        queue,
        found,
        wanted,
        durable_name,
        deliver_subject,
        deliver_policy,
        ack_policy,
        ack_wait,
        max_deliver,
        filter_subject,
        max_ack_pending,
        max_waiting,
        backoff
    );
    Ok(())
}

/// Creates the stream, or checks the existing one.
pub(super) async fn declare(
    asker: &Asker,
    queue: &QueueOptions,
    replicas: usize,
) -> Result<(), Error> {
    let queue = &effective(queue);
    let (name, request) = (stream_name(&queue.name), stream_request(queue, replicas));
    let mut pause = Pause::new();
    for _ in 0..CREATIONS {
        // If the stream exists with the same options, creating it changes nothing.
        let created = asker.api(&format!("STREAM.CREATE.{name}"), &request).await;
        let info: Result<StreamInfo, Unanswered> = match created {
            Err(error) if matches!(error.code(), Some(STREAM_EXISTS | SUBJECTS_OVERLAP)) => {
                asker.api(&format!("STREAM.INFO.{name}"), &json!(null)).await
            }
            other => other,
        };
        match info {
            Ok(info) => return check_stream(queue, &info.config, replicas),
            // The subjects belong to a stream with another name, or to this stream, which another process is just
            // creating.
            Err(error) if error.code() == Some(STREAM_NOT_FOUND) => pause.wait().await,
            Err(error) => return Err(error.into_error(&name)),
        }
    }
    let found = "subjects that belong to another stream".into();
    Err(mismatch(queue, "filter", found, queue.filter.clone()))
}

/// Creates the consumer, or checks the existing one.
///
/// # Errors
/// [`Error::NoQueue`] if the stream does not exist.
pub(super) async fn declare_consumer(asker: &Asker, queue: &QueueOptions) -> Result<(), Error> {
    let queue = &effective(queue);
    let stream = stream_name(&queue.name);
    let info = asker.api(&format!("CONSUMER.INFO.{stream}.{}", queue.name), &json!(null)).await;
    let info: Result<ConsumerInfo, Unanswered> = match info {
        Err(error) if error.code() == Some(CONSUMER_NOT_FOUND) => {
            let create = format!("CONSUMER.DURABLE.CREATE.{stream}.{}", queue.name);
            asker.api(&create, &consumer_request(queue)).await
        }
        other => other,
    };
    match info {
        Ok(info) => check_consumer(queue, &info.config),
        Err(error) if error.code() == Some(STREAM_NOT_FOUND) => {
            Err(Error::NoQueue { subject: queue.filter.clone() })
        }
        Err(error) => Err(error.into_error(&format!("consumer {}", queue.name))),
    }
}
