//! The queues of the mesh, in one place. Every process declares them all; the bus checks that they agree.

use std::time::Duration;

use crate::{
    Error,
    bus::{Bus, DEAD_LETTERS, Overflow, QueueOptions, Retention},
};

/// Jobs, pulled by preprocessing.
pub const JOBS: &str = "jobs";
/// Shards to evaluate, pulled by evaluation.
pub const TASKS: &str = "tasks";
/// Results of shards, pulled and read back by aggregation.
pub const PARTIALS: &str = "partials";
/// Outcomes of jobs, kept for the tenants to read.
pub const ANSWERS: &str = "answers";

/// Which jobs have been admitted, each with the signature it was admitted under.
pub const ADMITTED: &str = "admitted";
/// Which evaluation keys have been withdrawn.
pub const REVOKED: &str = "revoked";

/// The furthest deadline a job may have. What tells a repeated message from a new one is kept for
/// longer, so that a job is past its deadline before the mesh forgets that it has seen it.
pub const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// [`MAX_DEADLINE`], and room for clocks that differ.
const KEPT: Duration = Duration::from_secs(24 * 3600 + 300);

/// All queues.
pub fn queues() -> Vec<QueueOptions> {
    let queue =
        |name: &str, filter: &str, retention, ack_seconds, max_messages, max_bytes| QueueOptions {
            name: name.into(),
            filter: filter.into(),
            retention,
            ack_wait: Duration::from_secs(ack_seconds),
            max_deliver: 5,
            max_messages,
            max_bytes,
            max_age: KEPT,
            dedup_window: KEPT,
            overflow: Overflow::Refuse,
        };
    use Retention::{LastPerSubject, WorkQueue};
    vec![
        queue(JOBS, "hermesh.job.*", WorkQueue, 30, 10_000, 1 << 30),
        queue(TASKS, "hermesh.task.>", WorkQueue, 15, 100_000, 4 << 30),
        queue(PARTIALS, "hermesh.partial.>", LastPerSubject, 30, 200_000, 4 << 30),
        QueueOptions {
            // The newest outcomes are the ones still waited for.
            overflow: Overflow::DiscardOldest,
            ..queue(ANSWERS, "hermesh.answer.>", LastPerSubject, 30, 100_000, 1 << 29)
        },
        queue(ADMITTED, "hermesh.admitted.>", LastPerSubject, 30, 500_000, 1 << 29),
        // Jobs that come after a withdrawal are not admitted, so it need not be kept for longer.
        queue(REVOKED, "hermesh.revoked.>", LastPerSubject, 30, 500_000, 1 << 29),
        queue(DEAD_LETTERS, "hermesh.dead.>", WorkQueue, 30, 10_000, 1 << 30),
    ]
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
    fn nothing_is_forgotten_before_the_last_deadline() {
        for queue in queues() {
            assert!(queue.max_age > MAX_DEADLINE, "{}", queue.name);
            assert!(queue.dedup_window > MAX_DEADLINE, "{}", queue.name);
        }
    }
}
