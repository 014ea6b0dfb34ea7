//! Definitions of all queues of the mesh. Every process declares all of them; the bus checks that the processes agree.

use std::time::Duration;

use crate::{
    Error,
    bus::{Bus, DEAD_LETTERS, Overflow, QueueOptions, Retention, nats::HEADER_ROOM},
    objects::PART_BYTES,
    wire::Lane,
};

/// Jobs; preprocessing pulls them.
pub const JOBS: &str = "jobs";
/// Shards to evaluate, one queue for each [`Lane`] (task priority); evaluation pulls them in this order.
pub const TASKS: [&str; 3] = ["tasks-express", "tasks-normal", "tasks-bulk"];
/// Partial-stored notices: each says that a shard's result is stored. Aggregation pulls them, and reads the results
/// themselves only when a stage is complete.
pub const ARRIVALS: &str = "arrivals";
/// Outcomes of jobs, for the tenants to read.
pub const ANSWERS: &str = "answers";

/// The furthest deadline a job may have. The records that identify repeated jobs are kept longer, so a job passes its
/// deadline before the mesh forgets that it has seen it.
pub const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// [`MAX_DEADLINE`] plus a margin for clock differences.
const KEPT: Duration = Duration::from_secs(24 * 3600 + 300);
/// How long message ids are remembered: longer than any publisher retries. Whatever must be recognised for longer has
/// its own subject in a unique queue.
const DEDUP_WINDOW: Duration = Duration::from_secs(120);
/// Deliveries before a message is given up. Each crash of a process or of the broker may use up one.
const MAX_DELIVER: u32 = 10;

const GIB: usize = 1 << 30;
/// Default message limit of a queue: the limit of a nats-server started by hermesh.
const LARGEST: usize = 8 << 20;
/// A job: an encrypted input and its headers.
const LARGEST_JOB: usize = 1 << 20;
/// A part of an object. It has no headers of its own, but the bus adds some and the sidecar adds the message signature.
const LARGEST_PART: usize = PART_BYTES + (8 << 10);
const _: () = assert!(LARGEST_PART - PART_BYTES >= HEADER_ROOM);

/// All queues.
pub fn queues() -> Vec<QueueOptions> {
    use Retention::{LastPerSubject, WorkQueue};
    let queue = |name: &str, filter: &str, retention, max_messages, max_bytes| QueueOptions {
        name: name.into(),
        filter: filter.into(),
        retention,
        unique: true,
        ack_wait: Duration::from_secs(15),
        max_deliver: MAX_DELIVER,
        max_messages,
        max_per_subject: None,
        max_bytes,
        max_message_bytes: LARGEST,
        max_age: Some(KEPT),
        dedup_window: DEDUP_WINDOW,
        overflow: Overflow::Refuse,
        direct: false,
    };
    // Messages for tenants. They may be repeated, so when the queue is full the oldest are discarded.
    let told = |name: &str, filter: &str, unique, max_messages, max_bytes| QueueOptions {
        overflow: Overflow::DiscardOldest,
        unique,
        direct: true,
        ..queue(name, filter, LastPerSubject, max_messages, max_bytes)
    };
    let parts = |options| QueueOptions { max_message_bytes: LARGEST_PART, ..options };
    // Records without an expiry.
    let lasting = |name: &str, filter: &str, unique, max_messages, max_bytes| QueueOptions {
        max_age: None,
        unique,
        ..queue(name, filter, LastPerSubject, max_messages, max_bytes)
    };
    let mut queues = vec![
        QueueOptions {
            unique: false,
            // An eighth of the queue: a flooding tenant fills its own quota and cannot block the others.
            max_per_subject: Some(256),
            max_message_bytes: LARGEST_JOB,
            ..queue(JOBS, "hermesh.job.*", WorkQueue, 10_000, 2 * GIB)
        },
        queue("partials", "hermesh.partial.>", LastPerSubject, 1_000_000, 16 * GIB),
        queue(ARRIVALS, "hermesh.arrived.>", WorkQueue, 1_000_000, 2 * GIB),
        told(ANSWERS, "hermesh.answer.>", true, 1_000_000, 8 * GIB),
        told("status", "hermesh.status.>", false, 100_000, GIB / 8),
        told("refused", "hermesh.refused.>", true, 100_000, GIB / 8),
        queue("cancelled", "hermesh.cancelled.>", LastPerSubject, 1_000_000, GIB / 2),
        queue("joined", "hermesh.joined.>", LastPerSubject, 1_000_000, GIB / 2),
        // Identifies repeated jobs. When the queue is full, new jobs are refused; no record is discarded.
        queue("admitted", "hermesh.admitted.>", LastPerSubject, 1_000_000, GIB),
        queue("open", "hermesh.open.>", LastPerSubject, 100_000, GIB / 8),
        lasting("revoked", "hermesh.revoked.>", true, 500_000, GIB / 4),
        lasting("registry", "hermesh.registry.>", true, 500_000, GIB / 4),
        QueueOptions {
            direct: true,
            ..lasting("services", "hermesh.service.*", true, 1_000, GIB / 64)
        },
        QueueOptions {
            overflow: Overflow::DiscardOldest,
            ..lasting("audit", "hermesh.audit.>", true, 1_000_000, GIB / 2)
        },
        parts(queue("uploads", "hermesh.upload.>", LastPerSubject, 50_000, 4 * GIB)),
        parts(lasting("keys", "hermesh.key.>", true, 100_000, 8 * GIB)),
        parts(lasting("models", "hermesh.model.>", true, 100_000, 4 * GIB)),
        QueueOptions {
            unique: false,
            ..queue(DEAD_LETTERS, "hermesh.dead.>", WorkQueue, 10_000, GIB)
        },
    ];
    queues.extend(Lane::ALL.iter().zip(TASKS).map(|(lane, name)| {
        queue(name, &format!("hermesh.task.{lane}.>"), WorkQueue, 500_000, 8 * GIB)
    }));
    queues
}

/// Declares all queues.
pub async fn declare(bus: &dyn Bus) -> Result<(), Error> {
    for queue in queues() {
        bus.declare(&queue).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_job_is_forgotten_before_its_last_deadline() {
        for queue in queues() {
            assert!(queue.max_age.is_none_or(|age| age > MAX_DEADLINE), "{}", queue.name);
        }
    }

    #[test]
    fn no_tenant_fills_the_queue_of_jobs() {
        let queues = queues();
        let jobs = queues.iter().find(|queue| queue.name == JOBS).expect("is there");
        let share = jobs.max_per_subject.expect("has a bound") * jobs.max_message_bytes;
        assert!(share * 8 <= jobs.max_bytes);
    }
}
