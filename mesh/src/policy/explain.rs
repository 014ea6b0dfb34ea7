//! Why something is allowed or denied, for people.

use std::fmt;

use serde::Serialize;

use super::{
    Policy, Verb, covers, queue_of,
    rules::{Entry, Rules},
};
use crate::identity::SpiffeId;

/// Something that an identity may not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{identity} may not {verb} {what}: {why}")]
pub struct Denied {
    /// Who.
    pub identity: String,
    /// What kind of thing.
    pub verb: Verb,
    /// What it wanted, shortened.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// The most of a subject that is shown.
const SHOWN: usize = 200;

impl Denied {
    pub(super) fn new(id: &SpiffeId, verb: Verb, what: &str, why: impl Into<String>) -> Self {
        // It comes from whoever is denied, and goes into logs.
        let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        let what = what.chars().take(SHOWN).map(clean).collect();
        Self { identity: id.to_string(), verb, what, why: why.into() }
    }
}

/// Whether an identity may do something, and which line of the policy decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who.
    pub identity: String,
    /// What kind of thing.
    pub verb: &'static str,
    /// What it wants.
    pub what: String,
    /// Whether it may.
    pub allowed: bool,
    /// The line that decides, if there is one.
    pub line: Option<usize>,
    /// Why.
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
    /// Whether `id` may do something, and why.
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
            return "what is asked of the server itself follows from pull, read, purge and declare"
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
        // All subjects of hermesh share their first token.
        let nearest = nearest.filter(|(shared, _)| *shared > 1).max_by_key(|(shared, _)| *shared);
        match nearest {
            Some((_, entry)) => format!("the nearest rule is {}", self.cite(verb, entry)),
            None => format!("nothing near it is in the {verb} of [identities.\"{}\"]", self.name),
        }
    }
}

/// How many tokens two filters have in common from the beginning.
fn shared(allowed: &str, wanted: &str) -> usize {
    let pairs = allowed.split('.').zip(wanted.split('.'));
    pairs.take_while(|(allowed, wanted)| allowed == wanted || *allowed == "*").count()
}
