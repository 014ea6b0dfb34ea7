//! Memory and processor time from Linux's `/proc`; `None` on other systems.

/// Peak memory of this process, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM").and_then(kibibytes)
}

/// Resets [`peak_memory`] to the current memory. Returns true on success.
pub(crate) fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Processor time that a process has used, user and system, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> Option<f64> {
    cpu_ticks(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Fields 14 and 15 of `/proc/<pid>/stat`. Field 2, in parentheses, may contain spaces. A tick is 1/100 s on every
/// Linux.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The processor's name.
pub(crate) fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let avx512 = field(&text, "flags")?.split(' ').any(|flag| flag == "avx512f");
    let with = if avx512 { " with AVX-512" } else { "" };
    Some(format!("{}{with}", field(&text, "model name")?))
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn kibibytes(value: &str) -> Option<u64> {
    value.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_processor_time() {
        let stat = "42 (a (b) c) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(3.0));
        assert!(cpu_seconds(std::process::id()).is_some() || !cfg!(target_os = "linux"));
    }

    #[test]
    fn reads_fields_of_proc() {
        let status = "Name:\tbench\nVmPeak:\t  900 kB\nVmHWM:\t   120 kB\n";
        assert_eq!(field(status, "VmHWM").and_then(kibibytes), Some(120 * 1024));
        assert_eq!(field(status, "VmSwap"), None);
        assert_eq!(kibibytes("120"), None);
    }
}
