//! The policy file: its format and its validation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Limits, Policy, QUEUES, Revoked, Rules, Verb, covers, queue_named, queue_of,
    rules::{self, Entry, TENANT},
};
use crate::{Digest, TenantId, bus::Retention, identity::SpiffeId};

/// The most identities, not counting tenants, and the most revocations.
const MAX_IDENTITIES: usize = 1024;
const MAX_REVOKED: usize = 4096;
/// The most lines of one kind for one identity, and the longest line.
const MAX_LINES: usize = 256;
const MAX_FILTER: usize = 256;
/// The most lines of all tenants together, after expansion.
pub(super) const MAX_EXPANDED: usize = 1 << 17;

/// The name of the rules that apply to all tenants.
const ALL_TENANTS: &str = "tenant/*";
/// Prefix of revoked certificates.
const FINGERPRINT: &str = "sha256:";

/// Errors in a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is too large.
    #[error("the policy is {got} bytes, the limit is {limit}")]
    TooLarge {
        /// Size in bytes.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The file is not TOML, or has unknown fields.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A value does not have the required form.
    #[error("line {line}: {what}: expected {expected}")]
    Invalid {
        /// The line.
        line: usize,
        /// The field and its value.
        what: String,
        /// The required form.
        expected: &'static str,
    },
    /// An identity's name is not valid.
    #[error(
        "[identities.\"{name}\"]: expected KIND/NAME of 1 to 64 of a-z, 0-9 and - each; for tenants, \
         which `tenants` lists, tenant/*"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// There are too many entries.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The kind of entry.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// There are tenants, but no rules for them.
    #[error("there are tenants, but no [identities.\"tenant/*\"] that says what they may do")]
    NoTenantRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: Spanned<String>,
    #[serde(default)]
    tenants: Vec<Spanned<String>>,
    #[serde(default)]
    revoked: Vec<Spanned<String>>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    identities: BTreeMap<String, IdentityTable>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    max_payload_bytes: Option<Spanned<u64>>,
    messages_per_second: Option<Spanned<u64>>,
    bytes_per_second: Option<Spanned<u64>>,
    connections: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityTable {
    declare: Option<Spanned<bool>>,
    #[serde(default)]
    pull: Vec<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    serve: Vec<Spanned<String>>,
    #[serde(default)]
    read: Vec<Spanned<String>>,
    #[serde(default)]
    purge: Vec<Spanned<String>>,
    #[serde(default)]
    http: Vec<Spanned<String>>,
    #[serde(default)]
    limits: LimitsTable,
}

const DEFAULT_LIMITS: Limits = Limits {
    max_payload_bytes: 8 << 20,
    messages_per_second: 20_000,
    bytes_per_second: 1 << 30,
    connections: 64,
};

pub(super) fn parse(text: &str) -> Result<Policy, PolicyError> {
    if text.len() > Policy::MAX_BYTES {
        return Err(PolicyError::TooLarge { got: text.len(), limit: Policy::MAX_BYTES });
    }
    let reader = Reader { text };
    let file: File = toml::from_str(text).map_err(|error| PolicyError::Syntax {
        line: reader.line(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    reader.policy(file)
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    fn invalid<T: std::fmt::Display>(
        &self,
        field: &str,
        value: &Spanned<T>,
        expected: &'static str,
    ) -> PolicyError {
        let (line, what) = (self.line(value.span().start), format!("{field} {}", value.get_ref()));
        PolicyError::Invalid { line, what, expected }
    }

    fn policy(&self, file: File) -> Result<Policy, PolicyError> {
        bounded("identities", file.identities.len(), MAX_IDENTITIES)?;
        bounded("revoked", file.revoked.len(), MAX_REVOKED)?;
        bounded("tenants", file.tenants.len(), Policy::MAX_TENANTS)?;
        let domain = file.trust_domain.get_ref();
        if SpiffeId::new(domain, "service/x").is_err() {
            let expected = "a name of a-z, 0-9, ., - and _, such as hermesh.local";
            return Err(self.invalid("trust_domain", &file.trust_domain, expected));
        }
        let mut policy = Policy {
            trust_domain: domain.clone(),
            tenants: BTreeSet::new(),
            tenant_rules: None,
            rules: BTreeMap::new(),
            revoked: self.revoked(domain, &file.revoked)?,
        };
        let defaults = self.limits(&file.limits, DEFAULT_LIMITS)?;
        for (name, table) in &file.identities {
            let rules = self.rules(name, table, defaults)?;
            if name == ALL_TENANTS {
                policy.tenant_rules = Some(rules);
                continue;
            }
            let id = SpiffeId::new(domain, name).ok().filter(|id| id.kind() != "tenant");
            let id = id.ok_or_else(|| PolicyError::BadName { name: name.clone() })?;
            if !policy.is_revoked_id(&id) {
                policy.rules.insert(id, rules);
            }
        }
        self.no_purge_of_work(&file.identities)?;
        for tenant in &file.tenants {
            let name: Result<TenantId, _> = tenant.get_ref().parse();
            let name = name.ok().filter(|name| !policy.tenants.contains(name));
            let expected = "1 to 64 of a-z, 0-9 and -, each tenant once";
            policy.admit(name.ok_or_else(|| self.invalid("tenants", tenant, expected))?)?;
        }
        Ok(policy)
    }

    fn revoked(&self, domain: &str, list: &[Spanned<String>]) -> Result<Revoked, PolicyError> {
        let mut revoked = Revoked::default();
        for entry in list {
            let text = entry.get_ref();
            let digest = text.strip_prefix(FINGERPRINT).and_then(|hex| hex.parse::<Digest>().ok());
            let id = text.parse::<SpiffeId>().ok().filter(|id| id.trust_domain() == domain);
            match (digest, id) {
                (Some(digest), _) => drop(revoked.certificates.insert(digest)),
                (_, Some(id)) => drop(revoked.ids.insert(id)),
                _ => {
                    let expected = "a SPIFFE ID of this trust domain, or sha256: and the 64 \
                                    hexadecimal digits of a certificate's SHA-256";
                    return Err(self.invalid("revoked", entry, expected));
                }
            }
        }
        Ok(revoked)
    }

    fn limits(&self, table: &LimitsTable, defaults: Limits) -> Result<Limits, PolicyError> {
        let within = |field, value: &Option<Spanned<u64>>, default, max, expected| match value {
            None => Ok(default),
            Some(value) if (1..=max).contains(value.get_ref()) => Ok(*value.get_ref()),
            Some(value) => Err(self.invalid(field, value, expected)),
        };
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Limits {
            max_payload_bytes: within(
                "max_payload_bytes",
                &table.max_payload_bytes,
                defaults.max_payload_bytes as u64,
                64 << 20,
                "1 to 67108864, the most that nats-server allows",
            )? as usize,
            messages_per_second: narrow(within(
                "messages_per_second",
                &table.messages_per_second,
                defaults.messages_per_second.into(),
                1_000_000,
                "1 to 1000000",
            )?),
            bytes_per_second: within(
                "bytes_per_second",
                &table.bytes_per_second,
                defaults.bytes_per_second,
                1 << 40,
                "1 to 1099511627776",
            )?,
            connections: narrow(within(
                "connections",
                &table.connections,
                defaults.connections.into(),
                65_536,
                "1 to 65536",
            )?),
        })
    }

    fn rules(
        &self,
        name: &str,
        table: &IdentityTable,
        defaults: Limits,
    ) -> Result<Rules, PolicyError> {
        let list = |verb| self.entries(verb, table.list(verb), name == ALL_TENANTS);
        let mut entries = [const { Vec::new() }; Verb::ALL.len()];
        for verb in Verb::ALL {
            entries[verb as usize] = list(verb)?;
        }
        if let Some(declare) = table.declare.as_ref().filter(|declare| *declare.get_ref()) {
            let (written, line) = (Arc::from("true"), self.line(declare.span().start));
            entries[Verb::Declare as usize].extend(QUEUES.iter().map(|queue| Entry {
                allowed: queue.name.clone(),
                written: Arc::clone(&written),
                line,
                whole: false,
            }));
        }
        Ok(Rules { name: name.into(), limits: self.limits(&table.limits, defaults)?, entries })
    }

    fn entries(
        &self,
        verb: Verb,
        list: &[Spanned<String>],
        of_tenants: bool,
    ) -> Result<Vec<Entry>, PolicyError> {
        bounded("lines of one kind for one identity", list.len(), MAX_LINES)?;
        let entry = |written: &Spanned<String>| {
            // Checked with an example tenant in place of `{tenant}`.
            let text = written.get_ref();
            let example = if of_tenants { text.replace(TENANT, "x") } else { text.clone() };
            let whole = check(verb, &example).and_then(|whole| match verb {
                Verb::Publish if of_tenants && !names_a_tenant(text) => Err(
                    "a filter with {tenant} as one of its tokens, or it also covers other tenants",
                ),
                _ => Ok(whole),
            });
            let whole = whole.map_err(|expected| self.invalid(verb.as_str(), written, expected))?;
            let line = self.line(written.span().start);
            let written = Arc::from(text.as_str());
            Ok(Entry { allowed: text.clone(), written, line, whole })
        };
        list.iter().map(entry).collect()
    }

    /// Rejects purges of pulled queues: when a stream is purged, nats-server 2.9 skips messages of a consumer that is
    /// behind.
    fn no_purge_of_work(
        &self,
        identities: &BTreeMap<String, IdentityTable>,
    ) -> Result<(), PolicyError> {
        let pulled: BTreeSet<&str> =
            identities.values().flat_map(|table| &table.pull).map(|q| &**q.get_ref()).collect();
        for filter in identities.values().flat_map(|table| &table.purge) {
            let queue = queue_of(&filter.get_ref().replace(TENANT, "x"));
            if queue.is_some_and(|queue| pulled.contains(&*queue.name)) {
                let expected = "a queue that no identity pulls from, or messages would be skipped";
                return Err(self.invalid("purge", filter, expected));
            }
        }
        Ok(())
    }
}

impl IdentityTable {
    fn list(&self, verb: Verb) -> &[Spanned<String>] {
        match verb {
            Verb::Publish => &self.publish,
            Verb::Subscribe => &self.subscribe,
            Verb::Serve => &self.serve,
            Verb::Pull => &self.pull,
            Verb::Read => &self.read,
            Verb::Purge => &self.purge,
            Verb::Declare => &[],
            Verb::Http => &self.http,
        }
    }
}

fn bounded(what: &'static str, got: usize, limit: usize) -> Result<(), PolicyError> {
    if got > limit { Err(PolicyError::TooMany { what, limit }) } else { Ok(()) }
}

fn names_a_tenant(filter: &str) -> bool {
    filter.split('.').any(|token| token == TENANT)
}

/// Checks one line. For a filter to read, returns whether it covers a whole queue.
fn check(verb: Verb, text: &str) -> Result<bool, &'static str> {
    match verb {
        Verb::Pull if queue_named(text).is_none() => Err("a queue of the mesh"),
        Verb::Http if !is_path(text) => Err("a path such as /metrics"),
        Verb::Pull | Verb::Http | Verb::Declare => Ok(false),
        _ if !is_filter(text) => {
            Err("hermesh. and tokens of letters, digits, - and _, separated by \
                                      dots; * is any one token, > at the end any number of them; \
                                      {tenant} is for the tokens of [identities.\"tenant/*\"] only")
        }
        Verb::Publish | Verb::Subscribe => Ok(false),
        Verb::Serve if queue_of(text).is_some() => {
            Err("requests, which are not stored; messages in a queue are pulled")
        }
        Verb::Serve => Ok(false),
        Verb::Read | Verb::Purge => match queue_of(text) {
            None => Err("a filter within the subjects of one queue"),
            Some(queue) if verb == Verb::Purge && queue.retention == Retention::WorkQueue => {
                Err("a queue that no identity pulls from, or messages would be skipped")
            }
            Some(queue) => Ok(covers(text, &queue.filter)),
        },
    }
}

/// A subject filter of hermesh, without characters that nats-server's configuration would require to be quoted.
fn is_filter(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*>".contains(&byte);
    text.len() <= MAX_FILTER
        && text.starts_with("hermesh.")
        && text.bytes().all(plain)
        && rules::is_filter(text)
}

fn is_path(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    text.len() <= MAX_FILTER && text.starts_with('/') && text.bytes().all(word)
}
