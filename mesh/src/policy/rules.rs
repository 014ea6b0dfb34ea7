//! The rights of one identity.

use std::{fmt, str::FromStr, sync::Arc};

use super::Denied;
use crate::{Error, TenantId, bus::nats::convert::check_subject, identity::SpiffeId};

/// The kinds of action that a policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// To publish to a subject, stored or not, including requests.
    Publish,
    /// To receive messages as they are published.
    Subscribe,
    /// To receive requests and reply to them.
    Serve,
    /// To pull messages from a queue and to settle them.
    Pull,
    /// To read stored messages: by subject or, if a whole queue may be read, also by listing.
    Read,
    /// To delete stored messages.
    Purge,
    /// To create queues, exactly as [`crate::topology`] defines them.
    Declare,
    /// To GET a path of another workload's sidecar.
    Http,
}

impl Verb {
    /// All verbs.
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

    /// Its name in the policy file.
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

/// Limits on one identity's traffic; its sidecar enforces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message: headers and body.
    pub max_payload_bytes: usize,
    /// Messages sent per second, on average.
    pub messages_per_second: u32,
    /// Bytes sent per second, on average.
    pub bytes_per_second: u64,
    /// Concurrent connections.
    pub connections: u32,
}

/// One allowed action.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// A subject filter, a queue name, or a path.
    pub(super) allowed: String,
    /// The text in the file.
    pub(super) written: Arc<str>,
    pub(super) line: usize,
    /// For a filter to read: whether it covers a whole queue.
    pub(super) whole: bool,
}

/// The rights of one identity.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its name in the file: `service/evaluation`, `tenant/*`.
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    /// The entries by verb, in the order of [`Verb::ALL`].
    pub(super) entries: [Vec<Entry>; Verb::ALL.len()],
}

impl Rules {
    /// Whether an action is allowed. `what` is a subject or a subject filter, a queue to pull from or to declare, or a
    /// path. To read a subject filter means to list it.
    pub fn allows(&self, verb: Verb, what: &str) -> bool {
        self.find(verb, what).is_some()
    }

    /// Whether the stored subjects under `filter` may be listed. This requires the right to read the whole queue.
    pub fn lists(&self, filter: &str) -> bool {
        self.entries(Verb::Read).iter().any(|entry| entry.whole && covers(&entry.allowed, filter))
    }

    /// Whether any action of this kind is allowed.
    pub fn has(&self, verb: Verb) -> bool {
        !self.entries(verb).is_empty()
    }

    /// The limits on its traffic.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Like [`Self::allows`], with the reason for a denial.
    ///
    /// # Errors
    /// [`Denied`], with the reason.
    pub fn check(&self, own: &SpiffeId, verb: Verb, what: &str) -> Result<(), Denied> {
        match self.allows(verb, what) {
            true => Ok(()),
            false => Err(Denied::new(own, verb, what, self.why_not(verb, what))),
        }
    }

    /// Like [`Self::lists`], with the reason for a denial.
    ///
    /// # Errors
    /// [`Denied`], with the reason.
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

    /// Whether the identity uses the bus at all.
    pub(super) fn on_the_bus(&self) -> bool {
        Verb::ALL.into_iter().any(|verb| verb != Verb::Http && self.has(verb))
    }

    /// The number of allowed actions.
    pub(super) fn len(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }

    /// The rules of all tenants, as rules of one tenant.
    pub(super) fn for_tenant(&self, tenant: &TenantId) -> Self {
        let mut rules = self.clone();
        for entry in rules.entries.iter_mut().flatten() {
            entry.allowed = entry.allowed.replace(TENANT, tenant.as_str());
        }
        rules
    }
}

/// Placeholder for the tenant's name in the rules of tenants.
pub(super) const TENANT: &str = "{tenant}";

/// Whether `text` is a valid subject filter for nats-server.
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

/// Whether the filter `allowed` matches every subject under `wanted`, which is a filter or a subject.
pub fn covers(allowed: &str, wanted: &str) -> bool {
    let mut wanted = wanted.split('.');
    for allowed in allowed.split('.') {
        match (allowed, wanted.next()) {
            (">", Some(_)) => return true,
            // One token does not match several.
            ("*", Some(">")) => return false,
            ("*", Some(_)) => {}
            (allowed, Some(wanted)) if allowed == wanted => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}
