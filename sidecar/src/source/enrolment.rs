//! Certificates from hermesh's issuer: a join token gets the first one, which then authenticates its
//! renewals.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hermesh_mesh::{
    Clock, UnixMillis,
    identity::{Credentials, SpiffeId, Trust},
    issuer::{
        KeyAndRequest, Token,
        files::{self, Existing},
    },
};
use zeroize::Zeroizing;

use super::{Identity, SourceError, backoff::Backoff, files::blocking, keep::Kind};
use crate::issuer::{Answer, Ask, CertificateAuthority};

/// The longest sleep, so that a jump of the clock or a suspended machine is noticed.
const NAP: Duration = Duration::from_secs(60);
/// The file that holds key, certificate and roots: one file, so that they always belong together.
const FILE: &str = "identity.pem";
/// The line before the roots in that file.
const ROOTS: &str = "# The roots:\n";

/// How to enrol.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The issuer, `HOST:PORT`.
    pub address: String,
    /// The roots that authenticate the issuer at first.
    pub roots: PathBuf,
    /// The workload to enrol as.
    pub identity: SpiffeId,
    /// The file with the join token; it may be deleted once there is a certificate.
    pub token: Option<PathBuf>,
    /// Where key and certificate are kept.
    pub directory: PathBuf,
}

pub(super) struct Enrolled<A> {
    options: Enrolment,
    authority: A,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    looked: bool,
}

impl<A: CertificateAuthority> Enrolled<A> {
    pub(super) fn new(options: Enrolment, authority: A, clock: Arc<dyn Clock>) -> Self {
        Self { options, authority, clock, backoff: Backoff::default(), looked: false }
    }

    async fn attempt(&self, current: Option<&Identity>) -> Result<Identity, SourceError> {
        let valid = current.filter(|current| self.clock.now() < current.expires());
        // Check the directory before the token is used up: a certificate that cannot be stored would be
        // lost.
        let directory = self.options.directory.clone();
        blocking(move || files::create_directory(&directory).map_err(file(&directory))).await?;
        let how = match valid {
            Some(current) => How::renew(current),
            None => {
                let options = self.options.clone();
                blocking(move || How::join(&options)).await?
            }
        };
        let asked = KeyAndRequest::generate(&self.options.identity).map_err(answered)?;
        let How { trust, credentials, token } = how;
        let ask = Ask { trust, credentials, csr: asked.request.clone(), token };
        let answer = self.authority.certificate(ask).await?;
        let identity = self.identity(&answer, &asked.key)?;
        self.store(&answer, &asked.key).await;
        Ok(identity)
    }

    fn identity(&self, answer: &Answer, key: &str) -> Result<Identity, SourceError> {
        let (chain, roots) = (answer.certificate.as_bytes(), answer.roots.as_bytes());
        let identity = Identity::from_pem(chain, key.as_bytes(), roots, self.clock.now());
        self.own(identity.map_err(answered)?)
    }

    fn own(&self, identity: Identity) -> Result<Identity, SourceError> {
        if *identity.id() == self.options.identity {
            return Ok(identity);
        }
        let expected = self.options.identity.clone();
        Err(SourceError::Changed { got: identity.id().clone(), expected })
    }

    async fn store(&self, answer: &Answer, key: &str) {
        let parts = [key, "\n", &answer.certificate, "\n", ROOTS, &answer.roots];
        let room = parts.iter().map(|part| part.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.extend(parts);
        let path = self.options.directory.join(FILE);
        let stored = path.clone();
        let written =
            blocking(move || files::write_secret(&stored, text.as_bytes(), Existing::Replace))
                .await;
        if let Err(error) = written {
            // The certificate works until the next start, which will need a new token.
            tracing::error!(%error, path = %path.display(), "the new certificate is not stored");
        }
    }

    /// Reads what an earlier process stored.
    async fn stored(&self) -> Result<Identity, SourceError> {
        let path = self.options.directory.join(FILE);
        let (stored, now) = (path.clone(), self.clock.now());
        let bytes = blocking(move || files::read_secret(&stored)).await.map_err(file(&path))?;
        self.own(read(&bytes, now).map_err(|source| SourceError::Certificate {
            from: path.display().to_string(),
            source,
        })?)
    }
}

impl<A: CertificateAuthority> Kind for Enrolled<A> {
    async fn next(&mut self, current: Option<&Identity>) -> Result<Identity, SourceError> {
        if !std::mem::replace(&mut self.looked, true) {
            match self.stored().await {
                Err(SourceError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                stored => return stored,
            }
        }
        if let Some(current) = current {
            let due = half(current);
            loop {
                let left = self.clock.now().until(due);
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(NAP)).await;
            }
        }
        self.backoff.wait().await;
        let attempt = self.attempt(current).await;
        match attempt {
            Ok(_) => self.backoff.reset(),
            Err(_) => self.backoff.failed(),
        }
        attempt
    }
}

/// The proof for the issuer, and the roots that authenticate it.
struct How {
    trust: Trust,
    credentials: Option<Credentials>,
    token: Option<Token>,
}

impl How {
    fn renew(current: &Identity) -> Self {
        let credentials = Some(current.credentials.clone());
        Self { trust: current.trust.clone(), credentials, token: None }
    }

    fn join(options: &Enrolment) -> Result<Self, SourceError> {
        let roots = files::read(&options.roots).map_err(file(&options.roots))?;
        let trust = Trust::from_pem(options.identity.trust_domain(), &roots);
        let trust = trust.map_err(|source| SourceError::Certificate {
            from: options.roots.display().to_string(),
            source,
        })?;
        let path = options.token.as_ref().ok_or(SourceError::NoToken)?;
        let text = files::read_secret(path).map_err(file(path))?;
        let token = str::from_utf8(text.trim_ascii()).unwrap_or_default().parse();
        let token = token.map_err(|source| SourceError::Token { path: path.clone(), source })?;
        Ok(Self { trust, credentials: None, token: Some(token) })
    }
}

/// The middle of a certificate's life.
fn half(identity: &Identity) -> UnixMillis {
    let peer = identity.credentials.peer();
    peer.not_before.plus(peer.not_before.until(peer.not_after) / 2)
}

fn read(
    bytes: &[u8],
    now: UnixMillis,
) -> Result<Identity, hermesh_mesh::identity::CertificateError> {
    let place = bytes.windows(ROOTS.len()).position(|window| window == ROOTS.as_bytes());
    let (own, roots) = bytes.split_at(place.unwrap_or(bytes.len()));
    Identity::from_pem(own, own, roots, now)
}

fn file(path: &Path) -> impl Fn(io::Error) -> SourceError {
    |source| SourceError::File { path: path.to_owned(), source }
}

fn answered(source: hermesh_mesh::identity::CertificateError) -> SourceError {
    SourceError::Certificate { from: "the issuer's reply".to_owned(), source }
}
