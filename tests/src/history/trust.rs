//! The trust domain of a history: its root, its policy, and the certificates of all workloads.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use hermesh_mesh::{
    Clock as _, SystemClock, UnixMillis,
    identity::SpiffeId,
    issuer::{Authority, Grant, Uses, files},
    policy::{
        Policy,
        nats::{ServerOptions, render},
    },
};

/// The default policy's trust domain.
pub const DOMAIN: &str = "hermesh.local";
/// The workload of nats-server.
pub const BROKER: &str = "broker/nats";
/// The workload that checks the queues at the end.
pub const OBSERVER: &str = "test/observer";

/// A tenant of a history.
pub fn tenant(number: usize) -> String {
    format!("tenant-{number}")
}

/// The observer may list whole queues, which no workload of a real mesh may.
const OBSERVED: &str = r#"
[identities."test/observer"]
read = [
    "hermesh.open.>",
    "hermesh.task.express.>",
    "hermesh.task.normal.>",
    "hermesh.task.bulk.>",
    "hermesh.partial.>",
    "hermesh.arrived.>",
    "hermesh.dead.>",
]
"#;

const HOUR: Duration = Duration::from_secs(3600);

/// A root and the files that depend on it, in one directory.
pub struct TrustDomain {
    authority: Authority,
    policy: Policy,
    directory: PathBuf,
    since: UnixMillis,
}

impl TrustDomain {
    /// A new root, and the default policy with this many tenants and the observer.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn create(directory: &Path, tenants: usize) -> Result<Self> {
        let since = SystemClock.now();
        let from = UnixMillis(since.0 - 24 * 3_600_000);
        let authority = Authority::create(DOMAIN, from, since.plus(24 * HOUR))?;
        let names: Vec<String> = (0..tenants).map(tenant).collect();
        let text = Policy::default_text();
        let text = text.replace("tenants = []", &format!("tenants = {names:?}")) + OBSERVED;
        let policy = Policy::parse(&text)?;
        let domain = Self { authority, policy, directory: directory.to_owned(), since };
        fs::create_dir_all(directory)?;
        fs::write(domain.policy_file(), text)?;
        Ok(domain)
    }

    /// The path of the policy.
    pub fn policy_file(&self) -> PathBuf {
        self.directory.join("policy.toml")
    }

    /// The directory of a workload's files.
    pub fn directory(&self, workload: &str) -> PathBuf {
        self.directory.join(workload.replace('/', "-"))
    }

    /// Certificate, key and roots in a workload's directory.
    pub fn files(of: &Path) -> [PathBuf; 3] {
        ["certificate.pem", "key.pem", "roots.pem"].map(|name| of.join("current").join(name))
    }

    /// Gives a workload the certificate of a generation; each generation expires one minute after the
    /// previous one. Returns the expiry. The three files change together, as with an orchestrator.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn issue(&self, workload: &str, into: &Path, generation: u32) -> Result<UnixMillis> {
        let until = self.since.plus(HOUR + Duration::from_secs(60) * generation);
        let grant = Grant {
            id: SpiffeId::new(DOMAIN, workload)?,
            hosts: vec![Ipv4Addr::LOCALHOST.to_string()],
            uses: if workload == BROKER { Uses::ServerOnly } else { Uses::Workload },
            from: UnixMillis(self.since.0 - 60_000),
            until,
        };
        let (key, chain) = self.authority.key_and_chain(&grant)?;
        let own = into.join(generation.to_string());
        files::create_directory(&own)?;
        let (replace, chain) = (files::Existing::Replace, files::to_pem(chain.certificates()));
        files::write(&own.join("certificate.pem"), chain.as_bytes(), replace)?;
        files::write_secret(&own.join("key.pem"), key.as_bytes(), replace)?;
        let roots = self.authority.certificate();
        files::write(&own.join("roots.pem"), roots.as_bytes(), replace)?;
        symlink(generation.to_string(), into.join("next"))?;
        fs::rename(into.join("next"), into.join("current"))?;
        Ok(until)
    }

    /// The configuration of nats-server, with its files in `store`.
    pub fn server(&self, port: u16, monitoring: u16, store: &Path) -> String {
        let [certificate, key, roots] = Self::files(&self.directory(BROKER));
        let options = ServerOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            monitoring: Some(monitoring),
            certificate,
            key,
            roots,
            store: store.join("store"),
            log: Some(store.join("nats.log")),
            max_payload: 8 << 20,
            handshake_first: false,
            sync_always: false,
        };
        render(&self.policy, &options)
    }
}
