//! Limits how much a workload may send, with two token buckets. A workload that exceeds a limit is read
//! more slowly and loses nothing.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use tokio::time::Instant;

/// The burst allowance: how long an idle workload may then send at any speed.
const BURST: Duration = Duration::from_secs(1);

/// The rate of all connections of a workload together.
#[derive(Debug)]
pub(super) struct Rate {
    /// The times until which messages and bytes sent so far are paid for.
    paid: Mutex<[Instant; 2]>,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { paid: Mutex::new([Instant::now(); 2]) }
    }

    /// Records what was sent, and returns how long to wait before reading more.
    pub(super) fn sent(&self, sent: [u64; 2], per_second: [u64; 2], now: Instant) -> Duration {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = Duration::ZERO;
        for ((paid, sent), per_second) in paid.iter_mut().zip(sent).zip(per_second) {
            let cost = Duration::from_secs_f64(sent as f64 / per_second.max(1) as f64);
            *paid = (*paid).max(now) + cost;
            wait = wait.max(paid.saturating_duration_since(now + BURST));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_takes_its_time() {
        let (rate, start) = (Rate::new(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(rate.sent([100, 1], [100, 1000], start), Duration::ZERO);
        assert_eq!(rate.sent([200, 1], [100, 1000], start), 2 * second);
        assert_eq!(rate.sent([1, 5000], [100, 1000], start + 4 * second), 4 * second);
        assert_eq!(rate.sent([1, 1], [100, 1000], start + 60 * second), Duration::ZERO);
    }
}
