//! Checks ranges and the other conditions on options.

use hermesh_mesh::{
    bus::nats::is_inbox,
    config::{Problems, Range, hidden, is_address},
};
use toml::Table;

use super::Config;

/// Ranges of options that all programs have.
const COMMON: [Range; 4] = [
    Range::new("drain_seconds", 0.0, 3600.0, "seconds"),
    Range::new("nats.replicas", 1.0, 5.0, "servers"),
    Range::new("nats.request_timeout_seconds", 0.1, 300.0, "seconds"),
    Range::new("nats.publish_patience_seconds", 0.0, 3600.0, "seconds"),
];

/// All problems of a configuration; `table` is its written form.
pub(super) fn problems<O>(
    config: &Config<O>,
    table: &Table,
    ranges: &[Range],
    signs: bool,
) -> Problems {
    let mut problems = Problems::default();
    problems.ranges(table, COMMON.iter().chain(ranges));
    let Config { identity, nats, http, otlp, .. } = config;
    match identity {
        None => problems.require("identity", !signs, "none", || "the path of a file".into()),
        Some(path) => problems.require("identity", signs, path.display(), || {
            "none, because only aggregation signs".into()
        }),
    }
    // A password here would appear wherever the configuration is printed.
    let known = nats.url.split(',').all(|server| is_address(server.trim(), "nats://"));
    problems.require("nats.url", known, hidden(&nats.url), || {
        "nats://host:port, or several separated by commas, without user and password".into()
    });
    let name = nats.name.as_deref().map_or(1, str::len);
    problems.require("nats.name", (1..=128).contains(&name), name, || "1 to 128 bytes".into());
    let inbox = nats.inbox.as_deref().unwrap_or("_INBOX.service");
    problems.require("nats.inbox", inbox.len() <= 128 && is_inbox(inbox), inbox, || {
        "_INBOX. and tokens separated by dots, at most 128 bytes".into()
    });
    let local = http.listen.ip().is_loopback();
    problems.require("http.listen", local || http.allow_remote, http.listen, || {
        "a loopback address, because callers are not authenticated there; \
         or http.allow_remote = true"
            .into()
    });
    if let Some(endpoint) = &otlp.endpoint {
        problems.require(
            "otlp.endpoint",
            is_address(endpoint, "http://"),
            hidden(endpoint),
            || "http://host:port, without user and password".into(),
        );
    }
    problems
}
