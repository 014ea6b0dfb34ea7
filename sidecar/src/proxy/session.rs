//! What one connection has asked for, and therefore may receive.

use std::collections::{BTreeSet, HashMap};

use hermesh_mesh::{matches, policy::Verb};
use tokio::time::Instant;

use super::{
    Rejection,
    gate::{Gate, View},
    recent::Recent,
};
use crate::metrics::Kind;

/// The maximum number of subscriptions of a connection; a client that exceeds it is broken.
const MAX_SUBSCRIPTIONS: usize = 16_384;
/// Requests of the workload whose replies are awaited.
const QUESTIONS: usize = 65_536;
/// Requests to the workload that may still be answered.
const REQUESTS: usize = 16_384;
/// Deliveries whose acknowledgements are awaited.
const DELIVERIES: usize = 16_384;

/// What may arrive in reply to an operation of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// A reply of the broker itself.
    Broker,
    /// A message from a queue; from the broker itself only a status that there is none.
    Delivery,
    /// The message stored under this subject, in JSON.
    Stored(String),
    /// The message stored under this subject, as it is.
    Direct(String),
    /// The reply of a workload that serves this subject.
    Answer(String),
}

#[derive(Debug)]
struct Subscription {
    filter: String,
    received: u64,
    max: Option<u64>,
    /// Set when the subscription has ended: the number of PONGs since.
    ended: Option<u8>,
}

/// A delivery that is not yet acknowledged.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) since: Instant,
}

/// The state of one connection.
pub(super) struct Session {
    /// Whether the client asked for `+OK`.
    pub(super) verbose: bool,
    subscriptions: HashMap<String, Subscription>,
    expected: Recent<String, Expected>,
    asked: Recent<String, ()>,
    pulled: BTreeSet<&'static str>,
    work: Recent<String, Work>,
}

/// How a message is to be judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A reply of the broker itself.
    Broker,
    /// A message that the workload sent to itself.
    Own,
    /// A stored message that was requested, in JSON.
    Stored(String),
    /// A stored message that was requested, as it is.
    Direct(String),
    /// A reply of another workload.
    Answer(String),
    /// A message from a queue.
    Delivery,
    /// A message of an ordinary subscription.
    Heard,
}

impl Session {
    pub(super) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            subscriptions: HashMap::new(),
            expected: Recent::new(QUESTIONS),
            asked: Recent::new(REQUESTS),
            pulled: BTreeSet::new(),
            work: Recent::new(DELIVERIES),
        }
    }

    pub(super) fn subscribe(&mut self, sid: &str, filter: &str) -> Result<(), Rejection> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Rejection::Unreadable("more than 16384 subscriptions"));
        }
        let subscription =
            Subscription { filter: filter.to_owned(), received: 0, max: None, ended: None };
        self.subscriptions.insert(sid.to_owned(), subscription);
        Ok(())
    }

    /// Ends a subscription, after a number of messages if one is given.
    pub(super) fn unsubscribe(&mut self, sid: &str, max: Option<u64>) {
        let Some(subscription) = self.subscriptions.get_mut(sid) else {
            return;
        };
        subscription.max = max;
        match max {
            // Keep it for now: the broker does not know yet, and a draining client wants the messages on
            // their way.
            None => subscription.ended = Some(0),
            Some(max) if subscription.received >= max => drop(self.subscriptions.remove(sid)),
            Some(_) => {}
        }
    }

    /// Forgets ended subscriptions after a PONG: everything that the broker sent before has arrived. The
    /// PING may be older than the last unsubscribes, so each subscription stays until the second PONG.
    pub(super) fn forget_ended(&mut self) {
        self.subscriptions.retain(|_, subscription| match &mut subscription.ended {
            None => true,
            Some(pongs) => {
                *pongs += 1;
                *pongs < 2
            }
        });
    }

    pub(super) fn expect(&mut self, reply: &str, expected: Expected) {
        self.expected.insert(reply.to_owned(), expected);
    }

    pub(super) fn pulls(&mut self, queue: &'static str) {
        self.pulled.insert(queue);
    }

    /// Records that a request waits for its reply at this subject.
    pub(super) fn asked(&mut self, reply: &str) {
        self.asked.insert(reply.to_owned(), ());
    }

    /// Whether a request waits there. It gets one reply.
    pub(super) fn answers(&mut self, reply: &str) -> bool {
        self.asked.take(reply).is_some()
    }

    pub(super) fn begins(&mut self, ack: &str, kind: Kind) {
        self.work.insert(ack.to_owned(), Work { kind, since: Instant::now() });
    }

    pub(super) fn ends(&mut self, ack: &str) -> Option<Work> {
        self.work.take(ack)
    }

    /// Counts a message of this subscription.
    pub(super) fn received(&mut self, sid: &str) {
        let Some(subscription) = self.subscriptions.get_mut(sid) else {
            return;
        };
        subscription.received += 1;
        if subscription.max.is_some_and(|max| subscription.received >= max) {
            self.subscriptions.remove(sid);
        }
    }

    /// The subject at which a pull waits, if this subscription covers one.
    pub(super) fn pull_of(&self, gate: &Gate, sid: &str) -> Option<String> {
        let filter = &self.subscriptions.get(sid)?.filter;
        if !gate.is_own_inbox(filter) {
            return None;
        }
        if !filter.contains(['*', '>']) {
            return Some(filter.clone());
        }
        let waits = |reply: &&String| {
            matches(filter, reply) && self.expected.get(reply.as_str()) == Some(&Expected::Delivery)
        };
        self.expected.keys().find(waits).cloned()
    }

    /// How a message must be judged, from the subscription on which it arrived and its subject.
    pub(super) fn claim(
        &mut self,
        gate: &Gate,
        view: &View,
        sid: &str,
        subject: &str,
    ) -> Result<Claim, Rejection> {
        let filter = &self.subscriptions.get(sid).ok_or(Rejection::Unasked)?.filter;
        let covered = matches(filter, subject);
        if !gate.is_own_inbox(filter) {
            return if covered { Ok(Claim::Heard) } else { Err(Rejection::Readdressed) };
        }
        if !gate.is_own_inbox(subject) {
            let queue = gate.queue_of(subject).ok_or(Rejection::Readdressed)?;
            // A pull outlives its connection if the client subscribes to its reply subject again. For that
            // exact subject, the right to pull is enough.
            let again = !filter.contains(['*', '>'])
                && view.rules().is_ok_and(|rules| rules.allows(Verb::Pull, &queue.name));
            let pulled = again || self.pulled.contains(queue.name.as_str());
            return if pulled { Ok(Claim::Delivery) } else { Err(Rejection::Readdressed) };
        }
        if !covered {
            return Err(Rejection::Readdressed);
        }
        match self.expected.get(subject) {
            // An invalid reply does not stop the wait for the true one, and a status does not end a pull
            // that may deliver more.
            Some(Expected::Answer(asked)) => Ok(Claim::Answer(asked.clone())),
            None | Some(Expected::Delivery) => Ok(Claim::Own),
            Some(_) => match self.expected.take(subject) {
                Some(Expected::Stored(asked)) => Ok(Claim::Stored(asked)),
                Some(Expected::Direct(asked)) => Ok(Claim::Direct(asked)),
                _ => Ok(Claim::Broker),
            },
        }
    }

    /// Records that a reply has come.
    pub(super) fn answered(&mut self, subject: &str) {
        self.expected.take(subject);
    }

    /// Whether a pull waits at exactly this subject.
    pub(super) fn awaits_delivery(&self, subject: &str) -> bool {
        self.expected.get(subject) == Some(&Expected::Delivery)
    }
}
