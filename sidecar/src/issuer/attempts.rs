//! Limits how often an address may try join tokens.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use hermesh_mesh::UnixMillis;

/// The maximum number of wrong tokens from one address within [`WINDOW`].
pub(super) const LIMIT: u32 = 10;
/// Counted from the first wrong token.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 4096;

/// Counts wrong tokens by address. A token has 256 bits and cannot be guessed: the limit only keeps the log
/// and the disk quiet.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<IpAddr, (UnixMillis, u32)>);

impl Attempts {
    pub(super) fn allowed(&self, from: IpAddr, now: UnixMillis) -> bool {
        self.0
            .get(&network(from))
            .is_none_or(|(since, count)| *count < LIMIT || now >= since.plus(WINDOW))
    }

    pub(super) fn failed(&mut self, from: IpAddr, now: UnixMillis) {
        let from = network(from);
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&from) {
            self.0.clear();
        }
        let (since, count) = self.0.entry(from).or_insert((now, 0));
        if now >= since.plus(WINDOW) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }
}

/// Masks an IPv6 address to its /64: the owner of one address usually has all 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_guess_so_often_within_a_while() {
        let now = UnixMillis(1_800_000_000_000);
        let mut attempts = Attempts::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..LIMIT {
            assert!(attempts.allowed(address("::1:2"), now));
            attempts.failed(address("::1:2"), now);
        }
        assert!(!attempts.allowed(address("::1:2"), now));
        assert!(!attempts.allowed(address("::3:4"), now), "the same network");
        assert!(attempts.allowed(address("0:0:0:1::"), now));
        assert!(attempts.allowed(address("10.0.0.1"), now));
        assert!(attempts.allowed(address("::1:2"), now.plus(WINDOW)));
        attempts.failed(address("::1:2"), now.plus(WINDOW));
        assert!(attempts.allowed(address("::1:2"), now.plus(WINDOW)));
    }

    #[test]
    fn many_addresses_take_no_more_room() {
        let mut attempts = Attempts::default();
        for address in 0..3 * REMEMBERED as u32 {
            attempts.failed(IpAddr::V4(address.into()), UnixMillis(0));
        }
        assert!(attempts.0.len() <= REMEMBERED);
    }
}
