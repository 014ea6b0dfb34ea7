//! The files of an issuer.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Authority, OWN, SKEW, TokenError, Tokens,
    files::{self, Existing},
};
use crate::{
    UnixMillis,
    identity::{CertificateError, SpiffeId},
};

/// Why the files cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a root, which is not overwritten.
    #[error("{} is there already; expected a directory without a root. Whoever trusts the old root would not trust a new one: move it away if that is what you want", .0.display())]
    Exists(PathBuf),
    /// No domain of trust has this name.
    #[error(
        "{0:?} is no trust domain; expected a name of a-z, 0-9, '.', '-' and '_' such as hermesh.local"
    )]
    Domain(String),
    /// The root is that of another domain.
    #[error("the root in {} is of the trust domain {found}; expected {expected}", .path.display())]
    Other {
        /// Where the root is.
        path: PathBuf,
        /// Its domain.
        found: String,
        /// The one that was asked for.
        expected: String,
    },
    /// The root is none.
    #[error("{}: {source}", .path.display())]
    Root {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: CertificateError,
    },
    /// The tokens cannot be had.
    #[error(transparent)]
    Tokens(#[from] TokenError),
}

/// An issuer's directory: `root.pem` and `root-key.pem`, which sign; `roots.pem`, which workloads are to
/// trust, older roots among them; `tokens/`, the join tokens that have not been used.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at a path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes a root there, unless there is one, that is good from now on for so long.
    ///
    /// # Errors
    /// There is one; the domain is none; the files cannot be written.
    pub fn init(
        &self,
        domain: &str,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Authority, DirectoryError> {
        let from = UnixMillis(now.0.saturating_sub(SKEW.as_millis() as u64));
        let until = now.plus(lifetime);
        SpiffeId::new(domain, OWN).map_err(|_| DirectoryError::Domain(domain.to_owned()))?;
        let certificate = self.path("root.pem");
        let authority = Authority::create(domain, from, until)
            .map_err(|source| DirectoryError::Root { path: certificate.clone(), source })?;
        files::create_directory(&self.0).map_err(at(&self.0))?;
        let (key, certificate) = (authority.key(), authority.certificate().as_bytes());
        if self.path("root.pem").exists() {
            return Err(DirectoryError::Exists(self.path("root.pem")));
        }
        self.write("root-key.pem", key.as_bytes(), files::write_secret)?;
        self.write("roots.pem", certificate, files::write)?;
        // The last: with it the root is complete.
        self.write("root.pem", certificate, files::write)?;
        Ok(authority)
    }

    /// The root that is there, or else a new one as of [`Directory::init`].
    ///
    /// # Errors
    /// It is that of another domain; it cannot be read, or made.
    pub fn open(
        &self,
        domain: &str,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Authority, DirectoryError> {
        if !self.path("root.pem").exists() {
            return self.init(domain, now, lifetime);
        }
        let authority = self.authority()?;
        match authority.domain() == domain {
            true => Ok(authority),
            false => Err(DirectoryError::Other {
                path: self.0.clone(),
                found: authority.domain().to_owned(),
                expected: domain.to_owned(),
            }),
        }
    }

    /// The root.
    ///
    /// # Errors
    /// There is none.
    pub fn authority(&self) -> Result<Authority, DirectoryError> {
        let (path, key_path) = (self.path("root.pem"), self.path("root-key.pem"));
        let certificate = files::read(&path).map_err(at(&path))?;
        let key = files::read_secret(&key_path).map_err(at(&key_path))?;
        // What is no text is no PEM either.
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
        Authority::from_pem(text(&certificate), text(&key))
            .map_err(|source| DirectoryError::Root { path, source })
    }

    /// The roots that workloads are to trust, in PEM.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn roots(&self) -> Result<Vec<u8>, DirectoryError> {
        let path = self.path("roots.pem");
        files::read(&path).map(|bytes| bytes.to_vec()).map_err(at(&path))
    }

    /// The join tokens.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn tokens(&self) -> Result<Tokens, DirectoryError> {
        Ok(Tokens::open(&self.path("tokens"))?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(
        &self,
        name: &str,
        bytes: &[u8],
        write: fn(&Path, &[u8], Existing) -> io::Result<()>,
    ) -> Result<(), DirectoryError> {
        let path = self.path(name);
        write(&path, bytes, Existing::Replace).map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> DirectoryError {
    |source| DirectoryError::File { path: path.to_owned(), source }
}
