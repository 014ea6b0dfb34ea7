//! What all sources share: the last valid identity stays until there is a newer one.

use std::{collections::HashSet, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

use super::{Handle, Health, Identity, SourceError};

/// A kind of source.
pub(super) trait Kind: Send + 'static {
    /// Waits for the next event: an identity, which may be the current one, or an error. It sets its own
    /// pace.
    fn next(
        &mut self,
        current: Option<&Identity>,
    ) -> impl Future<Output = Result<Identity, SourceError>> + Send;
}

/// Waits for the first identity, then keeps it fresh.
pub(super) async fn keep<K: Kind>(mut kind: K) -> Handle {
    let mut told = Told::default();
    let first = loop {
        match kind.next(None).await {
            Ok(identity) => break Arc::new(identity),
            Err(error) => told.failure(&error.to_string()),
        }
    };
    told.taken(&first);
    let (identities, identity) = watch::channel(first.clone());
    let (healths, health) = watch::channel(told.health(&first));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut current = first;
        loop {
            match kind.next(Some(&current)).await.and_then(|next| same(next, &current)) {
                Ok(next) => {
                    told.well();
                    if !next.is(&current) {
                        current = Arc::new(next);
                        told.taken(&current);
                        identities.send_replace(current.clone());
                    }
                }
                Err(error) => told.failure(&error.to_string()),
            }
            let now = told.health(&current);
            healths.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    Handle { identity, health, _task: Arc::new(task) }
}

/// Refuses a new identity that names another workload.
fn same(next: Identity, current: &Identity) -> Result<Identity, SourceError> {
    if next.id() == current.id() {
        return Ok(next);
    }
    Err(SourceError::Changed { got: next.id().clone(), expected: current.id().clone() })
}

/// Distinct errors remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 32;

/// Errors that were logged, so that a lasting state is logged once.
#[derive(Default)]
struct Told {
    errors: HashSet<String>,
    last: Option<String>,
    taken: u64,
    failures: u64,
}

impl Told {
    fn failure(&mut self, error: &str) {
        self.failures += 1;
        self.last = Some(error.to_owned());
        if self.errors.len() >= REMEMBERED {
            self.errors.clear();
        }
        if self.errors.insert(error.to_owned()) {
            tracing::warn!(error, "no new certificate; the present one, if any, stays");
        }
    }

    fn well(&mut self) {
        self.errors.clear();
        self.last = None;
    }

    fn taken(&mut self, identity: &Identity) {
        self.well();
        self.taken += 1;
        let peer = identity.credentials.peer();
        let (id, fingerprint, expires) = (&peer.id, peer.fingerprint, peer.not_after);
        tracing::info!(%id, %fingerprint, %expires, "a new certificate");
    }

    fn health(&self, current: &Identity) -> Health {
        Health {
            expires: current.expires(),
            taken: self.taken,
            failures: self.failures,
            error: self.last.clone(),
        }
    }
}
