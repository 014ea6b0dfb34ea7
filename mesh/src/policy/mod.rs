//! The policy: one file says which identity may do what, and everything else is denied.
//!
//! All enforcement derives from this file: sidecars use [`Rules`] and [`nats::classify`],
//! [`GuardedBus`](crate::bus::guarded::GuardedBus) uses [`Rules`], and nats-server gets the configuration that
//! [`nats::render`] writes.

mod explain;
mod file;
pub mod nats;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

pub use self::{
    explain::{Denied, Explanation},
    file::PolicyError,
    rules::{Limits, Rules, Verb, covers},
};
use crate::{
    Digest, TenantId,
    bus::QueueOptions,
    identity::{Peer, SpiffeId},
    topology,
};

static QUEUES: LazyLock<Vec<QueueOptions>> = LazyLock::new(topology::queues);

/// The queue that catches a subject or a whole filter.
pub(crate) fn queue_of(filter: &str) -> Option<&'static QueueOptions> {
    QUEUES.iter().find(|queue| covers(&queue.filter, filter))
}

fn queue_named(name: &str) -> Option<&'static QueueOptions> {
    QUEUES.iter().find(|queue| queue.name == name)
}

/// The rights of all identities in one trust domain.
#[derive(Debug, Clone)]
pub struct Policy {
    trust_domain: String,
    tenants: BTreeSet<TenantId>,
    /// The rights of every tenant, with `{tenant}` in place of its name.
    tenant_rules: Option<Rules>,
    /// Rules of all identities that are known and not revoked.
    rules: BTreeMap<SpiffeId, Rules>,
    revoked: Revoked,
}

#[derive(Debug, Clone, Default)]
struct Revoked {
    ids: BTreeSet<SpiffeId>,
    certificates: BTreeSet<Digest>,
}

impl Policy {
    /// The largest policy file, in bytes.
    pub const MAX_BYTES: usize = 1 << 20;
    /// The most tenants.
    pub const MAX_TENANTS: usize = 4096;

    /// Parses and validates a policy.
    ///
    /// # Errors
    /// The first mistake, with its line and the required form.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        file::parse(text)
    }

    /// The policy that comes with hermesh: the rights of its services, and no tenants.
    pub fn default_text() -> &'static str {
        include_str!("default.toml")
    }

    /// The same policy with additional tenants.
    ///
    /// # Errors
    /// [`PolicyError::NoTenantRule`], or [`PolicyError::TooMany`].
    pub fn admitting(
        mut self,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Result<Self, PolicyError> {
        for tenant in tenants {
            self.admit(tenant)?;
        }
        Ok(self)
    }

    /// The trust domain of all identities.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The tenants in the policy.
    pub fn tenants(&self) -> impl ExactSizeIterator<Item = &TenantId> {
        self.tenants.iter()
    }

    /// All identities with rules: services and single tenants, without revoked ones.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = &SpiffeId> {
        self.rules.keys()
    }

    /// The rules of an identity; `None` if it is unknown, revoked or of another trust domain.
    pub fn rules(&self, id: &SpiffeId) -> Option<&Rules> {
        self.rules.get(id)
    }

    /// Whether an identity is revoked, whichever certificate it presents.
    pub fn is_revoked_id(&self, id: &SpiffeId) -> bool {
        self.revoked.ids.contains(id)
    }

    /// Whether a certificate or its identity is revoked.
    pub fn is_revoked(&self, peer: &Peer) -> bool {
        self.is_revoked_id(&peer.id) || self.revoked.certificates.contains(&peer.fingerprint)
    }

    /// Checks whether `id` may do something.
    ///
    /// # Errors
    /// [`Denied`], with the reason.
    pub fn check(&self, id: &SpiffeId, verb: Verb, what: &str) -> Result<(), Denied> {
        match self.rules(id) {
            Some(rules) => rules.check(id, verb, what),
            None => Err(Denied::new(id, verb, what, self.why_unknown(id))),
        }
    }

    /// Checks whether `id` may list the stored subjects under `filter`.
    ///
    /// # Errors
    /// [`Denied`], with the reason.
    pub fn check_listing(&self, id: &SpiffeId, filter: &str) -> Result<(), Denied> {
        match self.rules(id) {
            Some(rules) => rules.check_listing(id, filter),
            None => Err(Denied::new(id, Verb::Read, filter, self.why_unknown(id))),
        }
    }

    /// The number of revoked identities and certificates.
    pub fn revocations(&self) -> usize {
        self.revoked.ids.len() + self.revoked.certificates.len()
    }

    fn admit(&mut self, tenant: TenantId) -> Result<(), PolicyError> {
        let rules = self.tenant_rules.as_ref().ok_or(PolicyError::NoTenantRule)?;
        let workload = format!("tenant/{tenant}");
        let id = SpiffeId::new(&self.trust_domain, &workload)
            .map_err(|_| PolicyError::BadName { name: workload })?;
        self.tenants.insert(tenant.clone());
        let limit = (file::MAX_EXPANDED / rules.len().max(1)).min(Self::MAX_TENANTS);
        if self.tenants.len() > limit {
            return Err(PolicyError::TooMany { what: "tenants", limit });
        }
        if !self.is_revoked_id(&id) {
            let rules = rules.for_tenant(&tenant);
            self.rules.insert(id, rules);
        }
        Ok(())
    }
}
