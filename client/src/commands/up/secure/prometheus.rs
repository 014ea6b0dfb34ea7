//! The configuration with which Prometheus collects metrics from the sidecars.

use std::net::SocketAddr;

use hermesh_mesh::issuer::Files;

use super::domain;
use super::sidecar::Sidecar;

/// File name in the mesh's directory; paths in the file are relative to that directory.
pub(super) const FILE: &str = "prometheus.yml";

pub(super) fn configuration(sidecars: &[Sidecar], monitor: &str) -> String {
    let services =
        sidecars.iter().filter_map(|sidecar| Some((&*sidecar.service.as_ref()?.0, sidecar.https)));
    let own = sidecars.iter().map(|sidecar| (&*sidecar.name, sidecar.https));
    format!(
        "# Written by hermesh whenever it starts the mesh: prometheus --config.file=DIR/{FILE}\n\
         global:\n  scrape_interval: 5s\n\n\
         scrape_configs:\n{}{}",
        job("hermesh-services", "/metrics", monitor, services),
        job("hermesh-sidecars", "/sidecar/metrics", monitor, own),
    )
}

fn job<'a>(
    name: &str,
    path: &str,
    monitor: &str,
    targets: impl Iterator<Item = (&'a str, SocketAddr)>,
) -> String {
    let Files { certificate, key, roots } = domain::files(monitor);
    let mut text = format!(
        "  - job_name: {name}\n    \
             metrics_path: {path}\n    \
             scheme: https\n    \
             tls_config:\n      \
               ca_file: {}\n      \
               cert_file: {}\n      \
               key_file: {}\n    \
             static_configs:\n",
        roots.display(),
        certificate.display(),
        key.display(),
    );
    for (process, address) in targets {
        text += &format!(
            "      - targets: [\"{address}\"]\n        labels: {{ process: \"{process}\" }}\n"
        );
    }
    text
}
