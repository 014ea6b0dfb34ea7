//! The configuration of nats-server.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{Permissions, permissions};
use crate::policy::Policy;

/// What the policy does not say about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// On which port of the loopback address it shows its state; nobody is authenticated there.
    pub monitoring: Option<u16>,
    /// Its certificate and those between it and a root, in PEM.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of the trust domain.
    pub roots: PathBuf,
    /// Where its streams are.
    pub store: PathBuf,
    /// Where it logs, if not to standard error.
    pub log: Option<PathBuf>,
    /// The largest message, in bytes.
    pub max_payload: usize,
    /// Whether TLS comes before everything else. For nats-server 2.10 and later.
    pub handshake_first: bool,
    /// Whether a message is on the disk before it is acknowledged. For nats-server 2.10 and later; 2.9
    /// writes to the disk every two minutes.
    pub sync_always: bool,
}

/// Those of TLS 1.3. Release 2.9 has no option for the lowest version, but with none of TLS 1.2 in the
/// list no handshake of that version succeeds.
const CIPHER_SUITES: &str =
    r#"["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]"#;

/// A complete configuration of nats-server 2.9 or later: mutual TLS 1.3, a user for each identity that
/// has business on the bus, recognised by the SPIFFE ID in its certificate, and nothing allowed that the
/// policy does not say. One thing no permission can say: where the answer to a publish goes. JetStream answers
/// with rights of its own, so only sidecars keep a workload from having it answer elsewhere. (Accounts for
/// tenants would, but release 2.9 loses what they import whenever it reads its configuration again.)
pub fn render(policy: &Policy, options: &ServerOptions) -> String {
    let ServerOptions { listen, certificate, key, roots, store, max_payload, .. } = options;
    let mut text = format!(
        "# Made by hermesh from its policy; changes belong there.\n\
         listen: \"{listen}\"\n\
         max_payload: {max_payload}\n\
         # Of one connection; a sidecar has no more.\n\
         max_subscriptions: 16384\n"
    );
    if let Some(port) = options.monitoring {
        text += &format!("http: \"{}:{port}\"\n", Ipv4Addr::LOCALHOST);
    }
    if let Some(log) = &options.log {
        text += &format!("log_file: {log:?}\nlogfile_size_limit: 16777216\n");
    }
    let first = if options.handshake_first { "  handshake_first: true\n" } else { "" };
    text += &format!(
        "tls {{\n  \
           cert_file: {certificate:?}\n  \
           key_file: {key:?}\n  \
           ca_file: {roots:?}\n  \
           # A certificate is required, and the SPIFFE ID in it is the user.\n  \
           verify_and_map: true\n  \
           # None of TLS 1.2: so that is not spoken.\n  \
           cipher_suites: {CIPHER_SUITES}\n  \
           timeout: 5\n{first}\
         }}\n"
    );
    let sync = if options.sync_always { "  sync_interval: always\n" } else { "" };
    // Streams have bounds of their own, whose sum may well be more than the disk holds.
    text += &format!(
        "jetstream {{\n  store_dir: {store:?}\n  max_file_store: 1099511627776\n{sync}}}\n"
    );
    text += "authorization {\n  users = [\n";
    for id in policy.identities() {
        let Some(rules) = policy.rules(id).filter(|rules| rules.on_the_bus()) else {
            continue;
        };
        text += &user(id.as_str(), &permissions(rules, id));
    }
    text + "  ]\n}\n"
}

fn user(name: &str, permissions: &Permissions) -> String {
    let Permissions { publish, subscribe } = permissions;
    let mut text = format!("    {{\n      user: \"{name}\"\n      permissions: {{\n");
    for (field, filters) in [("publish", publish), ("subscribe", subscribe)] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "        {field}: {{ allow: [");
        for filter in filters {
            let _ = writeln!(text, "          \"{filter}\"");
        }
        text += "        ] }\n";
    }
    text + "      }\n    }\n"
}
