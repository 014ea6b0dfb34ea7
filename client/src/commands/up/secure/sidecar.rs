//! Configuration of one sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hermesh_mesh::TenantId;
use hermesh_mesh::issuer::Files;

use super::domain;
use super::policy_file;
use crate::commands::up::process::Spec;

pub(in crate::commands::up) struct Sidecar {
    pub(super) name: String,
    /// Identity of its workload.
    pub(super) workload: String,
    pub(in crate::commands::up) tenant: Option<TenantId>,
    /// Its service and the address of that service's health, if the workload is a service.
    pub(super) service: Option<(String, SocketAddr)>,
    /// Address of the broker for its workload.
    pub(super) listen: SocketAddr,
    /// Address of health and metrics for other identities.
    pub(super) https: SocketAddr,
    /// Address of the sidecar's own health, for probes.
    pub(super) health: SocketAddr,
}

impl Sidecar {
    /// URL of the broker for its workload.
    pub(in crate::commands::up) fn url(&self) -> String {
        format!("nats://{}", self.listen)
    }

    /// URL of health and metrics for other identities.
    pub(in crate::commands::up) fn https(&self) -> String {
        format!("https://{}", self.https)
    }

    pub(in crate::commands::up) fn spec(&self, program: &Path) -> Spec {
        Spec {
            program: program.to_owned(),
            name: self.name.clone(),
            group: "sidecar",
            configuration: self.configuration(),
            variables: Vec::new(),
            address: self.health,
            ready: "/sidecar/readyz",
        }
    }

    /// Its configuration file in the mesh's directory.
    pub(super) fn configuration(&self) -> PathBuf {
        format!("sidecars/{}.toml", self.name).into()
    }

    /// The content of the configuration file. Paths are relative to the mesh's directory, where the sidecar runs.
    pub(super) fn options(&self, upstream: u16) -> String {
        let Self { workload, listen, https, health, .. } = self;
        let Files { certificate, key, roots } = domain::files(workload);
        // The sidecar of a tenant has no service. It serves only its own health, which has a separate path.
        let service = self.service.as_ref().map_or(health, |(_, address)| address);
        format!(
            "# Written by hermesh whenever it starts the mesh.\n\
             policy = \"{}\"\n\n\
             [identity]\n\
             kind = \"files\"\n\
             workload = \"{workload}\"\n\
             certificate = \"{}\"\n\
             key = \"{}\"\n\
             roots = \"{}\"\n\n\
             [upstream]\n\
             servers = \"tls://127.0.0.1:{upstream}\"\n\
             identity = \"{}\"\n\n\
             [listen]\n\
             address = \"{listen}\"\n\n\
             [http]\n\
             listen = \"{https}\"\n\
             service = \"{service}\"\n\n\
             [health]\n\
             listen = \"{health}\"\n",
            policy_file::FILE,
            certificate.display(),
            key.display(),
            roots.display(),
            super::BROKER,
        )
    }
}
