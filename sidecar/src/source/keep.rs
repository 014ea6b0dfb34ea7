//! What all sources have in common: the last good identity stays until there is a better one.

use std::{collections::HashSet, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

use super::{Handle, Health, Identity, SourceError};

/// One kind of source.
pub(super) trait Kind: Send + 'static {
    /// Waits until there is something to tell: an identity, which may be the current one, or why there
    /// is none. Paces itself.
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

/// A workload never becomes another one.
fn same(next: Identity, current: &Identity) -> Result<Identity, SourceError> {
    if next.id() == current.id() {
        return Ok(next);
    }
    Err(SourceError::Changed { got: next.id().clone(), expected: current.id().clone() })
}

/// Distinct errors remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 32;

/// What was logged, so that a state that lasts is logged once.
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
            tracing::warn!(error, "no new certificate; the one before, if there is one, stays");
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
