//! The invariants at the end of every schedule.

use std::time::Duration;

use hermesh_mesh::{
    Error, JobId, Message,
    bus::{Bus as _, DEAD_LETTERS, memory::MemoryBus},
    topology,
    wire::{Failure, FailureCode, Outcome, Wire as _},
};

use super::{
    client::Told,
    history::History,
    plan::{AMPLE, Job, Plan},
};

/// A client may miss an outcome stored in the last moments before it stops waiting.
const NEARLY: Duration = Duration::from_secs(5);

/// Queues that must be empty when every job has ended.
const EMPTY: [&str; 9] = [
    topology::JOBS,
    topology::TASKS[0],
    topology::TASKS[1],
    topology::TASKS[2],
    topology::ARRIVALS,
    "partials",
    "joined",
    "open",
    DEAD_LETTERS,
];

/// The queues that are not empty, with their numbers of messages.
pub fn left_behind(bus: &MemoryBus) -> Vec<(&'static str, usize)> {
    EMPTY.into_iter().map(|queue| (queue, bus.depth(queue))).filter(|(_, n)| *n > 0).collect()
}

/// The subject and the end of a job: its outcome, or the refusal of its submission.
fn ends<'a>(
    plan: &Plan,
    job: &Job,
    history: &'a History,
) -> Vec<(&'a String, &'a (Duration, Message))> {
    let (tenant, id) = (&plan.tenants[job.tenant].name, JobId(job.id));
    let answer = format!("hermesh.answer.{tenant}.{id}");
    let refusal = format!("hermesh.refused.{tenant}.{id}.");
    let of_job = |subject: &str| subject == answer || subject.starts_with(&refusal);
    history.ends.iter().filter(|(subject, _)| of_job(subject)).collect()
}

/// Whether every job of the plan has ended.
pub fn all_ended(plan: &Plan, history: &History) -> bool {
    plan.jobs.iter().all(|job| !ends(plan, job, history).is_empty())
}

/// Checks all invariants.
pub async fn check(plan: &Plan, bus: &MemoryBus, history: &mut History, told: &[Told]) {
    let mut found = Vec::new();
    for (index, job) in plan.jobs.iter().enumerate() {
        let name = format!("{} of {}", JobId(job.id), plan.tenants[job.tenant].name);
        let told = told.iter().find(|told| told.job == index);
        let (subject, (at, message)) = match ends(plan, job, history)[..] {
            [] => {
                found.push(("every job ends", format!("job {name} has no outcome")));
                continue;
            }
            [only] => only,
            ref more => {
                let subjects: Vec<_> = more.iter().map(|(subject, _)| subject).collect();
                found.push(("a job ends once", format!("job {name} ended as {subjects:?}")));
                continue;
            }
        };
        match bus.last(subject).await {
            Ok(Some(now)) if now == *message => {}
            _ => found.push(("an outcome never changes", format!("that of job {name} did"))),
        }
        if let Err(error) = right(plan, job, message, told) {
            found.push(("an outcome is right", format!("job {name}: {error}")));
        }
        if let Err(error) = heard(*at, message, told) {
            found.push(("who waits gets the outcome", format!("job {name}: {error}")));
        }
    }
    for (queue, messages) in left_behind(bus) {
        found.push(("nothing is left behind", format!("{messages} messages in queue {queue}")));
    }
    for (invariant, detail) in found {
        history.violated(invariant, detail);
    }
}

/// Whether the job has the right answer, or a failure that the schedule explains.
fn right(plan: &Plan, job: &Job, message: &Message, told: Option<&Told>) -> Result<(), String> {
    let tenant = &plan.tenants[job.tenant];
    let accepted = told.is_some_and(|told| told.cancelled);
    let failure = if message.subject.starts_with("hermesh.refused.") {
        Failure::receive(message).map_err(|error| error.to_string())?
    } else {
        match Outcome::receive(message).map_err(|error| error.to_string())? {
            Outcome::Failure(failure) => failure,
            Outcome::Answer(_) if accepted => return Err("answered though cancelled".into()),
            Outcome::Answer(answer) => {
                let right = answer.body == tenant.model.answer(&tenant.model.input(job.input));
                return if right { Ok(()) } else { Err("the answer is wrong".into()) };
            }
        }
    };
    let explained = match failure.code {
        FailureCode::Cancelled => job.cancelled.is_some(),
        FailureCode::KeyRevoked => tenant.revokes.is_some(),
        FailureCode::Expired => job.within < AMPLE,
        _ => false,
    };
    if explained { Ok(()) } else { Err(format!("nothing explains {failure}")) }
}

/// Whether the client returned what is stored, if it was stored in time.
fn heard(at: Duration, message: &Message, told: Option<&Told>) -> Result<(), String> {
    let Some(told) = told else {
        return Err("the client still waits".into());
    };
    let stored = Outcome::decode(message).map_err(|error| error.to_string())?;
    match (&told.outcome, stored) {
        (Ok(body), Outcome::Answer(answer)) if *body == answer.body => Ok(()),
        (Err(Error::Failed(failure)), Outcome::Failure(stored)) if **failure == stored => Ok(()),
        (Err(Error::Timeout(_)), _) if at + NEARLY > told.patience => Ok(()),
        (told, _) => Err(format!("stored at {at:?}, but the client was told {told:?}")),
    }
}
