//! Tests of the policy.

mod bodies;
mod file;
mod filters;
mod nats;

use super::*;

fn default_with(tenants: &[&str]) -> Policy {
    let tenants = tenants.iter().map(|tenant| tenant.parse().expect("is a name"));
    let policy = Policy::parse(Policy::default_text()).expect("the default is good");
    policy.admitting(tenants).expect("has rules for tenants")
}

fn id(workload: &str) -> SpiffeId {
    SpiffeId::new("hermesh.local", workload).expect("is one")
}

/// A subject that matches a filter.
fn example(filter: &str) -> String {
    let filter = filter.strip_suffix(">").map_or(filter.to_owned(), |start| format!("{start}a.b"));
    filter.replace('*', "x")
}
