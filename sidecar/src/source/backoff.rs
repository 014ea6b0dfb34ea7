//! How long to wait before trying again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Doubles the wait after each failure, less a random part of up to half, so that many clients do not
/// return together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Records a failure.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Records a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits as long as the failures require; returns at once if there were none.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(self.delay(rand::random_range(0.0..=1.0))).await;
    }

    fn delay(&self, chance: f64) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else { return Duration::ZERO };
        let delay = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
        delay.mul_f64(1.0 - chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay(0.0), Duration::ZERO);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoff.failed();
            let expected = Duration::from_secs(expected);
            assert_eq!((backoff.delay(1.0), backoff.delay(0.0)), (expected / 2, expected));
        }
        backoff.failures = u32::MAX;
        backoff.failed();
        assert_eq!(backoff.delay(0.0), LONGEST);
        backoff.reset();
        assert_eq!(backoff.delay(0.0), Duration::ZERO);
    }
}
