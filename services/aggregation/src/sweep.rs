//! The sweep: finds jobs that ended or expired without a message to report it.
//!
//! If no evaluation takes a job's tasks, no partial comes and its deadline passes unnoticed. A process may
//! die after storing an outcome and before purging the open job. A nats-server that is killed may forget
//! the purges of its last seconds, and then holds partials of jobs that are no longer open. Every action of
//! the sweep may be repeated, also by several replicas.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hermesh_mesh::{
    Error as MeshError, JobId, TenantId, UnixMillis,
    actor::Environment,
    wire::{Answer, Failure, FailureCode, OpenEntry, OpenJob, Partial},
};

use crate::{Error, actor::forget};

/// Open jobs checked at the same time.
const AT_ONCE: usize = 16;
/// One turn in this many also checks the partials, which are far more numerous than open jobs.
const PARTIALS: u32 = 3;

/// Checks the open jobs from time to time.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// The jobs that were open and within their deadline the last time. Those that are still open are
    /// checked; most jobs end before that and never need a check.
    seen: HashSet<String>,
    /// The jobs that had partials the last time.
    partials: BTreeSet<JobOf>,
    turns: u32,
}

type JobOf = (TenantId, JobId);

impl Sweep {
    /// Ends the jobs that are past their deadline, and purges those that have ended.
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
        stream::iter(due).map(Ok).try_for_each_concurrent(AT_ONCE, look).await?;
        self.turns += 1;
        match self.turns.is_multiple_of(PARTIALS) {
            true => self.partials(environment).await,
            false => Ok(()),
        }
    }

    /// Purges the partials of jobs that have ended.
    async fn partials(&mut self, environment: &Environment) -> Result<(), MeshError> {
        let bus = &environment.bus;
        let found = bus.subjects(&Partial::filter()).await?;
        let found: BTreeSet<JobOf> = found.iter().filter_map(|it| Partial::job_of(it)).collect();
        let old: Vec<JobOf> = found.intersection(&self.partials).cloned().collect();
        self.partials = found;
        let look = async |(tenant, job): JobOf| {
            if bus.exists(&Answer::subject_of(&tenant, job)).await? {
                forget(&**bus, &tenant, job).await?;
            }
            Ok(())
        };
        stream::iter(old).map(Ok).try_for_each_concurrent(AT_ONCE, look).await
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
        // The stored outcome triggers the purge of everything about the job.
        let failure = Failure::ending(tenant, *job, FailureCode::Expired, late);
        environment.fail(&failure).await?;
    }
    Ok(())
}
