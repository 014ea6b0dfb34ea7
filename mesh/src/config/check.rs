//! Checks of configuration values: ranges and other conditions.

use std::fmt;

use toml::{Table, Value};

/// The permitted range of a number.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The option, as `section.key`.
    pub key: &'static str,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The unit.
    pub unit: &'static str,
}

impl Range {
    /// A range with these limits.
    pub const fn new(key: &'static str, min: f64, max: f64, unit: &'static str) -> Self {
        Self { key, min, max, unit }
    }

    /// The size of an object, or of a cache of them.
    pub const fn bytes(key: &'static str) -> Self {
        Self::new(key, 1024.0, 1_099_511_627_776.0, "bytes")
    }

    /// Limit of concurrent work or of waiting items.
    pub const fn count(key: &'static str, unit: &'static str) -> Self {
        Self::new(key, 1.0, 4096.0, unit)
    }

    /// Limit of stored items.
    pub const fn kept(key: &'static str, unit: &'static str) -> Self {
        Self::new(key, 1.0, 10_000_000.0, unit)
    }

    /// Interval between heartbeats: at most a third of the time after which a message is delivered
    /// again.
    pub const fn heartbeat(key: &'static str) -> Self {
        Self::new(key, 0.1, 5.0, "seconds")
    }
}

/// A value that is well formed but not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option, as `section.key`.
    pub key: &'static str,
    /// The required value.
    pub expected: String,
    /// The actual value.
    pub got: String,
}

fn number(table: &Table, key: &str) -> Option<f64> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    match parts.try_fold(first, |value, part| value.get(part))? {
        // Exact up to 2⁵³; larger numbers are out of every range anyway.
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// All problems of a configuration.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem with the option `key` unless `holds` is true.
    pub fn require(
        &mut self,
        key: &'static str,
        holds: bool,
        got: impl fmt::Display,
        expected: impl FnOnce() -> String,
    ) {
        if !holds {
            self.0.push(Problem { key, expected: expected(), got: got.to_string() });
        }
    }

    /// Compares the numbers in `table`, the configuration as TOML, with their ranges.
    pub fn ranges<'a>(&mut self, table: &Table, ranges: impl IntoIterator<Item = &'a Range>) {
        for range in ranges {
            if let Some(number) = number(table, range.key) {
                self.require(range.key, (range.min..=range.max).contains(&number), number, || {
                    format!("{} to {} {}", range.min, range.max, range.unit)
                });
            }
        }
    }

    /// The problems added so far.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

/// Whether `url` is `{scheme}host:port`, without user, password and blanks.
pub fn is_address(url: &str, scheme: &str) -> bool {
    url.strip_prefix(scheme).is_some_and(|rest| {
        let printable = rest.len() <= 1024 && rest.bytes().all(|byte| byte.is_ascii_graphic());
        printable && !rest.contains('@') && !rest.is_empty() && !rest.starts_with(['/', ':'])
    })
}

/// A URL without its possible password.
pub fn hidden(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}
