//! Ranges, and what else has to hold.

use std::fmt;

use toml::{Table, Value};

use super::Config;

/// The range of a number.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The option, as `section.key`.
    pub key: &'static str,
    /// The least it may be.
    pub min: f64,
    /// The most it may be.
    pub max: f64,
    /// What is counted.
    pub unit: &'static str,
}

impl Range {
    /// The range of one number.
    pub const fn new(key: &'static str, min: f64, max: f64, unit: &'static str) -> Self {
        Self { key, min, max, unit }
    }

    /// The size of an object, or of a cache of them.
    pub const fn bytes(key: &'static str) -> Self {
        Self::new(key, 1024.0, 1_099_511_627_776.0, "bytes")
    }

    /// How much is done, or waits, at the same time.
    pub const fn count(key: &'static str, unit: &'static str) -> Self {
        Self::new(key, 1.0, 4096.0, unit)
    }

    /// How many things are kept.
    pub const fn kept(key: &'static str, unit: &'static str) -> Self {
        Self::new(key, 1.0, 10_000_000.0, unit)
    }

    /// Between two heartbeats: a third of the time after which a message goes to another, at most.
    pub const fn heartbeat(key: &'static str) -> Self {
        Self::new(key, 0.1, 5.0, "seconds")
    }
}

/// The ranges that all programs have in common.
const COMMON: [Range; 4] = [
    Range::new("drain_seconds", 0.0, 3600.0, "seconds"),
    Range::new("nats.replicas", 1.0, 5.0, "servers"),
    Range::new("nats.request_timeout_seconds", 0.1, 300.0, "seconds"),
    Range::new("nats.publish_patience_seconds", 0.0, 3600.0, "seconds"),
];

/// A value that is well formed but not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option, as `section.key`.
    pub key: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub got: String,
}

/// All that is wrong with a configuration, of which `table` is the written form.
pub(super) fn problems<O>(
    config: &Config<O>,
    table: &Table,
    ranges: &[Range],
    signs: bool,
) -> Vec<Problem> {
    let mut problems = Problems::default();
    for range in COMMON.iter().chain(ranges) {
        if let Some(number) = number(table, range.key) {
            problems.require(range.key, (range.min..=range.max).contains(&number), number, || {
                format!("{} to {} {}", range.min, range.max, range.unit)
            });
        }
    }
    problems.common(config, signs);
    problems.0
}

fn number(table: &Table, key: &str) -> Option<f64> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    match parts.try_fold(first, |value, part| value.get(part))? {
        // Exact up to 2⁵³, and far out of every range beyond.
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn require(
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

    fn common<O>(&mut self, config: &Config<O>, signs: bool) {
        let Config { identity, nats, http, otlp, .. } = config;
        match identity {
            None => self.require("identity", !signs, "none", || "the path of a file".into()),
            Some(path) => self.require("identity", signs, path.display(), || {
                "none, for only aggregation signs".into()
            }),
        }
        // A password here would be shown by whatever shows the configuration.
        let known = nats.url.split(',').all(|server| is_address(server.trim(), "nats://"));
        self.require("nats.url", known, hidden(&nats.url), || {
            "nats://host:port, or several separated by commas, without user and password".into()
        });
        let name = nats.name.as_deref().map_or(1, str::len);
        self.require("nats.name", (1..=128).contains(&name), name, || "1 to 128 bytes".into());
        let local = http.listen.ip().is_loopback();
        self.require("http.listen", local || http.allow_remote, http.listen, || {
            "a loopback address, since nobody is authenticated there; \
             or http.allow_remote = true"
                .into()
        });
        if let Some(endpoint) = &otlp.endpoint {
            self.require(
                "otlp.endpoint",
                is_address(endpoint, "http://"),
                hidden(endpoint),
                || "http://host:port, without user and password".into(),
            );
        }
    }
}

fn is_address(url: &str, scheme: &str) -> bool {
    url.strip_prefix(scheme).is_some_and(|rest| {
        let printable = rest.len() <= 1024 && rest.bytes().all(|byte| byte.is_ascii_graphic());
        printable && !rest.contains('@') && !rest.is_empty() && !rest.starts_with(['/', ':'])
    })
}

/// A URL without what may be a password.
fn hidden(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}
