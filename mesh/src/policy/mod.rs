//! Who may do what: one file says it, and what it does not say is denied.
//!
//! Everything that enforces follows from this one file: sidecars ask [`Rules`] and [`nats::classify`],
//! [`GuardedBus`](crate::bus::guarded::GuardedBus) asks [`Rules`], and nats-server gets what
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

/// The queue that catches a subject, or all of a filter.
pub(crate) fn queue_of(filter: &str) -> Option<&'static QueueOptions> {
    QUEUES.iter().find(|queue| covers(&queue.filter, filter))
}

fn queue_named(name: &str) -> Option<&'static QueueOptions> {
    QUEUES.iter().find(|queue| queue.name == name)
}

/// Who may do what in one trust domain.
#[derive(Debug, Clone)]
pub struct Policy {
    trust_domain: String,
    tenants: BTreeSet<TenantId>,
    /// What every tenant may do, with `{tenant}` in the place of its name.
    tenant_rules: Option<Rules>,
    /// Of all who are admitted and not revoked.
    rules: BTreeMap<SpiffeId, Rules>,
    revoked: Revoked,
}

#[derive(Debug, Clone, Default)]
struct Revoked {
    ids: BTreeSet<SpiffeId>,
    certificates: BTreeSet<Digest>,
}

impl Policy {
    /// The largest file.
    pub const MAX_BYTES: usize = 1 << 20;
    /// The most tenants.
    pub const MAX_TENANTS: usize = 4096;

    /// Reads a policy.
    ///
    /// # Errors
    /// Where it is wrong, and what is expected there.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        file::parse(text)
    }

    /// The policy that comes with hermesh: what its services need, and no tenant yet.
    pub fn default_text() -> &'static str {
        include_str!("default.toml")
    }

    /// The same policy with more tenants.
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

    /// The trust domain, to which all identities belong.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The tenants admitted.
    pub fn tenants(&self) -> impl ExactSizeIterator<Item = &TenantId> {
        self.tenants.iter()
    }

    /// All who may do anything: tenants by name, and nobody who is revoked.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = &SpiffeId> {
        self.rules.keys()
    }

    /// What an identity may do: nothing at all if it is unknown, of another trust domain, or revoked.
    pub fn rules(&self, id: &SpiffeId) -> Option<&Rules> {
        self.rules.get(id)
    }

    /// Whether an identity is withdrawn, whatever certificate it shows.
    pub fn is_revoked_id(&self, id: &SpiffeId) -> bool {
        self.revoked.ids.contains(id)
    }

    /// Whether a certificate, or its identity, is withdrawn.
    pub fn is_revoked(&self, peer: &Peer) -> bool {
        self.is_revoked_id(&peer.id) || self.revoked.certificates.contains(&peer.fingerprint)
    }

    /// Whether `id` may do something.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, id: &SpiffeId, verb: Verb, what: &str) -> Result<(), Denied> {
        match self.rules(id) {
            Some(rules) => rules.check(id, verb, what),
            None => Err(Denied::new(id, verb, what, self.why_unknown(id))),
        }
    }

    /// Whether `id` may list the stored subjects under `filter`.
    ///
    /// # Errors
    /// Why not.
    pub fn check_listing(&self, id: &SpiffeId, filter: &str) -> Result<(), Denied> {
        match self.rules(id) {
            Some(rules) => rules.check_listing(id, filter),
            None => Err(Denied::new(id, Verb::Read, filter, self.why_unknown(id))),
        }
    }

    /// How many identities and certificates are withdrawn.
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
