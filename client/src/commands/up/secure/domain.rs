//! The trust domain: makes the root once, and renews the certificates of all workloads.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hermesh_mesh::identity::SpiffeId;
use hermesh_mesh::issuer::{Directory, Files, Keeper};
use hermesh_mesh::{Clock as _, SystemClock};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Lifetime of certificates.
const LIFETIME: Duration = HOUR;
/// Lifetime of the root: ten years.
const ROOT_LIFETIME: Duration = HOUR.saturating_mul(24 * 3650);
/// Host names in the certificates, for clients that check them, such as Prometheus.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// Directory of the root; `hermesh-issuer` can use it as well.
const DIRECTORY: &str = "domain";
const IDENTITIES: &str = "identities";

/// A workload's files, in the mesh's directory.
pub(super) fn files(workload: &str) -> Files {
    Files::of(Path::new(IDENTITIES), workload)
}

/// Opens or creates the domain of this name, with a new certificate for each workload.
pub(super) fn open(
    directory: &Path,
    name: &str,
    workloads: impl IntoIterator<Item = String>,
) -> Result<Keeper> {
    let now = SystemClock.now();
    let domain = Directory::new(&directory.join(DIRECTORY));
    let authority = domain.open(name, now, ROOT_LIFETIME).context("the trust domain's root")?;
    let workloads = workloads.into_iter().map(|workload| SpiffeId::new(name, &workload));
    let workloads = workloads.collect::<Result<_, _>>()?;
    let (out, hosts) = (directory.join(IDENTITIES), HOSTS.map(str::to_owned).to_vec());
    let mut keeper = Keeper::new(authority, domain.roots()?, out, workloads, hosts, LIFETIME);
    keeper.renew_if_due(now).failed?;
    Ok(keeper)
}
