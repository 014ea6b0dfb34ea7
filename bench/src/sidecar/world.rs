//! A trust domain, a nats-server that enforces its policy, and sidecars, each a separate process.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hermesh_mesh::{
    Clock as _, Message, SystemClock, UnixMillis,
    bus::{
        Bus as _,
        nats::{NatsBus, NatsOptions},
    },
    identity::{Credentials, SpiffeId, Trust},
    issuer::{
        Authority, Grant, Uses,
        files::{self, Existing, to_pem},
    },
    nats_server::{NatsServer, NatsServerOptions, free_port},
    policy::{
        Policy,
        nats::{ServerOptions, render},
    },
    topology,
};
use hermesh_sidecar::{
    app,
    config::{self, Config, Environment},
    tls,
};
use tempfile::TempDir;

use super::client::Client;

const DOMAIN: &str = "hermesh.local";
const HOUR: Duration = Duration::from_secs(3600);
/// The queue that messages pass through.
const QUEUE: &str = "tasks-normal";
const WORKLOADS: [&str; 3] = ["service/preprocessing", "service/evaluation", "tenant/acme"];

pub(super) struct World {
    address: SocketAddr,
    authority: Authority,
    server: NatsServer,
    sidecars: Vec<Sidecar>,
    _directory: TempDir,
}

impl World {
    pub(super) async fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        let now = SystemClock.now();
        let from = UnixMillis(now.0 - 60_000);
        let authority = Authority::create(DOMAIN, from, now.plus(24 * HOUR))?;
        let text = Policy::default_text().replace("tenants = []", "tenants = [\"acme\"]");
        let policy = Policy::parse(&text)?;
        fs::write(path.join("policy.toml"), text)?;
        fs::write(path.join("roots.pem"), authority.certificate())?;
        for workload in WORKLOADS.iter().chain(&["broker/nats"]) {
            let (key, chain) = authority.key_and_chain(&grant(workload)?)?;
            files::write_secret(&file(path, workload, "key"), key.as_bytes(), Existing::Keep)?;
            fs::write(file(path, workload, "certificate"), to_pem(chain.certificates()))?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let options = ServerOptions {
            listen: address,
            monitoring: None,
            certificate: file(path, "broker/nats", "certificate"),
            key: file(path, "broker/nats", "key"),
            roots: path.join("roots.pem"),
            store: path.join("store"),
            log: Some(path.join("nats.log")),
            max_payload: 8 << 20,
            handshake_first: false,
            sync_always: false,
        };
        let server = NatsServer::start(NatsServerOptions {
            port: address.port(),
            configuration: Some(render(&policy, &options)),
            ..NatsServerOptions::new(path)
        });
        let server = server.await?;
        let sidecars = WORKLOADS.iter().map(|workload| Sidecar::start(path, workload, address));
        let sidecars = sidecars.collect::<Result<_>>()?;
        let world = Self { address, authority, server, sidecars, _directory: directory };
        world.prepare().await?;
        Ok(world)
    }

    /// Creates stream and consumer, as services do.
    async fn prepare(&self) -> Result<()> {
        let queues = topology::queues();
        let queue = queues.iter().find(|queue| queue.name == QUEUE).context("there is no queue")?;
        let connect = async |place: usize| {
            let options = NatsOptions {
                url: format!("nats://{}", self.sidecars[place].address),
                inbox: Some(id(WORKLOADS[place])?.inbox()),
                ..NatsOptions::default()
            };
            let bus = NatsBus::connect(options).await?;
            bus.declare(queue).await?;
            anyhow::Ok(bus)
        };
        let (publisher, worker) = (connect(0).await?, connect(1).await?);
        publisher.publish(Message::new("hermesh.task.normal.acme.0.0.0", "first")).await?;
        worker.pull(&[QUEUE]).await?.ack().await?;
        Ok(())
    }

    /// The workloads, connected directly to the server.
    pub(super) async fn direct(&self) -> Result<[Client; 3]> {
        let trust = Trust::from_pem(DOMAIN, self.authority.certificate().as_bytes())?;
        let (broker, mut clients) = (id("broker/nats")?, Vec::new());
        for workload in WORKLOADS {
            let credentials: Credentials = self.authority.credentials(&grant(workload)?)?;
            let tls = tls::client(&credentials, &trust, &broker, Arc::new(|_| false))?;
            clients.push(Client::tls(self.address, tls).await?);
        }
        clients.try_into().ok().context("one client each")
    }

    /// The workloads, each connected to its sidecar.
    pub(super) async fn through_sidecars(&self) -> Result<[Client; 3]> {
        let mut clients = Vec::new();
        for sidecar in &self.sidecars {
            clients.push(Client::plain(sidecar.address).await?);
        }
        clients.try_into().ok().context("one client each")
    }

    pub(super) fn server(&self) -> u32 {
        self.server.pid()
    }

    pub(super) fn sidecars(&self) -> impl Iterator<Item = u32> + '_ {
        self.sidecars.iter().map(|sidecar| sidecar.process.id())
    }
}

fn id(workload: &str) -> Result<SpiffeId> {
    Ok(SpiffeId::new(DOMAIN, workload)?)
}

fn grant(workload: &str) -> Result<Grant> {
    let now = SystemClock.now();
    Ok(Grant {
        id: id(workload)?,
        hosts: vec!["127.0.0.1".into()],
        uses: Uses::Workload,
        from: UnixMillis(now.0 - 60_000),
        until: now.plus(HOUR),
    })
}

fn file(directory: &Path, workload: &str, what: &str) -> PathBuf {
    directory.join(format!("{}.{what}.pem", workload.replace('/', "-")))
}

/// A process, killed on drop.
struct Sidecar {
    address: SocketAddr,
    process: Child,
}

impl Sidecar {
    fn start(directory: &Path, workload: &str, server: SocketAddr) -> Result<Self> {
        let mut config = Config { policy: directory.join("policy.toml"), ..Config::default() };
        config.identity.workload = Some(workload.into());
        config.identity.certificate = file(directory, workload, "certificate");
        config.identity.key = file(directory, workload, "key");
        config.identity.roots = directory.join("roots.pem");
        config.upstream.servers = format!("tls://{server}");
        config.listen.address.set_port(0);
        config.health.listen.set_port(0);
        let path = file(directory, workload, "config");
        fs::write(&path, toml::to_string(&config)?)?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("one-sidecar")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a sidecar")?;
        let mut line = String::new();
        let output = process.stdout.take().context("the sidecar has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let mut sidecar = Self { address: server, process };
        sidecar.address =
            line.trim().parse().context("a sidecar did not start; its message is above")?;
        Ok(sidecar)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the sidecar: prints its address, and forwards messages until standard input ends.
pub(crate) fn one(config: &Path) -> Result<()> {
    let config = config::load(Some(config), &Environment::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bound = runtime.block_on(app::build(config))?;
    let address = bound.address.context("expected an address to listen on")?;
    writeln!(std::io::stdout(), "{address}")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
