//! Stores secrets as `age` files encrypted with a passphrase (scrypt), readable by their owner only.
//!
//! The format is plain `age`: `age -d client.key` decrypts the files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use age::{DecryptError, Decryptor, scrypt};
use zeroize::Zeroizing;

use crate::files::{self, Audience, Existing};
use crate::passphrase::Passphrase;
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// Largest secret, in bytes: far above any key, and small enough to hold in memory.
pub const MAX_SECRET: usize = 16 << 20;

/// log2 of scrypt's N for new secrets: 256 MiB and about a second of one core. Fixed rather than
/// calibrated, because a busy machine would calibrate itself to a weak one.
const WORK_FACTOR: u8 = 18;

/// log2 of the largest N accepted from a file: 1 GiB and about four seconds.
const MAX_WORK_FACTOR: u8 = 20;

/// Largest encrypted secret. `age` adds a header of a few hundred bytes, and 16 bytes for every 64 KiB.
const MAX_SEALED: usize = MAX_SECRET + MAX_SECRET / 4096 + 4096;

/// Encrypts a secret with a passphrase. The key derivation takes about a second, to slow down guessing.
pub fn seal(secret: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>> {
    seal_with(WORK_FACTOR, secret, passphrase)
}

fn seal_with(work_factor: u8, secret: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>> {
    if secret.len() > MAX_SECRET {
        return Err(Error::SecretTooLarge { limit: MAX_SECRET });
    }
    let mut recipient = scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(work_factor);
    age::encrypt(&recipient, secret)
        .map_err(|error| Error::io("encrypt the secret")(std::io::Error::other(error)))
}

/// Decrypts what [`seal`] returned; the result is zeroized when dropped.
pub fn open(sealed: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>> {
    if sealed.len() > MAX_SEALED {
        return Err(Error::SecretTooLarge { limit: MAX_SECRET });
    }
    let decryptor = Decryptor::new_buffered(sealed).map_err(refused)?;
    if !decryptor.is_scrypt() {
        return Err(Error::NotASecret { found: "an age file for a key pair" });
    }
    let mut identity = scrypt::Identity::new(passphrase.clone());
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let identity: &dyn age::Identity = &identity;
    let mut reader = decryptor.decrypt(std::iter::once(identity)).map_err(refused)?;
    // The full capacity at once: a growing vector would leave copies that are not zeroized.
    let mut secret = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut secret).map_err(|_| Error::SecretDamaged)?;
    Ok(secret)
}

fn refused(error: DecryptError) -> Error {
    match error {
        DecryptError::ExcessiveWork { required, .. } => {
            Error::ExcessiveWork { accepted: MAX_WORK_FACTOR, found: required }
        }
        DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::NoMatchingKeys => Error::WrongPassphrase,
        DecryptError::InvalidMac => Error::SecretDamaged,
        DecryptError::InvalidHeader | DecryptError::UnknownFormat | DecryptError::Io(_) => {
            Error::NotASecret { found: "something other than an age file" }
        }
    }
}

/// Encrypts a secret into a new file of mode 600.
pub fn write(
    path: &Path,
    secret: &[u8],
    passphrase: &Passphrase,
    existing: Existing,
) -> Result<()> {
    let sealed = seal(secret, passphrase).map_err(Error::in_file(path))?;
    files::write(path, &sealed, Audience::Owner, existing)
}

/// Decrypts the secret in a file. Refuses files that other users can read.
pub fn read(path: &Path, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>> {
    load(path).and_then(|sealed| open(&sealed, passphrase)).map_err(Error::in_file(path))
}

fn load(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("open the file"))?;
    check_private(&file)?;
    let mut sealed = Vec::new();
    file.take(MAX_SEALED as u64 + 1)
        .read_to_end(&mut sealed)
        .map_err(Error::io("read the file"))?;
    Ok(sealed)
}

/// Checks the open file, not the path, so that an attacker cannot swap the file in between.
#[cfg(unix)]
fn check_private(file: &File) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().map_err(Error::io("inspect the file"))?;
    if !metadata.is_file() {
        return Err(Error::NotASecret { found: "something other than a regular file" });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::SecretExposed { mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_file: &File) -> Result<()> {
    Ok(())
}
