//! Renewal of certificate files by the process that has the root, for workloads that do not renew by themselves.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Authority, IssuerError,
    files::{self, Existing},
    grant,
};
use crate::{
    UnixMillis,
    identity::{CertificateError, SpiffeId},
};

/// Why a workload has no new certificate. Its previous certificate is still in place.
#[derive(Debug, thiserror::Error)]
#[error("cannot renew the certificate of {workload}: {why}")]
pub struct KeepError {
    workload: SpiffeId,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
}

/// The files of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its certificate and intermediate certificates, leaf first, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM; only its user can read it.
    pub key: PathBuf,
    /// The roots that it trusts, in PEM.
    pub roots: PathBuf,
}

impl Files {
    /// The files of `workload` (KIND/NAME) below `directory`.
    pub fn of(directory: &Path, workload: &str) -> Self {
        let file = |name| directory.join(workload).join(name);
        Self {
            certificate: file("certificate.pem"),
            key: file("key.pem"),
            roots: file("roots.pem"),
        }
    }
}

/// The result of a renewal.
#[derive(Debug)]
#[must_use]
pub struct Renewed {
    /// Number of new certificates.
    pub certificates: usize,
    /// The first failure among the due certificates.
    pub failed: Result<(), KeepError>,
}

/// Renews certificates after half of their lifetime.
#[derive(Debug)]
pub struct Keeper {
    authority: Authority,
    /// In PEM.
    roots: Vec<u8>,
    directory: PathBuf,
    /// Each workload, and when its certificate was issued.
    workloads: Vec<(SpiffeId, Option<UnixMillis>)>,
    hosts: Vec<String>,
    lifetime: Duration,
}

impl Keeper {
    /// A keeper for these workloads, whose files are below `directory`. All certificates are due at first. `hosts` are
    /// the names and addresses of the workloads.
    pub fn new(
        authority: Authority,
        roots: Vec<u8>,
        directory: PathBuf,
        workloads: Vec<SpiffeId>,
        hosts: Vec<String>,
        lifetime: Duration,
    ) -> Self {
        let workloads = workloads.into_iter().map(|workload| (workload, None)).collect();
        Self { authority, roots, directory, workloads, hosts, lifetime }
    }

    /// Renews the certificates that are due. A failure of one does not stop the others.
    pub fn renew_if_due(&mut self, now: UnixMillis) -> Renewed {
        let mut renewed = Renewed { certificates: 0, failed: Ok(()) };
        for index in 0..self.workloads.len() {
            let (workload, since) = &self.workloads[index];
            // A certificate from the future was issued while the clock was wrong; it is due.
            let fresh =
                since.is_some_and(|since| (since..since.plus(self.lifetime / 2)).contains(&now));
            if fresh {
                continue;
            }
            match self.renew(workload, now) {
                Ok(()) => {
                    self.workloads[index].1 = Some(now);
                    renewed.certificates += 1;
                }
                Err(why) if renewed.failed.is_ok() => {
                    renewed.failed = Err(KeepError { workload: workload.clone(), why });
                }
                Err(_) => {}
            }
        }
        renewed
    }

    fn renew(&self, workload: &SpiffeId, now: UnixMillis) -> Result<(), Why> {
        let (id, hosts) = (workload.clone(), self.hosts.clone());
        let grant = grant(&self.authority, id, hosts, now, self.lifetime)?;
        let (key, chain) = self.authority.key_and_chain(&grant)?;
        let chain = files::to_pem(chain.certificates());
        let Files { certificate, key: key_file, roots } =
            Files::of(&self.directory, workload.workload());
        let own = self.directory.join(workload.workload());
        files::create_directory(&own).map_err(at(&own))?;
        files::write_secret(&key_file, key.as_bytes(), Existing::Replace).map_err(at(&key_file))?;
        files::write(&certificate, chain.as_bytes(), Existing::Replace)
            .map_err(at(&certificate))?;
        files::write(&roots, &self.roots, Existing::Replace).map_err(at(&roots))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Why {
    |source| Why::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::identity::{Credentials, Purpose, Trust};

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const WORKLOAD: &str = "service/evaluation";

    #[test]
    fn certificates_are_renewed_at_half_of_their_life() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::create("hermesh.local", NOW, NOW.plus(100 * HOUR));
        let authority = authority.expect("a root");
        let root = authority.certificate().as_bytes().to_vec();
        let workload = SpiffeId::new("hermesh.local", WORKLOAD).expect("a name");
        let (below, hosts) = (directory.path().to_owned(), vec!["localhost".to_owned()]);
        let mut keeper = Keeper::new(authority, root, below, vec![workload], hosts, HOUR);
        let Files { certificate, key, roots } = Files::of(directory.path(), WORKLOAD);
        let read = |now| {
            let file = |path| fs::read(path).expect("is there");
            let found = Credentials::from_pem(&file(&certificate), &file(&key)).expect("fits");
            let trust = Trust::from_pem("hermesh.local", &file(&roots)).expect("roots");
            trust.verify(found.chain(), Purpose::Client, now).expect("is valid");
            found
        };

        assert!(keeper.renew_if_due(UnixMillis(0)).failed.is_err(), "before the root");
        let mut renewed = |now| {
            let renewed = keeper.renew_if_due(now);
            renewed.failed.expect("has no reason to fail");
            renewed.certificates
        };
        assert_eq!(renewed(NOW), 1);
        let first = read(NOW);
        assert_eq!(first.id().workload(), WORKLOAD);
        assert_eq!(fs::metadata(&key).expect("is there").permissions().mode() & 0o777, 0o600);

        let half = NOW.plus(HOUR / 2);
        assert_eq!(renewed(UnixMillis(half.0 - 1)), 0);
        assert_eq!(read(NOW).chain(), first.chain());
        assert_eq!(renewed(half), 1);
        assert_ne!(read(half).chain(), first.chain());
        // The clock was wrong: certificates from the future are renewed now.
        assert_eq!(renewed(UnixMillis(half.0 - 1)), 1);
    }

    #[test]
    fn who_cannot_have_a_certificate_keeps_nobody_else_from_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::create("hermesh.local", NOW, NOW.plus(100 * HOUR));
        let authority = authority.expect("a root");
        let root = authority.certificate().as_bytes().to_vec();
        let names = ["tenant/acme", "service/a", "service/b"];
        let workloads = names.map(|name| SpiffeId::new("hermesh.local", name).expect("a name"));
        // A file in place of the directory makes renewal fail for acme only.
        fs::write(directory.path().join("tenant"), "").expect("writes");
        let below = directory.path().to_owned();
        let mut keeper = Keeper::new(authority, root, below, workloads.into(), vec![], HOUR);
        let files = || ["service/a", "service/b"].map(|it| Files::of(directory.path(), it).key);
        let read = || files().map(|file| fs::read(file).expect("is there"));

        let renewed = keeper.renew_if_due(NOW);
        let failed = renewed.failed.expect_err("acme has none").to_string();
        assert!(failed.contains("tenant/acme"), "{failed}");
        assert_eq!(renewed.certificates, 2);
        let first = read();
        assert!(keeper.renew_if_due(NOW).failed.is_err());
        assert_eq!(read(), first, "not again before they are due");
        fs::remove_file(directory.path().join("tenant")).expect("removes");
        let renewed = keeper.renew_if_due(NOW);
        assert!(renewed.failed.is_ok() && renewed.certificates == 1, "{renewed:?}");
        assert_eq!(read(), first);
    }
}
