//! How much a workload may send: two token buckets. Who sends more is read more slowly, and loses nothing.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use tokio::time::Instant;

/// For how long a workload that was quiet may send at any speed.
const BURST: Duration = Duration::from_secs(1);

/// What all connections of a workload send together.
#[derive(Debug)]
pub(super) struct Rate {
    /// Until when what was sent is paid for: messages and bytes.
    paid: Mutex<[Instant; 2]>,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { paid: Mutex::new([Instant::now(); 2]) }
    }

    /// Notes what was sent, and says how long to wait before more is read.
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
