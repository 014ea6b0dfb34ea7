//! The sweep: what no message would bring to anybody's attention.
//!
//! A job that nobody evaluates sends no partial, so its deadline passes unnoticed; and a process may
//! have died between an outcome and the purge of its open job. All that is done here may be done twice,
//! or by every replica.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hermesh_mesh::{
    Error as MeshError, UnixMillis,
    actor::Environment,
    wire::{Answer, Failure, FailureCode, OpenEntry, OpenJob},
};

use crate::{Error, actor::forget};

/// Open jobs looked at at the same time.
const AT_ONCE: usize = 16;

/// Looks through the open jobs from time to time.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// Those that were open the last time and in time. What is open for longer than that is worth
    /// another look: most jobs end before, and are never asked about.
    seen: HashSet<String>,
}

impl Sweep {
    /// Ends the jobs that are past their deadline, and forgets those that have ended.
    pub(crate) async fn turn(&mut self, environment: &Environment) -> Result<(), MeshError> {
        let now = environment.clock.now();
        let open = environment.bus.subjects(&OpenJob::filter(None)).await?;
        let mut due = Vec::new();
        let mut seen = HashSet::new();
        for subject in open {
            let Some(entry) = OpenJob::parse_subject(&subject) else {
                continue;
            };
            if entry.deadline <= now || self.seen.contains(&subject) {
                due.push((subject.clone(), entry));
            }
            seen.insert(subject);
        }
        self.seen = seen;
        let look = async |(subject, entry): (String, OpenEntry)| {
            close(environment, &subject, &entry, now).await
        };
        stream::iter(due).map(Ok).try_for_each_concurrent(AT_ONCE, look).await
    }
}

async fn close(
    environment: &Environment,
    subject: &str,
    entry: &OpenEntry,
    now: UnixMillis,
) -> Result<(), MeshError> {
    let OpenEntry { tenant, job, deadline, .. } = entry;
    let bus = &environment.bus;
    if bus.exists(&Answer::subject_of(tenant, *job)).await? {
        forget(&**bus, tenant, *job).await?;
        return bus.purge(subject).await;
    }
    if *deadline <= now {
        let late = Error::Expired(deadline.until(now));
        // The outcome, once stored, has everything about the job purged.
        let failure = Failure::ending(tenant, *job, FailureCode::Expired, late);
        environment.fail(&failure).await?;
    }
    Ok(())
}
