//! Zero trust: one trust domain, one policy, and a sidecar for every process.

mod domain;
mod policy_file;
mod prometheus;
mod sidecar;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hermesh_client::cli::Up;
use hermesh_mesh::issuer::Keeper;
use hermesh_mesh::issuer::files::{self, Existing};
use hermesh_mesh::nats_server::NatsServer;
use hermesh_mesh::policy::nats::{ServerOptions, render};
use hermesh_mesh::{Clock as _, SystemClock, TenantId};

use self::policy_file::PolicyFile;
pub(super) use self::sidecar::Sidecar;
use super::process::{Ports, find, local};
use super::say;
use super::service::Instance;

const BROKER: &str = "broker/nats";
const MONITOR: &str = "monitor/prometheus";
/// The largest message, in bytes.
const MAX_PAYLOAD: usize = 8 << 20;

/// Policy, trust domain and server options of a secure mesh.
pub(super) struct Secure {
    policy: PolicyFile,
    domain: Keeper,
    server: ServerOptions,
    tenants: Vec<TenantId>,
    sidecar: PathBuf,
    /// True if the server has to reload policy or certificates. Sidecars watch the files themselves.
    stale: bool,
    /// The last error, so that it is printed only once.
    complaint: Option<String>,
}

impl Secure {
    /// Creates policy, root and certificates if they are missing.
    pub(super) fn prepare(
        options: &Up,
        workloads: BTreeSet<String>,
        directory: &Path,
        ports: &mut Ports,
    ) -> Result<Self> {
        let sidecar = find("hermesh-sidecar", "hermesh-sidecar")?;
        let policy = PolicyFile::open(directory, &options.tenants)?;
        let tenants = match options.tenants.is_empty() {
            true => policy.policy().tenants().cloned().collect(),
            false => options.tenants.clone(),
        };
        ensure!(!tenants.is_empty(), "a secure mesh needs at least one tenant: pass --tenant");
        let workloads = workloads
            .into_iter()
            .chain(tenants.iter().map(workload))
            .chain([BROKER, MONITOR].map(str::to_owned));
        let domain = domain::open(directory, policy.policy().trust_domain(), workloads)?;
        let listen = match options.port {
            0 => ports.free()?,
            port => {
                ports.take(port);
                local(port)
            }
        };
        let (nats, files) = (directory.join("nats"), domain::files(BROKER));
        let server = ServerOptions {
            listen,
            monitoring: Some(ports.free()?.port()),
            certificate: directory.join(files.certificate),
            key: directory.join(files.key),
            roots: directory.join(files.roots),
            store: nats.join("store"),
            log: Some(nats.join("nats.log")),
            max_payload: MAX_PAYLOAD,
            handshake_first: false,
            sync_always: false,
        };
        Ok(Self { policy, domain, server, tenants, sidecar, stale: false, complaint: None })
    }

    pub(super) fn port(&self) -> u16 {
        self.server.listen.port()
    }

    /// URL of nats-server's monitoring.
    pub(super) fn monitoring(&self) -> Option<String> {
        self.server.monitoring.map(|port| format!("http://{}", local(port)))
    }

    pub(super) fn nats_configuration(&self) -> String {
        render(self.policy.policy(), &self.server)
    }

    /// A sidecar for each tenant and for each service. Also writes their configuration files and that of Prometheus.
    pub(super) fn sidecars(
        &self,
        options: &Up,
        instances: &[Instance<'_>],
        directory: &Path,
        ports: &mut Ports,
    ) -> Result<Vec<Sidecar>> {
        let mut sidecars = Vec::new();
        // Tenants first, because their ports are fixed.
        for (tenant, number) in self.tenants.iter().zip(1..) {
            let port = self.port().checked_add(number).filter(|_| options.port != 0);
            let listen = match port {
                Some(port) => {
                    ports.take(port);
                    local(port)
                }
                None => ports.free()?,
            };
            let sidecar = Sidecar {
                name: format!("tenant-{tenant}-sidecar"),
                workload: workload(tenant),
                tenant: Some(tenant.clone()),
                service: None,
                listen,
                https: ports.free()?,
                health: ports.free()?,
            };
            sidecars.push(sidecar);
        }
        for instance in instances {
            sidecars.push(Sidecar {
                name: format!("{}-sidecar", instance.name),
                workload: instance.workload(),
                tenant: None,
                service: Some((instance.name.clone(), instance.address)),
                listen: ports.free()?,
                https: ports.free()?,
                health: ports.free()?,
            });
        }
        for sidecar in &sidecars {
            write(&directory.join(sidecar.configuration()), &sidecar.options(self.port()))?;
        }
        write(&directory.join(prometheus::FILE), &prometheus::configuration(&sidecars, MONITOR))?;
        Ok(sidecars)
    }

    /// The program of the sidecars.
    pub(super) fn program(&self) -> &Path {
        &self.sidecar
    }

    /// Renews certificates after half of their lifetime, and applies changes of the policy.
    pub(super) fn keep_fresh(&mut self, nats: &NatsServer) {
        match self.try_keep_fresh(nats) {
            Ok(()) => self.complaint = None,
            Err(error) => {
                let complaint = Some(format!("{error:#}"));
                if self.complaint != complaint {
                    self.complaint = complaint;
                    say(&format!("{error:#}; the mesh runs on unchanged"));
                }
            }
        }
    }

    fn try_keep_fresh(&mut self, nats: &NatsServer) -> Result<()> {
        // Both are always tried: with an invalid policy, certificates must still be renewed.
        let (renewed, changed) = (self.domain.renew_if_due(SystemClock.now()), self.policy.look());
        self.stale |= renewed.certificates > 0 || matches!(changed, Ok(true));
        if self.stale {
            nats.reload(&self.nats_configuration())?;
            self.stale = false;
        }
        renewed.failed?;
        changed?;
        Ok(())
    }
}

fn workload(tenant: &TenantId) -> String {
    format!("tenant/{tenant}")
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = path.parent().map_or(Ok(()), files::create_directory);
    written
        .and_then(|()| files::write(path, text.as_bytes(), Existing::Replace))
        .with_context(|| format!("cannot write {}", path.display()))
}
