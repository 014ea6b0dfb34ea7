//! Checks ranges and the other conditions on options.

use std::net::SocketAddr;

use hermesh_mesh::{
    config::{Problems, Range, hidden, is_address},
    identity::SpiffeId,
};
use toml::Table;

use super::{Config, Identity, Kind, TLS};

const RANGES: [Range; 4] = [
    Range::new("drain_seconds", 0.0, 3600.0, "seconds"),
    Range::new("upstream.connect_timeout_seconds", 0.1, 300.0, "seconds"),
    Range::new("http.answer_timeout_seconds", 0.1, 300.0, "seconds"),
    Range::count("http.max_connections", "connections"),
];

/// All problems of a configuration; `table` is its written form.
pub(super) fn problems(config: &Config, table: &Table) -> Problems {
    let mut problems = Problems::default();
    problems.ranges(table, &RANGES);
    let Config { identity, upstream, listen, http, health, .. } = config;
    identity_problems(identity, &mut problems);
    let known = upstream.servers.split(',').all(|server| is_server(server.trim(), TLS));
    problems.require("upstream.servers", known, hidden(&upstream.servers), || {
        "tls://host:port, or several separated by commas, without user and password".into()
    });
    problems.require(
        "upstream.identity",
        is_workload(&upstream.identity),
        &upstream.identity,
        || WORKLOAD.into(),
    );
    // These ports do not authenticate callers, so they must stay on loopback. No option changes that.
    let mut local = |key, address: SocketAddr| {
        problems.require(key, address.ip().is_loopback(), address, || {
            "a loopback address, because callers are not authenticated there".into()
        });
    };
    local("listen.address", listen.address);
    local("http.service", http.service);
    local("health.listen", health.listen);
    problems
}

const WORKLOAD: &str = "KIND/NAME, such as broker/nats, each of 1 to 64 of a-z, 0-9 and -";

/// Whether the name is valid; trust domains share the same rules for names.
fn is_workload(name: &str) -> bool {
    SpiffeId::new("domain", name).is_ok()
}

fn identity_problems(identity: &Identity, problems: &mut Problems) {
    let workload = identity.workload.as_deref();
    let known = workload.map_or(identity.kind != Kind::Issuer, is_workload);
    problems.require("identity.workload", known, workload.unwrap_or("none"), || WORKLOAD.into());
    let address = identity.address.as_deref();
    let known = match address {
        None => identity.kind != Kind::Issuer,
        Some(address) => is_server(address, "https://"),
    };
    problems.require("identity.address", known, hidden(address.unwrap_or("none")), || {
        "https://host:port of the issuer, without user and password".into()
    });
    if let Some(socket) = &identity.socket {
        let known = socket.starts_with("unix:") || socket.starts_with("tcp:");
        problems.require("identity.socket", known, socket, || {
            "the address of a SPIFFE Workload API, such as unix:///run/spire/agent.sock".into()
        });
    }
    problems.require(
        "identity.kind",
        identity.kind != Kind::WorkloadApi || cfg!(feature = "workload-api"),
        "workload-api",
        || "files or issuer: this sidecar was built without the feature workload-api".into(),
    );
}

/// Whether the URL is `{scheme}host:port`.
fn is_server(url: &str, scheme: &str) -> bool {
    let named = |rest: &str| {
        let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        port.is_some_and(|port| port > 0) && !rest.contains('/')
    };
    is_address(url, scheme) && url.strip_prefix(scheme).is_some_and(named)
}
