//! Statistics of measurements.

/// The quantile by nearest rank; the median of an even number is the mean of the middle two.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * sorted.len() as f64;
    let at = |rank: f64| {
        let index = (rank as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    };
    if q == 0.5 && rank.fract() == 0.0 {
        return (at(rank) + at(rank + 1.0)) / 2.0;
    }
    at(rank.ceil())
}

/// The largest resident memory of this process so far, in bytes, as counted by the kernel; `None` if the kernel does
/// not count it.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.95), 95.0);
        assert_eq!(quantile(&[7.0], 0.95), 7.0);
    }
}
