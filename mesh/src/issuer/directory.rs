//! The issuer's directory and its files.

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

/// Errors of an issuer's directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is already a root; it is not overwritten.
    #[error("{} is there already; expected a directory without a root. Workloads that trust the old root would not trust a new one; to replace it all the same, move it away", .0.display())]
    Exists(PathBuf),
    /// The trust domain's name is not valid.
    #[error(
        "{0:?} is not a trust domain; expected a name of a-z, 0-9, '.', '-' and '_' such as hermesh.local"
    )]
    Domain(String),
    /// The root belongs to another trust domain.
    #[error("the root in {} belongs to trust domain {found}; expected {expected}", .path.display())]
    Other {
        /// Where the root is.
        path: PathBuf,
        /// The root's domain.
        found: String,
        /// The requested domain.
        expected: String,
    },
    /// The file does not contain a usable root.
    #[error("{}: {source}", .path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: CertificateError,
    },
    /// The join tokens cannot be read or written.
    #[error(transparent)]
    Tokens(#[from] TokenError),
}

/// An issuer's directory. It contains `root.pem` and `root-key.pem`, which sign certificates; `roots.pem`, the roots
/// that workloads trust, including older ones; and `tokens/`, the unused join tokens.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at a path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Creates a root that is valid from now for `lifetime`, unless the directory already has one.
    ///
    /// # Errors
    /// The directory already has a root, the domain's name is not valid, or the files cannot be written.
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
        // Written last: this file makes the root complete.
        self.write("root.pem", certificate, files::write)?;
        Ok(authority)
    }

    /// Reads the root or, if there is none, creates one as [`Directory::init`] does.
    ///
    /// # Errors
    /// The root belongs to another domain, or cannot be read or created.
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

    /// Reads the root.
    ///
    /// # Errors
    /// There is no usable root.
    pub fn authority(&self) -> Result<Authority, DirectoryError> {
        let (path, key_path) = (self.path("root.pem"), self.path("root-key.pem"));
        let certificate = files::read(&path).map_err(at(&path))?;
        let key = files::read_secret(&key_path).map_err(at(&key_path))?;
        // Bytes that are not UTF-8 are not PEM either.
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
        Authority::from_pem(text(&certificate), text(&key))
            .map_err(|source| DirectoryError::Root { path, source })
    }

    /// The roots that workloads trust, in PEM.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn roots(&self) -> Result<Vec<u8>, DirectoryError> {
        let path = self.path("roots.pem");
        files::read(&path).map(|bytes| bytes.to_vec()).map_err(at(&path))
    }

    /// The unused join tokens.
    ///
    /// # Errors
    /// The directory cannot be read or created.
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
