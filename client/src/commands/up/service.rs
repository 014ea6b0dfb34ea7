//! The programs of the services.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::process::{Ports, Spec, find};

/// In the order in which work passes through them.
const PROGRAMS: [&str; 4] = ["preprocessing", "evaluation", "aggregation", "key-management"];

/// A program of hermesh-programs.
pub(super) struct Program {
    name: &'static str,
    path: PathBuf,
}

/// One process of a service.
pub(super) struct Instance<'a> {
    program: &'a Program,
    pub(super) name: String,
    /// Address of its health and metrics.
    pub(super) address: SocketAddr,
}

impl Program {
    pub(super) fn find_all() -> Result<Vec<Self>> {
        let find = |name: &'static str| {
            Ok(Self { name, path: find(&format!("hermesh-{name}"), "hermesh-programs")? })
        };
        PROGRAMS.into_iter().map(find).collect()
    }

    /// Identity of its processes, such as `service/evaluation`.
    pub(super) fn workload(&self) -> String {
        format!("service/{}", self.name)
    }

    /// Its processes: one per worker for evaluation, else one.
    pub(super) fn instances(&self, workers: usize, ports: &mut Ports) -> Result<Vec<Instance<'_>>> {
        let names = match self.computes() {
            true => (1..=workers).map(|number| format!("{}-{number}", self.name)).collect(),
            false => vec![self.name.to_owned()],
        };
        // Not port 0: the service would choose a port that this program does not know.
        let with_address = |name| Ok(Instance { program: self, name, address: ports.free()? });
        names.into_iter().map(with_address).collect()
    }

    fn computes(&self) -> bool {
        self.name == "evaluation"
    }
}

impl Instance<'_> {
    pub(super) fn workload(&self) -> String {
        self.program.workload()
    }

    /// The process to run, with its broker at `url`.
    pub(super) fn spec(&self, directory: &Path, url: &str, threads: usize) -> Spec {
        let Program { name, path } = self.program;
        let mut variables = vec![
            ("HERMESH_NATS__URL", url.to_owned()),
            ("HERMESH_HTTP__LISTEN", self.address.to_string()),
        ];
        if *name == "aggregation" {
            let identity = directory.join("aggregation.key");
            variables.push(("HERMESH_IDENTITY", identity.display().to_string()));
        }
        if self.program.computes() {
            variables.push(("HERMESH_SERVICE__THREADS", threads.to_string()));
            variables.push(("HERMESH_SERVICE__IN_FLIGHT", threads.to_string()));
        }
        Spec {
            program: path.clone(),
            name: self.name.clone(),
            group: name,
            configuration: format!("{name}.toml").into(),
            variables,
            address: self.address,
            ready: "/readyz",
        }
    }
}
