//! The queues of the mesh, in one place. Every process declares them all; the bus checks that they agree.

use std::time::Duration;

use crate::{
    Error,
    bus::{Bus, DEAD_LETTERS, QueueOptions, Retention},
};

/// Jobs, pulled by preprocessing.
pub const JOBS: &str = "jobs";
/// Shards to evaluate, pulled by evaluation.
pub const TASKS: &str = "tasks";
/// Results of shards, pulled and read back by aggregation.
pub const PARTIALS: &str = "partials";
/// Outcomes of jobs, kept for the tenants to read.
pub const ANSWERS: &str = "answers";

const HOUR: Duration = Duration::from_secs(3600);

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
            max_age: 24 * HOUR,
            dedup_window: HOUR,
        };
    use Retention::{LastPerSubject, WorkQueue};
    vec![
        queue(JOBS, "hermesh.job.*", WorkQueue, 30, 10_000, 1 << 30),
        queue(TASKS, "hermesh.task.>", WorkQueue, 15, 100_000, 4 << 30),
        queue(PARTIALS, "hermesh.partial.>", LastPerSubject, 30, 200_000, 4 << 30),
        QueueOptions {
            // Long enough to be fetched, short enough for the bound on their number to hold.
            max_age: HOUR,
            ..queue(ANSWERS, "hermesh.answer.>", LastPerSubject, 30, 100_000, 1 << 30)
        },
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
