//! Records the tenants' recent usage, which decides the task priority of a job. The state may be lost.
//!
//! The rule:
//!
//! - Each tenant's usage is the work of its jobs begun by this replica, in lookups, halved every 30 seconds.
//! - A job gets [`Lane::Express`] if its tenant has used less than the mean of the recently active tenants,
//!   itself included; otherwise [`Lane::Normal`]. So a tenant that sends many jobs waits behind the others
//!   until they have had as much; a tenant alone is in `Normal`.
//! - [`Priority::Low`] gets [`Lane::Bulk`], after everything else.
//! - [`Priority::High`] is treated like `Normal` here: a faster lane for it would slow down other tenants. It
//!   only has reserved quota before its tenant's other jobs; see `Options::max_open_jobs`.

use std::{collections::HashMap, time::Duration};

use hermesh_mesh::{
    TenantId, UnixMillis,
    wire::{Lane, Priority},
};

const HALF_LIFE: Duration = Duration::from_secs(30);
/// Tenants remembered; beyond that, the least active is forgotten.
const TENANTS: usize = 1024;
/// Usage that has decayed below this counts as none.
const NOTHING: f64 = 0.5;

/// The usage of one tenant at one moment.
#[derive(Debug, Clone, Copy)]
struct Usage {
    lookups: f64,
    jobs: f64,
    at: UnixMillis,
}

impl Usage {
    fn decayed(self, now: UnixMillis) -> Self {
        let half_lives = self.at.until(now).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let factor = 0.5_f64.powf(half_lives);
        Self { lookups: self.lookups * factor, jobs: self.jobs * factor, at: now }
    }
}

/// The recently active tenants.
#[derive(Debug, Default)]
pub(crate) struct Shares(HashMap<TenantId, Usage>);

impl Shares {
    /// Counts a job that is begun.
    pub(crate) fn charge(&mut self, tenant: &TenantId, lookups: u64, now: UnixMillis) {
        self.decay(now);
        if self.0.len() >= TENANTS && !self.0.contains_key(tenant) {
            let least = self.0.iter().min_by(|a, b| a.1.lookups.total_cmp(&b.1.lookups));
            if let Some(least) = least.map(|(tenant, _)| tenant.clone()) {
                self.0.remove(&least);
            }
        }
        let fresh = Usage { lookups: 0.0, jobs: 0.0, at: now };
        let usage = self.0.entry(tenant.clone()).or_insert(fresh);
        // Every job costs something.
        usage.lookups += lookups.max(1) as f64;
        usage.jobs += 1.0;
    }

    /// The task priority of a tenant's next job.
    pub(crate) fn lane(&mut self, tenant: &TenantId, priority: Priority, now: UnixMillis) -> Lane {
        if priority == Priority::Low {
            return Lane::Bulk;
        }
        self.decay(now);
        let own = self.0.get(tenant).map_or(0.0, |usage| usage.lookups);
        let active = self.0.len() + usize::from(!self.0.contains_key(tenant));
        let sum: f64 = self.0.values().map(|usage| usage.lookups).sum();
        if own < sum / active as f64 { Lane::Express } else { Lane::Normal }
    }

    /// The recent mean time between two jobs of this tenant. In the long run as many jobs end as begin, so
    /// a place frees at this rate.
    pub(crate) fn pace(&self, tenant: &TenantId, now: UnixMillis) -> Option<Duration> {
        let jobs = self.0.get(tenant)?.decayed(now).jobs;
        let per_second = jobs * std::f64::consts::LN_2 / HALF_LIFE.as_secs_f64();
        Duration::try_from_secs_f64(1.0 / per_second).ok()
    }

    fn decay(&mut self, now: UnixMillis) {
        self.0.values_mut().for_each(|usage| *usage = usage.decayed(now));
        self.0.retain(|_, usage| usage.lookups >= NOTHING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().expect("a valid name")
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[test]
    fn who_has_had_less_than_the_mean_goes_first_until_it_has_had_as_much() {
        let (acme, umbra) = (tenant("acme"), tenant("umbra"));
        let mut shares = Shares::default();
        let normal = Priority::Normal;
        assert_eq!(shares.lane(&acme, normal, at(0)), Lane::Normal);
        shares.charge(&acme, 1000, at(0));
        assert_eq!(shares.lane(&acme, normal, at(0)), Lane::Normal);
        assert_eq!(shares.lane(&umbra, normal, at(0)), Lane::Express);
        assert_eq!(shares.lane(&umbra, Priority::High, at(0)), Lane::Express);
        assert_eq!(shares.lane(&acme, Priority::High, at(0)), Lane::Normal);
        assert_eq!(shares.lane(&umbra, Priority::Low, at(0)), Lane::Bulk);
        shares.charge(&umbra, 1000, at(0));
        assert_eq!(shares.lane(&umbra, normal, at(0)), Lane::Normal);
        shares.charge(&umbra, 1, at(0));
        assert_eq!(shares.lane(&acme, normal, at(0)), Lane::Express);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let (acme, umbra) = (tenant("acme"), tenant("umbra"));
        let mut shares = Shares::default();
        shares.charge(&acme, 1 << 20, at(0));
        assert_eq!(shares.lane(&umbra, Priority::Normal, at(500)), Lane::Express);
        assert_eq!(shares.lane(&umbra, Priority::Normal, at(700)), Lane::Normal);
        assert!(shares.0.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_least_active_is_forgotten() {
        let mut shares = Shares::default();
        for number in 0..TENANTS as u64 + 10 {
            shares.charge(&tenant(&format!("t{number}")), 10 + number, at(0));
        }
        assert_eq!(shares.0.len(), TENANTS);
        assert!(!shares.0.contains_key(&tenant("t0")));
        assert!(shares.0.contains_key(&tenant("t11")));
    }

    #[test]
    fn the_pace_is_that_of_late() {
        let acme = tenant("acme");
        let mut shares = Shares::default();
        assert_eq!(shares.pace(&acme, at(0)), None);
        (0..300).for_each(|second| shares.charge(&acme, 100, at(second)));
        let pace = shares.pace(&acme, at(300)).expect("known").as_secs_f64();
        assert!((0.9..1.1).contains(&pace), "{pace}");
    }
}
