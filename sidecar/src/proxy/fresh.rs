//! Judges the age of messages, and recognises replays.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use hermesh_mesh::{
    UnixMillis,
    identity::SpiffeId,
    seal::{Nonce, Sealed},
};

use super::Rejection;

/// The allowed difference between clocks plus the travel time of a message that is not stored.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Messages remembered per signer, to recognise replays: about 250 requests a second.
const REMEMBERED: usize = 1 << 15;

/// Checks a stored message, which may be read as long as its queue keeps it. Repeats are allowed: the bus
/// delivers at least once.
pub(super) fn stored(
    sealed: UnixMillis,
    max_age: Option<Duration>,
    now: UnixMillis,
) -> Result<(), Rejection> {
    let early = sealed > now.plus(WINDOW);
    let late = max_age.is_some_and(|age| sealed.plus(age + WINDOW) < now);
    if early || late { Err(Rejection::Stale) } else { Ok(()) }
}

/// Checks messages that are not stored. They must be recent and must not repeat.
#[derive(Debug, Default)]
pub(super) struct Live(HashMap<SpiffeId, BTreeSet<(UnixMillis, Nonce)>>);

impl Live {
    /// Checks a reply by its time alone: a request accepts only one reply.
    pub(super) fn answer(sealed: UnixMillis, now: UnixMillis) -> Result<(), Rejection> {
        stored(sealed, Some(Duration::ZERO), now)
    }

    /// Checks a request and remembers it for as long as a replay would be accepted. Each signer has its own
    /// quota, so one that sends too many does not cause refusals of another's.
    pub(super) fn request(&mut self, sealed: &Sealed, now: UnixMillis) -> Result<(), Rejection> {
        Self::answer(sealed.time, now)?;
        let seen = self.0.entry(sealed.peer.id.clone()).or_default();
        while let Some((time, _)) = seen.first()
            && time.plus(WINDOW) < now
        {
            seen.pop_first();
        }
        let one = (sealed.time, sealed.nonce);
        if seen.contains(&one) {
            return Err(Rejection::Replayed);
        }
        if seen.len() >= REMEMBERED {
            return Err(Rejection::Overrun);
        }
        seen.insert(one);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hermesh_mesh::{Digest, identity::Peer};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis(NOW.0.saturating_add_signed(seconds * 1000))
    }

    fn sealed(workload: &str, time: UnixMillis, nonce: u128) -> Sealed {
        let id = SpiffeId::new("hermesh.local", workload).expect("a name");
        let fingerprint = Digest([0; 32]);
        let peer = Peer { id, fingerprint, not_before: NOW, not_after: NOW };
        Sealed { peer, time, nonce: nonce.to_be_bytes() }
    }

    #[test]
    fn a_request_comes_once() {
        let mut live = Live::default();
        let mut request = |time, nonce, now| live.request(&sealed("tenant/acme", time, nonce), now);
        assert_eq!(request(at(-10), 1, NOW), Ok(()));
        assert_eq!(request(at(-10), 1, NOW), Err(Rejection::Replayed));
        assert_eq!(request(at(-10), 2, NOW), Ok(()));
        // From the future, within the allowed difference: it must be remembered until its own time is over.
        assert_eq!(request(at(59), 3, NOW), Ok(()));
        assert_eq!(request(at(59), 3, at(118)), Err(Rejection::Replayed));
        assert_eq!(request(at(59), 3, at(120)), Err(Rejection::Stale));
        for late in [-61, 61] {
            assert_eq!(request(at(late), 4, NOW), Err(Rejection::Stale));
        }
    }

    #[test]
    fn memory_is_bounded_and_shared_fairly() {
        let mut live = Live::default();
        for number in 0..REMEMBERED as u128 {
            assert_eq!(live.request(&sealed("tenant/acme", NOW, number), NOW), Ok(()));
        }
        let one_more = sealed("tenant/acme", NOW, u128::MAX);
        assert_eq!(live.request(&one_more, NOW), Err(Rejection::Overrun));
        assert_eq!(live.request(&sealed("tenant/umbra", NOW, 1), NOW), Ok(()));
        let later = sealed("tenant/acme", at(121), u128::MAX);
        assert_eq!(live.request(&later, at(121)), Ok(()));
        assert_eq!(live.0[&later.peer.id].len(), 1);
    }

    #[test]
    fn what_is_stored_lasts_as_long_as_its_queue_keeps_it() {
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(stored(at(-3600), hour, NOW), Ok(()));
        assert_eq!(stored(at(-3661), hour, NOW), Err(Rejection::Stale));
        assert_eq!(stored(at(-1_000_000), None, NOW), Ok(()));
        assert_eq!(stored(at(61), None, NOW), Err(Rejection::Stale));
    }
}
