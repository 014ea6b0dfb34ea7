//! Formats quantities.

/// `20.2 MB`: powers of 1000.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    scaled(count as f64, 1000.0, &UNITS)
}

/// `13.2 ms`, `2.31 s`, `4 min 05 s`; takes seconds.
pub fn seconds(duration: f64) -> String {
    if !duration.is_finite() {
        return duration.to_string();
    }
    if duration < 0.0 {
        return format!("-{}", seconds(-duration));
    }
    if duration >= 119.5 {
        let whole = duration.round();
        let (hours, rest) = ((whole / 3600.0).floor(), whole % 3600.0);
        let (minutes, seconds) = ((rest / 60.0).floor(), rest % 60.0);
        return match hours > 0.0 {
            true => format!("{hours} h {minutes:02} min"),
            false => format!("{minutes} min {seconds:02} s"),
        };
    }
    // The bounds are where three digits round up to the next unit.
    match duration {
        d if d >= 0.9995 => format!("{} s", three_digits(d)),
        d if d >= 0.9995e-3 => format!("{} ms", three_digits(d * 1e3)),
        0.0 => "0 s".to_owned(),
        d => format!("{} µs", three_digits(d * 1e6)),
    }
}

/// `98.5 %`; takes a fraction.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value / base;
    let mut units = units.iter().peekable();
    while let Some(unit) = units.next() {
        if value < base * 0.9995 || units.peek().is_none() {
            return format!("{} {unit}", three_digits(value));
        }
        value /= base;
    }
    value.to_string()
}

/// Three significant digits, never fewer than the integer part has.
fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}
