//! One sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hermesh_mesh::TenantId;
use hermesh_mesh::issuer::Files;

use super::domain;
use super::policy_file;
use crate::commands::up::process::Spec;

pub(in crate::commands::up) struct Sidecar {
    pub(super) name: String,
    /// Who it speaks for.
    pub(super) workload: String,
    pub(in crate::commands::up) tenant: Option<TenantId>,
    /// The service beside it, and where that serves its health.
    pub(super) service: Option<(String, SocketAddr)>,
    /// Where its workload finds its broker.
    pub(super) listen: SocketAddr,
    /// Where others find health and metrics.
    pub(super) https: SocketAddr,
    /// Where probes find its own.
    pub(super) health: SocketAddr,
}

impl Sidecar {
    /// Where its workload finds its broker.
    pub(in crate::commands::up) fn url(&self) -> String {
        format!("nats://{}", self.listen)
    }

    /// Where others find health and metrics.
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

    /// Its file in the mesh's directory.
    pub(super) fn configuration(&self) -> PathBuf {
        format!("sidecars/{}.toml", self.name).into()
    }

    /// Paths are relative: the mesh's directory is where it runs.
    pub(super) fn options(&self, upstream: u16) -> String {
        let Self { workload, listen, https, health, .. } = self;
        let Files { certificate, key, roots } = domain::files(workload);
        // A tenant's serves nothing but its own, which has a path of its own: for the rest there is nobody.
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
