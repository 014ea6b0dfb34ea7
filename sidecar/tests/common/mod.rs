//! A root, certificates in PEM, and waiting with a time limit.

#![allow(dead_code, reason = "each test uses some of it")]

use std::{sync::Arc, time::Duration};

use hermesh_mesh::{
    TokioClock, UnixMillis,
    identity::SpiffeId,
    issuer::{Authority, files, grant},
};
use hermesh_sidecar::source::{Handle, Identity};
use tokio::time::timeout;

pub(crate) const DOMAIN: &str = "hermesh.local";
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn clock() -> Arc<TokioClock> {
    Arc::new(TokioClock::starting_at(NOW))
}

pub(crate) fn id(workload: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, workload).expect("a name")
}

pub(crate) fn root() -> Authority {
    let before = UnixMillis(NOW.0 - 24 * 3_600_000);
    Authority::create(DOMAIN, before, NOW.plus(48 * HOUR)).expect("creates")
}

/// A key and its certificate.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) chain: String,
}

pub(crate) fn pair(root: &Authority, workload: &str, from: UnixMillis, lifetime: Duration) -> Pair {
    let grant = grant(root, id(workload), Vec::new(), from, lifetime).expect("grants");
    let (key, chain) = root.key_and_chain(&grant).expect("issues");
    Pair { key: key.to_string(), chain: files::to_pem(chain.certificates()) }
}

/// Waits for the next identity.
pub(crate) async fn next(handle: &Handle, before: &Identity) -> Arc<Identity> {
    let mut watch = handle.watch();
    let other = |identity: &Arc<Identity>| !same(identity, before);
    let changed = timeout(HOUR, watch.wait_for(other)).await;
    changed.expect("comes").expect("the source lives").clone()
}

/// Waits until the source has failed once more.
pub(crate) async fn failure(handle: &Handle) -> String {
    let mut health = handle.watch_health();
    let before = health.borrow().failures;
    let failed = timeout(HOUR, health.wait_for(|health| health.failures > before)).await;
    let failed = failed.expect("comes").expect("the source lives").clone();
    failed.error.expect("an error")
}

pub(crate) fn same(one: &Identity, other: &Identity) -> bool {
    one.credentials.peer() == other.credentials.peer()
}
