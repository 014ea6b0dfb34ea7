//! Key rotation. A new pair is made in `next/` and replaces the current one once the mesh has accepted it. The replaced
//! secret stays in `old/`, named after its evaluation key, to decrypt answers that are still outstanding.
//!
//! A crash leaves one of three states: nothing in `next/` (not begun), a pair (continue with its upload), or an
//! evaluation key without its secret (the secret is installed already).

use std::fs;
use std::path::{Path, PathBuf};

use hermesh_mesh::Digest;

use super::{KeyDirectory, Secret};
use crate::files::{self, Audience, Existing};
use crate::passphrase::Passphrase;
use crate::{Error, Result};

/// Largest encrypted secret file, in bytes.
const MAX_SECRET: u64 = 4 << 20;

impl KeyDirectory {
    /// The directory of the next pair until it is uploaded.
    pub fn next(&self) -> Self {
        Self(self.0.join("next"))
    }

    /// True if both keys exist.
    pub fn is_complete(&self) -> bool {
        self.client_key().is_file() && self.evaluation_key().is_file()
    }

    fn old(&self, key: Digest) -> PathBuf {
        self.0.join("old").join(format!("{key}.key"))
    }

    /// The secret that belongs to an evaluation key: the current one or a replaced one.
    ///
    /// # Errors
    /// [`Error::NoSecretFor`], or the file cannot be decrypted.
    pub fn read_secret_for(&self, key: Digest, passphrase: &Passphrase) -> Result<Secret> {
        let current = self.read_secret(passphrase)?;
        if current.client.evaluation_key() == key.0 {
            return Ok(current);
        }
        let old = self.old(key);
        if !old.is_file() {
            return Err(Error::NoSecretFor { key });
        }
        Self::read_secret_at(&old, passphrase)
    }

    /// The evaluation keys whose secrets were replaced.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn replaced(&self) -> Result<Vec<Digest>> {
        let directory = self.0.join("old");
        let names = match fs::read_dir(&directory) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::in_file(&directory)(Error::io("read the directory")(error)));
            }
        };
        let digest = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".key")?.parse().ok();
        Ok(names.filter_map(|entry| digest(entry.ok()?.file_name())).collect())
    }

    /// Replaces the current pair by the pair in `next/`, and moves the current secret to `old/`, named by the digest of
    /// its evaluation key.
    ///
    /// # Errors
    /// A file cannot be written or moved; a second call continues from there.
    pub fn install_next(&self, replaced: Digest) -> Result<()> {
        let next = self.next();
        if next.client_key().is_file() {
            let old = self.old(replaced);
            let bytes = files::read(&self.client_key(), MAX_SECRET)?;
            create(&self.0.join("old"))?;
            files::write(&old, &bytes, Audience::Owner, Existing::Replace)?;
            rename(&next.client_key(), &self.client_key())?;
        }
        self.finish_install()
    }

    /// Completes an installation that was interrupted after the secret was installed.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub fn finish_install(&self) -> Result<()> {
        let next = self.next();
        if !next.client_key().exists() && next.evaluation_key().is_file() {
            rename(&next.evaluation_key(), &self.evaluation_key())?;
            // Fails, and keeps the directory, if it holds files that hermesh did not write.
            let _ = fs::remove_dir(&next.0);
        }
        Ok(())
    }
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .map_err(Error::io("create the directory"))
        .map_err(Error::in_file(directory))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("put the key in its place")).map_err(Error::in_file(to))
}
