//! What Linux says about this process and this machine; `None` elsewhere.

/// The most memory this process held at once, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM").and_then(kibibytes)
}

/// Makes [`peak_memory`] start again from what is held now. Whether that worked.
pub(crate) fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
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
    fn reads_fields_of_proc() {
        let status = "Name:\tbench\nVmPeak:\t  900 kB\nVmHWM:\t   120 kB\n";
        assert_eq!(field(status, "VmHWM").and_then(kibibytes), Some(120 * 1024));
        assert_eq!(field(status, "VmSwap"), None);
        assert_eq!(kibibytes("120"), None);
    }
}
