//! Time of an inference by operator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// An operator whose time is measured.
#[derive(Clone, Copy)]
pub(crate) enum Operator {
    Linear,
    Keyswitch,
    Bootstrap,
    Pack,
}

const NAMES: [&str; 4] = ["linear", "keyswitch", "bootstrap", "pack"];

/// Seconds of work and number of values by operator, summed over threads. Can be shared between threads.
#[derive(Debug, Default)]
pub struct Timings {
    nanoseconds: [AtomicU64; 4],
    calls: [AtomicU64; 4],
}

impl Timings {
    /// `(operator, thread-seconds, values)` for each operator.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64, u64)> + '_ {
        NAMES.iter().enumerate().map(|(i, &name)| {
            (
                name,
                self.nanoseconds[i].load(Ordering::Relaxed) as f64 * 1e-9,
                self.calls[i].load(Ordering::Relaxed),
            )
        })
    }

    /// Runs `work`, which processes `values` values, and adds its time.
    pub(crate) fn count<T>(
        &self,
        operator: Operator,
        values: usize,
        work: impl FnOnce() -> T,
    ) -> T {
        let start = Instant::now();
        let result = work();
        let i = operator as usize;
        self.nanoseconds[i].fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.calls[i].fetch_add(values as u64, Ordering::Relaxed);
        result
    }
}
