//! Certificates in files that another program, such as cert-manager, or a person keeps up to date.

use std::{path::PathBuf, sync::Arc, time::Duration};

use hermesh_mesh::{Clock, Digest, UnixMillis, issuer::files};
use tokio::time::{Interval, MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::{Identity, SourceError, keep::Kind};

/// Three PEM files of at most 64 KiB each.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, and the intermediates between it and a root.
    pub certificate: PathBuf,
    /// Its key, PKCS #8; only its owner and group may have access.
    pub key: PathBuf,
    /// The roots.
    pub roots: PathBuf,
    /// How often the files are read.
    pub every: Duration,
}

impl Files {
    /// The default of [`Files::every`].
    pub const EVERY: Duration = Duration::from_secs(1);
}

/// Polls the contents: an orchestrator swaps symbolic links, which changes neither names nor times of the
/// files.
pub(super) struct Polled {
    files: Arc<Files>,
    clock: Arc<dyn Clock>,
    interval: Interval,
    /// The digest of the last contents that were valid.
    seen: Option<Digest>,
}

impl Polled {
    pub(super) fn new(files: Files, clock: Arc<dyn Clock>) -> Self {
        // An interval of zero would spin.
        let mut interval = interval(files.every.max(Duration::from_millis(10)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { files: Arc::new(files), clock, interval, seen: None }
    }
}

impl Kind for Polled {
    async fn next(&mut self, _: Option<&Identity>) -> Result<Identity, SourceError> {
        loop {
            self.interval.tick().await;
            let files = self.files.clone();
            let seen = self.seen.take();
            let contents = blocking(move || Contents::read(&files)).await?;
            let digest = contents.digest();
            if seen == Some(digest) {
                self.seen = seen;
                continue;
            }
            let identity = contents.identity(&self.files, self.clock.now())?;
            self.seen = Some(digest);
            return Ok(identity);
        }
    }
}

struct Contents {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    roots: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn read(files: &Files) -> Result<Self, SourceError> {
        let told = |path: &PathBuf| {
            let path = path.clone();
            move |source| SourceError::File { path, source }
        };
        Ok(Self {
            certificate: files::read(&files.certificate).map_err(told(&files.certificate))?,
            key: files::read_secret(&files.key).map_err(told(&files.key))?,
            roots: files::read(&files.roots).map_err(told(&files.roots))?,
        })
    }

    fn digest(&self) -> Digest {
        let each = [&self.certificate, &self.key, &self.roots].map(|bytes| Digest::of(bytes).0);
        Digest::of(each.as_flattened())
    }

    fn identity(&self, files: &Files, now: UnixMillis) -> Result<Identity, SourceError> {
        Identity::from_pem(&self.certificate, &self.key, &self.roots, now).map_err(|source| {
            let [certificate, key, roots] =
                [&files.certificate, &files.key, &files.roots].map(|path| path.display());
            let from = format!("{certificate} with {key} under {roots}");
            SourceError::Certificate { from, source }
        })
    }
}

/// Runs work that waits for a disk on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
