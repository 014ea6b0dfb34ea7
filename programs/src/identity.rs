//! The file with the receipt signing key.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hermesh_mesh::SigningKey;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// Forbidden mode bits: no access for others. The group may read, because that is how an orchestrator gives
/// a secret to a process that does not run as root.
const FORBIDDEN: u32 = 0o037;
/// 64 digits and the end of the line; a longer file holds something else.
const MAX_BYTES: u64 = 128;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or created.
    #[error("identity {}: {source}; expected a file that only this user can read, or a directory to make it in", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Other users can read or change the file.
    #[error("identity {}: its mode is {mode:03o}, but only its owner may read or change it; make a new one, or chmod 600 if no other user has read it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("identity {}: expected the 64 hexadecimal digits of an ed25519 seed, and nothing else", .0.display())]
    Malformed(PathBuf),
}

/// Reads the key.
///
/// # Errors
/// There is no file, other users have access to it, or it holds something else.
pub fn read(path: &Path) -> Result<SigningKey, Error> {
    let error = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let mode = file.metadata().map_err(error)?.mode() & 0o777;
    if mode & FORBIDDEN != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    // The full capacity from the start: reallocation would leave copies of the key in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize));
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(error)?;
    let seed = seed(text.trim_ascii()).ok_or_else(|| Error::Malformed(path.to_owned()))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads the key, or creates one if there is no file. If several processes create it at the same time, all
/// get the same key.
///
/// # Errors
/// As [`read`], or the file cannot be created.
pub fn read_or_create(path: &Path) -> Result<SigningKey, Error> {
    match read(path) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
            read(path)
        }
        read => read,
    }
}

fn create(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Write a file with mode 600 in the same directory, then rename it, so that no process reads half a
    // key.
    let mut file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in SigningKey::generate().to_bytes().iter() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        // Another replica was first.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

fn seed(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut seed = Zeroizing::new([0; 32]);
    if text.len() != 2 * seed.len() {
        return None;
    }
    for (byte, pair) in seed.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(seed)
}
