//! What all connections of one workload share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hermesh_mesh::{
    Clock, UnixMillis,
    bus::QueueOptions,
    identity::{Peer, SpiffeId},
    matches,
    policy::{Policy, Rules, Verb},
    seal::{Content, Sealed, Verifier},
    topology,
};
use tokio::{sync::watch, time::Instant};

use super::{Rejection, fresh::Live, rate::Rate};
use crate::{metrics::Metrics, source::Identity};

/// Warnings logged per period; further ones are only counted.
const COMPLAINTS: u32 = 50;
const COMPLAINING: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    count: u32,
}

/// Notices of changed policy or identity.
pub(super) struct Changes {
    policy: watch::Receiver<Arc<Policy>>,
    identity: watch::Receiver<Arc<Identity>>,
}

impl Changes {
    /// Waits for a change after the last one that was waited for.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            () = change(&mut self.policy) => {}
            () = change(&mut self.identity) => {}
        }
    }
}

async fn change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        // The senders are gone, so there will be no change.
        std::future::pending::<()>().await;
    }
}

/// The state by which connections are judged. Policy and identity may change at any time; each batch of
/// messages is judged by one view.
pub struct Gate {
    own: SpiffeId,
    inbox: String,
    queues: Vec<QueueOptions>,
    policy: watch::Receiver<Arc<Policy>>,
    identity: watch::Receiver<Arc<Identity>>,
    verifier: Mutex<Arc<Verifier>>,
    live: Mutex<Live>,
    complaints: Mutex<Complaints>,
    pub(super) rate: Rate,
    pub(super) metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// Policy and identity at one moment.
pub(super) struct View {
    pub(super) policy: Arc<Policy>,
    pub(super) identity: Arc<Identity>,
    pub(super) now: UnixMillis,
    verifier: Arc<Verifier>,
}

impl View {
    /// The rules for the workload itself.
    pub(super) fn rules(&self) -> Result<&Rules, Rejection> {
        let peer = self.identity.credentials.peer();
        if self.policy.is_revoked(peer) {
            return Err(Rejection::Revoked);
        }
        if peer.not_after < self.now {
            return Err(Rejection::Expired);
        }
        self.policy.rules(&peer.id).ok_or(Rejection::Denied)
    }

    /// Verifies a message's signature, and that its signer `may` do this.
    pub(super) fn sealed(
        &self,
        content: &Content<'_>,
        may: impl FnOnce(&Peer, &Rules) -> bool,
    ) -> Result<Sealed, Rejection> {
        let sealed = self.verifier.verify(content)?;
        if self.policy.is_revoked(&sealed.peer) {
            return Err(Rejection::Revoked);
        }
        match self.policy.rules(&sealed.peer.id) {
            Some(rules) if may(&sealed.peer, rules) => Ok(sealed),
            _ => Err(Rejection::Sealer),
        }
    }

    /// Verifies a message's signature, and that its signer may publish to this subject.
    pub(super) fn published(
        &self,
        content: &Content<'_>,
        subject: &str,
    ) -> Result<Sealed, Rejection> {
        self.sealed(content, |_, rules| rules.allows(Verb::Publish, subject))
    }
}

impl Gate {
    /// The gate of the workload that the identity names. The identity must keep that name.
    pub fn new(
        policy: watch::Receiver<Arc<Policy>>,
        identity: watch::Receiver<Arc<Identity>>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let current = identity.borrow().clone();
        let own = current.credentials.id().clone();
        let verifier = Mutex::new(Arc::new(Verifier::new(current.trust.clone())));
        Self {
            inbox: own.inbox(),
            own,
            queues: topology::queues(),
            policy,
            identity,
            verifier,
            live: Mutex::default(),
            complaints: Mutex::default(),
            rate: Rate::new(),
            metrics,
            clock,
        }
    }

    /// The workload.
    pub fn own(&self) -> &SpiffeId {
        &self.own
    }

    /// Whether the workload may send and receive at all.
    ///
    /// # Errors
    /// The reason why not.
    pub fn open(&self) -> Result<(), Rejection> {
        self.view().rules().map(drop)
    }

    /// How many connections the workload may have. At least one, over which it receives the reason if it
    /// may have none.
    pub(super) fn connections(&self) -> usize {
        let policy = self.policy.borrow();
        let connections = policy.rules(&self.own).map_or(1, |rules| rules.limits().connections);
        usize::try_from(connections).unwrap_or(usize::MAX)
    }

    pub(super) fn view(&self) -> View {
        let (policy, identity) = (self.policy.borrow().clone(), self.identity.borrow().clone());
        let mut verifier = lock(&self.verifier);
        // The roots changed: forget the certificates that were verified under the old ones.
        if verifier.trust().roots() != identity.trust.roots() {
            *verifier = Arc::new(Verifier::new(identity.trust.clone()));
        }
        let verifier = verifier.clone();
        View { policy, identity, now: self.clock.now(), verifier }
    }

    /// The changes from now on.
    pub(super) fn changes(&self) -> Changes {
        Changes { policy: self.policy.clone(), identity: self.identity.clone() }
    }

    /// Whether a rejection may be logged as a warning: a flood of rejections must not fill the disk.
    pub(super) fn complains(&self) -> bool {
        let mut complaints = lock(&self.complaints);
        let now = Instant::now();
        if complaints.since.is_none_or(|since| since + COMPLAINING <= now) {
            *complaints = Complaints { since: Some(now), count: 0 };
        }
        complaints.count += 1;
        complaints.count <= COMPLAINTS
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// The queue that stores messages of this subject.
    pub(super) fn queue_of(&self, subject: &str) -> Option<&QueueOptions> {
        self.queues.iter().find(|queue| matches(&queue.filter, subject))
    }

    /// Whether a subject or filter lies in the workload's own inbox.
    pub(super) fn is_own_inbox(&self, subject: &str) -> bool {
        let rest = subject.strip_prefix(&*self.inbox);
        rest.and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| !rest.is_empty())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
