//! The processes of a history.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use tokio::time::{Instant, sleep};

use super::{
    member::Member,
    role::{Engine, Role},
    sidecars::{Figures, Ports, Sidecar, get},
    trust::{BROKER, OBSERVER, TrustDomain, tenant},
};

/// How many processes each service has.
pub const REPLICAS: [(Role, usize); 4] = [
    (Role::KeyManagement, 2),
    (Role::Preprocessing, 2),
    (Role::Evaluation, 4),
    (Role::Aggregation, 2),
];

/// The directory for the processes' events.
pub const EVENTS: &str = "events";
/// The directory for the processes' logs.
pub const LOGS: &str = "logs";

/// How long a change may take to reach all processes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process other than nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// A service.
    Service(usize),
    /// A sidecar: first those of the services, in their order, then those of tenants and of the observer.
    Sidecar(usize),
}

/// A nats-server and the services on it.
pub struct Cluster {
    /// The server.
    pub server: NatsServer,
    services: Vec<(Role, Member)>,
    sidecars: Vec<Sidecar>,
    security: Option<Security>,
}

struct Security {
    domain: TrustDomain,
    configuration: String,
    monitoring: u16,
    generation: u32,
}

impl Cluster {
    /// Starts all processes of `program`, which is `crash-history`. Under `directory` they write events to
    /// `events` and logs to `logs`.
    ///
    /// # Errors
    /// A process cannot be started, or a directory cannot be created.
    pub fn start(
        server: NatsServer,
        program: &Path,
        engine: Engine,
        directory: &Path,
    ) -> io::Result<Self> {
        let mut cluster =
            Self { server, services: Vec::new(), sidecars: Vec::new(), security: None };
        for part in [EVENTS, LOGS] {
            fs::create_dir_all(directory.join(part))?;
        }
        cluster.start_services(program, engine, directory)?;
        Ok(cluster)
    }

    /// Starts a nats-server that requires a certificate, and all processes, each with its own sidecar; also
    /// sidecars for tenants and for the observer.
    ///
    /// # Errors
    /// As [`Self::start`], or a certificate cannot be made.
    pub async fn start_with_sidecars(
        program: &Path,
        engine: Engine,
        directory: &Path,
        tenants: usize,
    ) -> Result<Self> {
        for part in [EVENTS, LOGS] {
            fs::create_dir_all(directory.join(part))?;
        }
        let domain = TrustDomain::create(&directory.join("trust"), tenants)?;
        domain.issue(BROKER, &domain.directory(BROKER), 0)?;
        let mut ports = Ports::default();
        let (port, monitoring) = (ports.take()?, ports.take()?);
        let store = directory.join("nats");
        let configuration = domain.server(port, monitoring, &store);
        let server = NatsServer::start(NatsServerOptions {
            port,
            configuration: Some(configuration.clone()),
            ..NatsServerOptions::new(store)
        });
        let server = server.await?;
        let replicas = REPLICAS.iter().flat_map(|(role, replicas)| vec![role.name(); *replicas]);
        let mut workloads: Vec<(String, String)> = replicas
            .enumerate()
            .map(|(number, role)| (format!("service/{role}"), format!("{role}-{number}")))
            .collect();
        workloads.extend((0..tenants).map(|number| {
            let tenant = tenant(number);
            (format!("tenant/{tenant}"), tenant)
        }));
        workloads.push((OBSERVER.into(), "observer".into()));
        let logs = directory.join(LOGS);
        let mut sidecars = Vec::new();
        for (workload, name) in &workloads {
            let place = (program, &*logs);
            sidecars.push(Sidecar::start((workload, name), &domain, port, &mut ports, place)?);
        }
        let security = Some(Security { domain, configuration, monitoring, generation: 0 });
        let mut cluster = Self { server, services: Vec::new(), sidecars, security };
        cluster.start_services(program, engine, directory)?;
        Ok(cluster)
    }

    fn start_services(
        &mut self,
        program: &Path,
        engine: Engine,
        directory: &Path,
    ) -> io::Result<()> {
        for (role, replicas) in REPLICAS {
            for _ in 0..replicas {
                let number = self.services.len();
                let (sidecar, url) = match self.sidecars.get(number) {
                    Some(sidecar) => (true, sidecar.url()),
                    None => (false, self.server.url()),
                };
                let mut arguments: Vec<_> =
                    ["service", role.name(), engine.name(), &*url].map(Into::into).into();
                arguments.push(directory.join(EVENTS).into());
                arguments.extend(sidecar.then(|| "--sidecar".into()));
                let log = directory.join(LOGS).join(format!("{}-{number}.log", role.name()));
                let mut member = Member::new(role.name(), program.to_owned(), arguments, log);
                member.revive()?;
                self.services.push((role, member));
            }
        }
        Ok(())
    }

    /// The number of services.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// The sidecars, if there are any.
    pub fn sidecars(&self) -> &[Sidecar] {
        &self.sidecars
    }

    /// The sidecar of the first process of a workload.
    pub fn sidecar_of(&self, workload: &str) -> Option<&Sidecar> {
        self.sidecars.iter().find(|sidecar| sidecar.workload == workload)
    }

    /// The sidecars of all processes of a service.
    pub fn sidecars_of(&self, role: Role) -> impl Iterator<Item = Process> {
        let services = self.services.iter().zip(&self.sidecars).enumerate();
        let of = services.filter(move |(_, ((of, _), _))| *of == role);
        of.map(|(number, _)| Process::Sidecar(number))
    }

    fn member(&mut self, process: Process) -> &mut Member {
        match process {
            Process::Service(number) => &mut self.services[number].1,
            Process::Sidecar(number) => &mut self.sidecars[number].member,
        }
    }

    /// Starts a process that is down.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self, process: Process) -> io::Result<()> {
        self.member(process).revive()
    }

    /// Kills a process with SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self, process: Process) -> io::Result<()> {
        self.member(process).kill()
    }

    /// Stops a process as if its machine had frozen, or continues it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn freeze(&mut self, process: Process, frozen: bool) -> io::Result<()> {
        self.member(process).freeze(frozen)
    }

    /// Checks that no process ended by itself.
    ///
    /// # Errors
    /// One did, or the system returns an error.
    pub fn check(&mut self) -> io::Result<()> {
        let services = self.services.iter_mut().map(|(_, member)| member);
        let sidecars = self.sidecars.iter_mut().map(|sidecar| &mut sidecar.member);
        services.chain(sidecars).try_for_each(Member::check)
    }

    /// The sum of all sidecars' metrics.
    ///
    /// # Errors
    /// A sidecar does not answer.
    pub async fn figures(&self) -> Result<Figures> {
        let mut all = Figures::default();
        for sidecar in &self.sidecars {
            all.add(&sidecar.figures().await?);
        }
        Ok(all)
    }

    /// How many connections the server has accepted since it started.
    ///
    /// # Errors
    /// The server does not answer, or there are no sidecars.
    pub async fn connections(&self) -> Result<u64> {
        self.said("total_connections").await
    }

    /// Gives every workload a new certificate, nats-server included, and waits until all use theirs.
    ///
    /// # Errors
    /// A certificate cannot be made, or a workload does not use it.
    pub async fn rotate(&mut self) -> Result<()> {
        let loaded = self.said_text("config_load_time").await?;
        let Some(security) = &mut self.security else { return Ok(()) };
        security.generation += 1;
        let (domain, generation) = (&security.domain, security.generation);
        domain.issue(BROKER, &domain.directory(BROKER), generation)?;
        self.server.reload(&security.configuration)?;
        let mut expires = 0;
        for sidecar in &self.sidecars {
            expires = domain.issue(&sidecar.workload, &sidecar.directory, generation)?.0 / 1000;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.said_text("config_load_time").await? == loaded {
            ensure!(Instant::now() < deadline, "nats-server has not reloaded its configuration");
            sleep(LOOK_AGAIN).await;
        }
        for sidecar in &self.sidecars {
            while sidecar.figures().await?.expires != expires {
                let late = &sidecar.workload;
                ensure!(Instant::now() < deadline, "the sidecar of {late} keeps its certificate");
                sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    async fn said(&self, field: &str) -> Result<u64> {
        Ok(self.said_text(field).await?.parse()?)
    }

    /// One field of the server's status.
    async fn said_text(&self, field: &str) -> Result<String> {
        let Some(security) = &self.security else { anyhow::bail!("there are no sidecars") };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, security.monitoring));
        let answer = get(address, "/varz").await?;
        let value = answer.split_once(&format!("\"{field}\": ")).map(|(_, rest)| rest);
        let value = value.and_then(|value| value.split(['\n', ',']).next());
        let value = value.ok_or_else(|| anyhow::anyhow!("nats-server's status lacks {field}"))?;
        Ok(value.trim_matches('"').to_owned())
    }
}
