//! The sidecars of a history: one process for each service and each tenant.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use hermesh_mesh::nats_server::free_port;
use hermesh_sidecar::{
    app,
    config::{self, Config, Environment},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{member::Member, trust::TrustDomain};

/// The command line of a sidecar.
#[derive(Debug, Args)]
pub struct SidecarProcess {
    /// Its configuration.
    #[arg(long)]
    pub config: PathBuf,
}

/// Runs a sidecar until it is killed.
///
/// # Errors
/// The sidecar cannot start.
pub fn run(process: &SidecarProcess) -> Result<()> {
    let config = config::load(Some(&process.config), &Environment::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?;
    runtime.block_on(async {
        app::build(config).await?.ended().await?;
        Ok(())
    })
}

/// Free ports, each given out once.
#[derive(Debug, Default)]
pub struct Ports(Vec<u16>);

impl Ports {
    /// Another free port.
    ///
    /// # Errors
    /// No free port was found.
    pub fn take(&mut self) -> Result<u16> {
        loop {
            let port = free_port()?;
            if !self.0.contains(&port) {
                self.0.push(port);
                return Ok(port);
            }
        }
    }
}

/// A sidecar.
pub struct Sidecar {
    /// Its workload.
    pub workload: String,
    /// The directory of its certificates.
    pub directory: PathBuf,
    /// Where its workload connects.
    pub address: SocketAddr,
    health: SocketAddr,
    pub(super) member: Member,
}

impl Sidecar {
    /// Writes its configuration and its first certificate, and starts it.
    ///
    /// # Errors
    /// They cannot be written, or it cannot be started.
    pub fn start(
        (workload, name): (&str, &str),
        domain: &TrustDomain,
        broker: u16,
        ports: &mut Ports,
        (program, logs): (&Path, &Path),
    ) -> Result<Self> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, health) = (local(ports.take()?), local(ports.take()?));
        let directory = domain.directory(name);
        domain.issue(workload, &directory, 0)?;
        let mut config = Config { policy: domain.policy_file(), ..Config::default() };
        config.identity.workload = Some(workload.to_owned());
        [config.identity.certificate, config.identity.key, config.identity.roots] =
            TrustDomain::files(&directory);
        config.upstream.servers = format!("tls://{}", local(broker));
        config.listen.address = address;
        config.health.listen = health;
        let file = directory.join("sidecar.toml");
        fs::write(&file, toml::to_string(&config)?)?;
        let arguments = vec!["sidecar".into(), "--config".into(), file.into()];
        let log = logs.join(format!("sidecar-{name}.log"));
        let member = Member::new(format!("the sidecar of {name}"), program.into(), arguments, log);
        let mut sidecar =
            Self { workload: workload.to_owned(), directory, address, health, member };
        sidecar.member.revive()?;
        Ok(sidecar)
    }

    /// The URL at which its workload connects.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Its current metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn figures(&self) -> io::Result<Figures> {
        get(self.health, "/sidecar/metrics").await.map(|text| Figures::parse(&text))
    }
}

/// The metrics of a sidecar.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Rejections by direction and reason; no zeros.
    pub rejections: BTreeMap<String, u64>,
    /// Connections that have ended, by reason; no zeros.
    pub ended: BTreeMap<String, u64>,
    /// When the certificate expires, in seconds since 1970.
    pub expires: u64,
}

impl Figures {
    fn parse(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            // The values are whole numbers, which an f64 holds exactly.
            let value = value.parse::<f64>().unwrap_or_default() as u64;
            let label = |name: &str| {
                let value = labels.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
                value.and_then(|value| value.split('"').next()).unwrap_or_default()
            };
            match name {
                "hermesh_sidecar_rejections_total" if value > 0 => {
                    let what = format!("{} {}", label("direction"), label("reason"));
                    *figures.rejections.entry(what).or_default() += value;
                }
                "hermesh_sidecar_connections_ended_total" if value > 0 => {
                    *figures.ended.entry(label("reason").to_owned()).or_default() += value;
                }
                "hermesh_sidecar_certificate_expiry_timestamp_seconds" => figures.expires = value,
                _ => {}
            }
        }
        figures
    }

    /// Adds the metrics of another sidecar.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in
            [(&mut self.rejections, &other.rejections), (&mut self.ended, &other.ended)]
        {
            for (what, times) in theirs {
                *mine.entry(what.clone()).or_default() += times;
            }
        }
    }
}

/// The body of a response over plain HTTP.
pub(super) async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{path} at {address}: no answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_sidecars_count() {
        let figures = Figures::parse(
            "# HELP x y\n\
             hermesh_sidecar_rejections_total{direction=\"in\",reason=\"stale\",workload=\"a/b\"} 2\n\
             hermesh_sidecar_rejections_total{direction=\"out\",reason=\"stale\",workload=\"a/b\"} 0\n\
             hermesh_sidecar_connections_ended_total{reason=\"broker\",workload=\"a/b\"} 3\n\
             hermesh_sidecar_certificate_expiry_timestamp_seconds{workload=\"a/b\"} 1800000000.5\n",
        );
        assert_eq!(figures.rejections, BTreeMap::from([("in stale".to_owned(), 2)]));
        assert_eq!(figures.ended, BTreeMap::from([("broker".to_owned(), 3)]));
        assert_eq!(figures.expires, 1_800_000_000);
    }
}
