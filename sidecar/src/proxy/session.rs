//! What one connection has asked for, and so may be told.

use std::collections::{BTreeSet, HashMap};

use hermesh_mesh::{matches, policy::Verb};
use tokio::time::Instant;

use super::{
    Rejection,
    gate::{Gate, View},
    recent::Recent,
};
use crate::metrics::Kind;

/// Subscriptions of one connection. A client that has more is broken.
const MAX_SUBSCRIPTIONS: usize = 16_384;
/// Questions whose answers are waited for.
const QUESTIONS: usize = 65_536;
/// Requests that may still be answered.
const REQUESTS: usize = 16_384;
/// Deliveries whose end is waited for.
const DELIVERIES: usize = 16_384;

/// What may come in answer to something that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// The broker's own word.
    Broker,
    /// A message from a queue; of the broker itself only that there is none.
    Delivery,
    /// The message stored under this subject, in JSON.
    Stored(String),
    /// The message stored under this subject, as it is.
    Direct(String),
    /// The answer of a workload that serves this subject.
    Answer(String),
}

#[derive(Debug)]
struct Subscription {
    filter: String,
    received: u64,
    max: Option<u64>,
    /// It has ended, and the broker has answered so many PINGs since.
    ended: Option<u8>,
}

/// A delivery that has not been settled.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) since: Instant,
}

/// The state of one connection.
pub(super) struct Session {
    /// Whether the client wants to hear `+OK`.
    pub(super) verbose: bool,
    subscriptions: HashMap<String, Subscription>,
    expected: Recent<String, Expected>,
    asked: Recent<String, ()>,
    pulled: BTreeSet<&'static str>,
    work: Recent<String, Work>,
}

/// As what a message has to be judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The broker's word.
    Broker,
    /// What the workload sent to itself.
    Own,
    /// A stored message that was asked for, in JSON.
    Stored(String),
    /// A stored message that was asked for.
    Direct(String),
    /// An answer.
    Answer(String),
    /// A message from a queue.
    Delivery,
    /// A message that was subscribed to.
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

    /// Ends a subscription, after so many messages if a number is given.
    pub(super) fn unsubscribe(&mut self, sid: &str, max: Option<u64>) {
        let Some(subscription) = self.subscriptions.get_mut(sid) else {
            return;
        };
        subscription.max = max;
        match max {
            // The broker has not heard of it yet, and a client that drains wants what is on its way.
            None => subscription.ended = Some(0),
            Some(max) if subscription.received >= max => drop(self.subscriptions.remove(sid)),
            Some(_) => {}
        }
    }

    /// The broker has answered a PING: what it sent before has come. It may have been asked before it heard
    /// of the last subscriptions that ended, so those stay until the next time.
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

    /// Notes that a request waits for its answer at this subject.
    pub(super) fn asked(&mut self, reply: &str) {
        self.asked.insert(reply.to_owned(), ());
    }

    /// Whether a request waits there; it gets one answer.
    pub(super) fn answers(&mut self, reply: &str) -> bool {
        self.asked.take(reply).is_some()
    }

    pub(super) fn begins(&mut self, ack: &str, kind: Kind) {
        self.work.insert(ack.to_owned(), Work { kind, since: Instant::now() });
    }

    pub(super) fn ends(&mut self, ack: &str) -> Option<Work> {
        self.work.take(ack)
    }

    /// A message has come on this subscription.
    pub(super) fn received(&mut self, sid: &str) {
        let Some(subscription) = self.subscriptions.get_mut(sid) else {
            return;
        };
        subscription.received += 1;
        if subscription.max.is_some_and(|max| subscription.received >= max) {
            self.subscriptions.remove(sid);
        }
    }

    /// Where a pull waits that this subscription hears.
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

    /// As what a message must be judged, by where it arrived.
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
            // A pull outlives the connection that it came by, if where its one message goes is listened to
            // again; so there it is enough that the workload may pull.
            let again = !filter.contains(['*', '>'])
                && view.rules().is_ok_and(|rules| rules.allows(Verb::Pull, &queue.name));
            let pulled = again || self.pulled.contains(queue.name.as_str());
            return if pulled { Ok(Claim::Delivery) } else { Err(Rejection::Readdressed) };
        }
        if !covered {
            return Err(Rejection::Readdressed);
        }
        match self.expected.get(subject) {
            // What is wrong with an answer does not end the waiting for the true one, nor a status that
            // of a pull for more.
            Some(Expected::Answer(asked)) => Ok(Claim::Answer(asked.clone())),
            None | Some(Expected::Delivery) => Ok(Claim::Own),
            Some(_) => match self.expected.take(subject) {
                Some(Expected::Stored(asked)) => Ok(Claim::Stored(asked)),
                Some(Expected::Direct(asked)) => Ok(Claim::Direct(asked)),
                _ => Ok(Claim::Broker),
            },
        }
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, subject: &str) {
        self.expected.take(subject);
    }

    /// Whether a pull waits at exactly this subject.
    pub(super) fn awaits_delivery(&self, subject: &str) -> bool {
        self.expected.get(subject) == Some(&Expected::Delivery)
    }
}
