//! The events of a schedule in order, and the state that the invariants need.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use hermesh_mesh::{Bytes, Message, bus::Published};

use super::fault::{Fault, Kind};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, from the schedule's start.
    pub at: Duration,
    /// The process.
    pub process: Arc<str>,
    /// The operation.
    pub what: String,
    /// The fault, if any.
    pub fault: Option<Fault>,
    /// The result.
    pub result: &'static str,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, process, what, result, .. } = self;
        write!(f, "{:>9.3} {process:<18} {what} {result}", at.as_secs_f64())?;
        match self.fault {
            Some(fault) => write!(f, "   <== {fault}"),
            None => Ok(()),
        }
    }
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// Where it is violated.
    pub detail: String,
}

/// A delivery of a task that its process has not settled.
#[derive(Debug, Clone, Copy)]
struct InHand {
    since: Duration,
}

/// The history of one schedule.
#[derive(Debug, Default)]
pub struct History {
    /// All events.
    pub events: Vec<Event>,
    /// The violated invariants.
    pub violations: Vec<Violation>,
    /// The number of faults by kind.
    pub faults: BTreeMap<Kind, u64>,
    /// Processes that died.
    pub crashes: u64,
    /// Deliveries that were not the first of their message.
    pub redeliveries: u64,
    /// Shards evaluated, repetitions included.
    pub evaluated: u64,
    /// Evaluations of a shard that had been evaluated before, while no result of it was stored.
    pub repeated: u64,
    /// Outcomes and refusals by subject, with the time when they were stored.
    pub ends: BTreeMap<String, (Duration, Message)>,
    /// Shards by their bytes, which are distinct.
    shards: HashMap<Bytes, Shard>,
    partials: BTreeMap<String, Duration>,
    revoked: BTreeMap<String, Duration>,
    in_hand: BTreeMap<(Arc<str>, String), BTreeMap<u64, InHand>>,
    seen: BTreeSet<String>,
    deliveries: u64,
}

#[derive(Debug, Clone)]
struct Shard {
    /// `{tenant}.{job}.{stage}.{shard}`.
    name: String,
    /// `{tenant}.{job}`.
    job: String,
    /// The subject of its key's revocation.
    revoked: String,
}

impl History {
    /// Records an event.
    pub fn note(&mut self, event: Event) {
        if let Some(fault) = event.fault {
            *self.faults.entry(fault.kind()).or_default() += 1;
        }
        self.events.push(event);
    }

    /// Records a violation.
    pub fn violated(&mut self, invariant: &'static str, detail: impl Into<String>) {
        self.violations.push(Violation { invariant, detail: detail.into() });
    }

    /// Records a publish that reached the bus.
    pub fn published(&mut self, at: Duration, message: &Message, published: Published) {
        if published != Published::Stored {
            return;
        }
        let subject = &message.subject;
        let header = |name| message.headers.get(name).unwrap_or_default();
        let end = ["hermesh.answer.", "hermesh.refused."];
        if end.iter().any(|prefix| subject.starts_with(prefix)) {
            if self.ends.contains_key(subject) {
                self.violated("a job ends once", format!("{subject} was stored twice"));
                return;
            }
            self.ends.insert(subject.clone(), (at, message.clone()));
        } else if let Some(rest) = subject.strip_prefix("hermesh.task.") {
            let name = rest.split_once('.').map_or(rest, |(_, name)| name).to_owned();
            let shard = Shard {
                job: format!("{}.{}", header("Hermesh-Tenant"), header("Hermesh-Job")),
                revoked: format!("{}.{}", header("Hermesh-Tenant"), header("Hermesh-Key")),
                name,
            };
            self.shards.insert(message.body.clone(), shard);
        } else if let Some(name) = subject.strip_prefix("hermesh.partial.") {
            self.partials.entry(name.to_owned()).or_insert(at);
        } else if let Some(name) = subject.strip_prefix("hermesh.revoked.") {
            self.revoked.entry(name.to_owned()).or_insert(at);
        }
    }

    /// Records that a delivery reached a process. The number identifies it until it is settled.
    pub fn delivered(
        &mut self,
        at: Duration,
        process: &Arc<str>,
        message: &Message,
        attempt: u32,
    ) -> u64 {
        self.deliveries += 1;
        self.redeliveries += u64::from(attempt > 1);
        if let Some(rest) = message.subject.strip_prefix("hermesh.task.") {
            let name = rest.split_once('.').map_or(rest, |(_, name)| name).to_owned();
            let held = self.in_hand.entry((process.clone(), name)).or_default();
            held.insert(self.deliveries, InHand { since: at });
        }
        self.deliveries
    }

    /// Records that a process has settled a delivery.
    pub fn settled(&mut self, process: &Arc<str>, subject: &str, delivery: u64) {
        if let Some(rest) = subject.strip_prefix("hermesh.task.") {
            let name = rest.split_once('.').map_or(rest, |(_, name)| name).to_owned();
            let key = (process.clone(), name);
            if let Some(held) = self.in_hand.get_mut(&key) {
                held.remove(&delivery);
                if held.is_empty() {
                    self.in_hand.remove(&key);
                }
            }
        }
    }

    /// Records that a process evaluates a shard. It must not, if the shard was delivered after the
    /// evaluation had become pointless.
    pub fn evaluates(&mut self, process: &Arc<str>, bytes: &[u8]) {
        self.evaluated += 1;
        let Some(shard) = self.shards.get(bytes).cloned() else {
            self.violated("only shards are evaluated", format!("{process} evaluates other bytes"));
            return;
        };
        let ended = format!("hermesh.answer.{}", shard.job);
        let pointless = [
            ("a stored shard is not evaluated again", self.partials.get(&shard.name).copied()),
            ("an ended job is not computed", self.ends.get(&ended).map(|(at, _)| *at)),
            ("a revoked key is not used", self.revoked.get(&shard.revoked).copied()),
        ];
        let held = self.in_hand.get(&(process.clone(), shard.name.clone()));
        let since = held.and_then(|held| held.values().map(|delivery| delivery.since).min());
        for (invariant, from) in pointless {
            if let Some(from) = from
                && since.is_none_or(|since| since > from)
            {
                let detail = format!(
                    "{process} evaluates {}, delivered at {since:?}, pointless since {from:?}",
                    shard.name
                );
                self.violated(invariant, detail);
            }
        }
        if !self.seen.insert(shard.name) {
            self.repeated += 1;
        }
    }
}
