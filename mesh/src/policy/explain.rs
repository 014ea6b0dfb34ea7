//! Explanations, for people, of why the policy allows or denies an action.

use std::fmt;

use serde::Serialize;

use super::{
    Policy, Verb, covers, queue_of,
    rules::{Entry, Rules},
};
use crate::identity::SpiffeId;

/// A denial: an identity may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{identity} may not {verb} {what}: {why}")]
pub struct Denied {
    /// The identity.
    pub identity: String,
    /// The kind of action.
    pub verb: Verb,
    /// The subject, queue or path, shortened.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// How much of a subject is shown, in bytes.
const SHOWN: usize = 200;

impl Denied {
    pub(super) fn new(id: &SpiffeId, verb: Verb, what: &str, why: impl Into<String>) -> Self {
        // The subject comes from the party that is denied, and goes into logs.
        let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        let what = what.chars().take(SHOWN).map(clean).collect();
        Self { identity: id.to_string(), verb, what, why: why.into() }
    }
}

/// Whether an identity may do something, and the line of the policy that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The identity.
    pub identity: String,
    /// The kind of action.
    pub verb: &'static str,
    /// The subject, queue or path.
    pub what: String,
    /// Whether it is allowed.
    pub allowed: bool,
    /// The deciding line, if there is one.
    pub line: Option<usize>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, verb, what, allowed, why, .. } = self;
        match allowed {
            true => write!(f, "allowed: {identity} may {verb} {what}: {why}"),
            false => write!(f, "denied: {identity} may not {verb} {what}: {why}"),
        }
    }
}

impl Policy {
    /// Whether the policy allows `id` to do something, and why.
    pub fn explain(&self, id: &SpiffeId, verb: Verb, what: &str) -> Explanation {
        let explanation = |allowed, line, why| Explanation {
            identity: id.to_string(),
            verb: verb.as_str(),
            what: what.to_owned(),
            allowed,
            line,
            why,
        };
        let Some(rules) = self.rules(id) else {
            return explanation(false, None, self.why_unknown(id));
        };
        match rules.find(verb, what) {
            Some(entry) => explanation(true, Some(entry.line), rules.cite(verb, entry)),
            None => explanation(false, None, rules.why_not(verb, what)),
        }
    }

    /// Why an identity has no rules.
    pub(super) fn why_unknown(&self, id: &SpiffeId) -> String {
        if self.is_revoked_id(id) {
            return "it is revoked".into();
        }
        if id.trust_domain() != self.trust_domain() {
            return format!("the policy is for trust domain {}", self.trust_domain());
        }
        match id.kind() {
            "tenant" => "it is not among the policy's `tenants`".into(),
            _ => format!("the policy has no [identities.\"{}\"]", id.workload()),
        }
    }
}

impl Rules {
    fn cite(&self, verb: Verb, entry: &Entry) -> String {
        let Entry { written, line, .. } = entry;
        format!("line {line}, [identities.\"{}\"] {verb} has {written:?}", self.name)
    }

    pub(super) fn why_not(&self, verb: Verb, what: &str) -> String {
        if what.starts_with('$') {
            return "the rights to the server's own subjects follow from pull, read, purge and declare"
                .into();
        }
        let entries = self.entries(verb);
        if entries.is_empty() {
            return format!("[identities.\"{}\"] has no {verb}", self.name);
        }
        let parts = entries.iter().find(|entry| verb == Verb::Read && covers(&entry.allowed, what));
        if let (Some(part), Some(queue)) = (parts, queue_of(what)) {
            return format!(
                "it may be read subject by subject, but a listing wants all of {} to be readable; {}",
                queue.filter,
                self.cite(verb, part)
            );
        }
        let nearest = entries.iter().map(|entry| (shared(&entry.allowed, what), entry));
        // All subjects of hermesh share their first token, so one common token is not near.
        let nearest = nearest.filter(|(shared, _)| *shared > 1).max_by_key(|(shared, _)| *shared);
        match nearest {
            Some((_, entry)) => format!("the nearest rule is {}", self.cite(verb, entry)),
            None => format!("nothing near it is in the {verb} of [identities.\"{}\"]", self.name),
        }
    }
}

/// The number of leading tokens that two filters have in common.
fn shared(allowed: &str, wanted: &str) -> usize {
    let pairs = allowed.split('.').zip(wanted.split('.'));
    pairs.take_while(|(allowed, wanted)| allowed == wanted || *allowed == "*").count()
}
