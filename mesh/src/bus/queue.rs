//! One queue of the in-memory bus: plain data; callers pass in the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::{Overflow, Published, QueueOptions, Retention};
use crate::{Error, Message, message::matches};

struct Entry {
    message: Message,
    stored: Instant,
    attempts: u32,
    state: State,
}

enum State {
    Ready,
    /// Invisible until this time: delivered and not yet settled, or handed back with a delay.
    Hidden {
        until: Instant,
        delivered: bool,
    },
    /// Acknowledged, but still readable.
    Done,
}

pub(super) struct Queue {
    pub(super) options: QueueOptions,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    bytes: usize,
    ready: BTreeSet<u64>,
    hidden: BTreeSet<(Instant, u64)>,
    by_subject: BTreeMap<String, BTreeSet<u64>>,
    ids: HashSet<Arc<str>>,
    ids_by_age: VecDeque<(Instant, Arc<str>)>,
}

/// A message handed out, and the token to settle it with.
pub(super) struct Taken {
    pub(super) message: Message,
    pub(super) token: Token,
}

/// Identifies one delivery of one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) entry: u64,
    pub(super) attempt: u32,
}

impl Queue {
    pub(super) fn new(options: QueueOptions) -> Self {
        Self {
            options,
            entries: BTreeMap::new(),
            next: 0,
            bytes: 0,
            ready: BTreeSet::new(),
            hidden: BTreeSet::new(),
            by_subject: BTreeMap::new(),
            ids: HashSet::new(),
            ids_by_age: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, message: Message, now: Instant) -> Result<Published, Error> {
        self.expire(now);
        let unique = self.options.unique;
        // In a unique queue the subject identifies a duplicate, and ids are ignored.
        let seen = match message.id() {
            _ if unique => self.by_subject.contains_key(&message.subject),
            Some(id) => self.ids.contains(id),
            None => false,
        };
        if seen {
            return Ok(Published::Duplicate);
        }
        self.make_room(&message)?;
        if let Some(id) = message.id().filter(|_| !unique) {
            self.remember(id, now);
        }
        let entry = self.next;
        self.next += 1;
        if self.options.retention == Retention::LastPerSubject
            && let Some(old) = self.newest(&message.subject)
        {
            self.remove(old);
        }
        self.by_subject.entry(message.subject.clone()).or_default().insert(entry);
        self.bytes += message.size();
        self.ready.insert(entry);
        self.entries
            .insert(entry, Entry { message, stored: now, attempts: 0, state: State::Ready });
        Ok(Published::Stored)
    }

    fn make_room(&mut self, message: &Message) -> Result<(), Error> {
        let options = &self.options;
        let (got, limit) = (message.size(), options.max_message_bytes);
        if got > limit {
            return Err(Error::TooLarge { what: "message", got, limit });
        }
        let (max_messages, max_bytes) = (options.max_messages, options.max_bytes);
        let of_subject = self.by_subject.get(&message.subject).map_or(0, BTreeSet::len);
        if options.max_per_subject.is_some_and(|limit| of_subject >= limit) {
            return Err(Error::Full {
                what: format!("{} in queue {}", message.subject, options.name),
            });
        }
        let discards = options.overflow == Overflow::DiscardOldest;
        while self.entries.len() >= max_messages || self.bytes + message.size() > max_bytes {
            let oldest = self.entries.keys().next().copied().filter(|_| discards);
            let Some(oldest) = oldest else {
                return Err(Error::Full { what: format!("queue {}", self.options.name) });
            };
            self.remove(oldest);
        }
        Ok(())
    }

    /// Remembers an id. Beyond a limit proportional to the queue's size, the oldest ids are
    /// forgotten.
    fn remember(&mut self, id: &str, now: Instant) {
        if self.ids_by_age.len() >= self.options.max_messages.saturating_mul(2)
            && let Some((_, oldest)) = self.ids_by_age.pop_front()
        {
            self.ids.remove(&oldest);
        }
        let id: Arc<str> = id.into();
        self.ids.insert(id.clone());
        self.ids_by_age.push_back((now, id));
    }

    /// Hands out the next message. The second value holds the messages that exhausted their
    /// deliveries, each with the reason.
    pub(super) fn take(&mut self, now: Instant) -> (Option<Taken>, Vec<(Message, String)>) {
        self.expire(now);
        let dead = self.wake(now);
        let Some(number) = self.ready.pop_first() else {
            return (None, dead);
        };
        let until = now + self.options.ack_wait;
        let Some(entry) = self.entries.get_mut(&number) else {
            return (None, dead);
        };
        entry.attempts += 1;
        entry.state = State::Hidden { until, delivered: true };
        self.hidden.insert((until, number));
        let message = entry.message.clone();
        let token = Token { entry: number, attempt: entry.attempts };
        (Some(Taken { message, token }), dead)
    }

    /// The next time at which a hidden message becomes visible.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.hidden.first().map(|(until, _)| *until)
    }

    pub(super) fn ack(&mut self, token: Token) {
        // A late acknowledgement counts too: the work is done.
        let number = token.entry;
        match self.options.retention {
            Retention::WorkQueue => self.remove(number),
            Retention::LastPerSubject => self.set_state(number, State::Done),
        }
    }

    /// Hands a message back. Returns it if it has no delivery left.
    pub(super) fn nak(&mut self, token: Token, until: Instant) -> Option<Message> {
        if !self.is_current(token) {
            return None;
        }
        if token.attempt >= self.options.max_deliver {
            return self.kill(token.entry);
        }
        self.set_state(token.entry, State::Hidden { until, delivered: false });
        None
    }

    pub(super) fn reject(&mut self, token: Token) -> Option<Message> {
        self.is_current(token).then(|| self.kill(token.entry))?
    }

    pub(super) fn in_progress(&mut self, token: Token, now: Instant) {
        if self.is_current(token) {
            let until = now + self.options.ack_wait;
            self.set_state(token.entry, State::Hidden { until, delivered: true });
        }
    }

    pub(super) fn last(&mut self, subject: &str, now: Instant) -> Option<Message> {
        self.expire(now);
        Some(self.entries.get(&self.newest(subject)?)?.message.clone())
    }

    pub(super) fn subjects(&mut self, filter: &str, now: Instant) -> Vec<String> {
        self.expire(now);
        self.under(filter).map(|(subject, _)| subject.clone()).collect()
    }

    pub(super) fn purge(&mut self, filter: &str) {
        let numbers: Vec<u64> =
            self.under(filter).flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        for number in numbers {
            self.remove(number);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn newest(&self, subject: &str) -> Option<u64> {
        self.by_subject.get(subject)?.last().copied()
    }

    /// Subjects under `filter`, found by the filter's literal prefix.
    fn under<'a>(
        &'a self,
        filter: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a BTreeSet<u64>)> + 'a {
        let prefix = filter.split(['*', '>']).next().unwrap_or_default();
        self.by_subject
            .range(prefix.to_owned()..)
            .take_while(move |(subject, _)| subject.starts_with(prefix))
            .filter(move |(subject, _)| matches(filter, subject))
    }

    fn is_current(&self, token: Token) -> bool {
        self.entries.get(&token.entry).is_some_and(|entry| {
            entry.attempts == token.attempt
                && matches!(entry.state, State::Hidden { delivered: true, .. })
        })
    }

    fn wake(&mut self, now: Instant) -> Vec<(Message, String)> {
        let mut dead = Vec::new();
        while let Some((until, number)) = self.hidden.first().copied()
            && until <= now
        {
            let spent = self.entries.get(&number).is_some_and(|entry| {
                matches!(entry.state, State::Hidden { delivered: true, .. })
                    && entry.attempts >= self.options.max_deliver
            });
            if spent {
                let reason = format!(
                    "delivered {} times, never acknowledged within {:?}",
                    self.options.max_deliver, self.options.ack_wait
                );
                dead.extend(self.kill(number).map(|message| (message, reason)));
            } else {
                self.set_state(number, State::Ready);
            }
        }
        dead
    }

    fn set_state(&mut self, number: u64, state: State) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        self.ready.remove(&number);
        if let State::Hidden { until, .. } = entry.state {
            self.hidden.remove(&(until, number));
        }
        match state {
            State::Ready => drop(self.ready.insert(number)),
            State::Hidden { until, .. } => drop(self.hidden.insert((until, number))),
            State::Done => {}
        }
        entry.state = state;
    }

    /// Ends the delivery of a message. If the queue keeps values for readers, the message stays
    /// readable.
    fn kill(&mut self, number: u64) -> Option<Message> {
        let message = self.entries.get(&number)?.message.clone();
        match self.options.retention {
            Retention::WorkQueue => self.remove(number),
            Retention::LastPerSubject => self.set_state(number, State::Done),
        }
        Some(message)
    }

    fn remove(&mut self, number: u64) {
        self.set_state(number, State::Done);
        if let Some(entry) = self.entries.remove(&number) {
            self.bytes -= entry.message.size();
            if let Some(numbers) = self.by_subject.get_mut(&entry.message.subject) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_subject.remove(&entry.message.subject);
                }
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((seen, _)) = self.ids_by_age.front()
            && *seen + self.options.dedup_window <= now
        {
            if let Some((_, id)) = self.ids_by_age.pop_front() {
                self.ids.remove(&id);
            }
        }
        while let Some(max_age) = self.options.max_age
            && let Some((number, entry)) = self.entries.first_key_value()
            && entry.stored + max_age <= now
        {
            let number = *number;
            self.remove(number);
        }
    }
}
