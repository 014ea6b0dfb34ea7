//! What one identity may do.

use std::{fmt, str::FromStr, sync::Arc};

use super::Denied;
use crate::{Error, TenantId, bus::nats::convert::check_subject, identity::SpiffeId};

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// To publish to a subject, stored or not, requests included.
    Publish,
    /// To hear what is published.
    Subscribe,
    /// To answer requests.
    Serve,
    /// To take work from a queue, and to settle it.
    Pull,
    /// To read what is stored: by subject, or, where a whole queue may be read, by listing as well.
    Read,
    /// To delete what is stored.
    Purge,
    /// To create queues, as [`crate::topology`] has them.
    Declare,
    /// To GET a path at another workload's sidecar.
    Http,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Publish,
        Self::Subscribe,
        Self::Serve,
        Self::Pull,
        Self::Read,
        Self::Purge,
        Self::Declare,
        Self::Http,
    ];

    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Serve => "serve",
            Self::Pull => "pull",
            Self::Read => "read",
            Self::Purge => "purge",
            Self::Declare => "declare",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let expected = "publish, subscribe, serve, pull, read, purge, declare or http";
        let verb = Self::ALL.into_iter().find(|verb| verb.as_str() == text);
        verb.ok_or(Error::Malformed { what: "verb", expected })
    }
}

/// How much one identity may do, for its sidecar to enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message: headers and body.
    pub max_payload_bytes: usize,
    /// Messages sent, on average.
    pub messages_per_second: u32,
    /// Bytes sent, on average.
    pub bytes_per_second: u64,
    /// Connections at the same time.
    pub connections: u32,
}

/// One thing allowed.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// A filter of subjects, the name of a queue, or a path.
    pub(super) allowed: String,
    /// As it stands in the file, and where.
    pub(super) written: Arc<str>,
    pub(super) line: usize,
    /// Of a filter to read: whether it is all of a queue.
    pub(super) whole: bool,
}

/// What one identity may do.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The file's name for it: `service/evaluation`, `tenant/*`.
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    /// By verb, in the order of [`Verb::ALL`].
    pub(super) entries: [Vec<Entry>; Verb::ALL.len()],
}

impl Rules {
    /// Whether this may be done: with a subject or a filter of subjects, a queue to pull from or to
    /// declare, a path. A filter of subjects to read is a listing.
    pub fn allows(&self, verb: Verb, what: &str) -> bool {
        self.find(verb, what).is_some()
    }

    /// Whether the stored subjects under `filter` may be listed: all of their queue must be readable.
    pub fn lists(&self, filter: &str) -> bool {
        self.entries(Verb::Read).iter().any(|entry| entry.whole && covers(&entry.allowed, filter))
    }

    /// Whether there is anything that may be done of this kind.
    pub fn has(&self, verb: Verb) -> bool {
        !self.entries(verb).is_empty()
    }

    /// How much may be done.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// As [`Self::allows`].
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, own: &SpiffeId, verb: Verb, what: &str) -> Result<(), Denied> {
        match self.allows(verb, what) {
            true => Ok(()),
            false => Err(Denied::new(own, verb, what, self.why_not(verb, what))),
        }
    }

    /// As [`Self::lists`].
    ///
    /// # Errors
    /// Why not.
    pub fn check_listing(&self, own: &SpiffeId, filter: &str) -> Result<(), Denied> {
        match self.lists(filter) {
            true => Ok(()),
            false => Err(Denied::new(own, Verb::Read, filter, self.why_not(Verb::Read, filter))),
        }
    }

    pub(super) fn find(&self, verb: Verb, what: &str) -> Option<&Entry> {
        let listing = verb == Verb::Read && has_wildcards(what);
        let fits = |entry: &&Entry| covers(&entry.allowed, what) && (entry.whole || !listing);
        self.entries(verb).iter().find(fits)
    }

    pub(super) fn entries(&self, verb: Verb) -> &[Entry] {
        &self.entries[verb as usize]
    }

    /// Whether the bus is any of its business.
    pub(super) fn on_the_bus(&self) -> bool {
        Verb::ALL.into_iter().any(|verb| verb != Verb::Http && self.has(verb))
    }

    /// How many things are allowed.
    pub(super) fn len(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }

    /// The rules of all tenants as those of one.
    pub(super) fn for_tenant(&self, tenant: &TenantId) -> Self {
        let mut rules = self.clone();
        for entry in rules.entries.iter_mut().flatten() {
            entry.allowed = entry.allowed.replace(TENANT, tenant.as_str());
        }
        rules
    }
}

/// Stands for the tenant's name in the rules of tenants.
pub(super) const TENANT: &str = "{tenant}";

/// Whether `text` is a filter of subjects as nats-server reads it.
pub(super) fn is_filter(text: &str) -> bool {
    let last = text.split('.').count() - 1;
    let token = |(at, token): (usize, &str)| match token {
        "*" => true,
        ">" => at == last,
        token => check_subject(token).is_ok(),
    };
    text.split('.').enumerate().all(token)
}

fn has_wildcards(filter: &str) -> bool {
    filter.split('.').any(|token| token == "*" || token == ">")
}

/// Whether every subject under the filter `wanted`, or `wanted` itself if it is a subject, falls under
/// the filter `allowed`.
pub fn covers(allowed: &str, wanted: &str) -> bool {
    let mut wanted = wanted.split('.');
    for allowed in allowed.split('.') {
        match (allowed, wanted.next()) {
            (">", Some(_)) => return true,
            // One token does not cover several.
            ("*", Some(">")) => return false,
            ("*", Some(_)) => {}
            (allowed, Some(wanted)) if allowed == wanted => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}
