//! Writes files atomically: a reader sees a complete file or none, even after a crash. Reads files up to a size limit.

use std::fs::File;
#[cfg(unix)]
use std::fs::Permissions;
use std::io::{Read, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// What to do if the file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Keep,
    /// Replace it.
    Replace,
}

/// Who may read the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Its owner only (mode 600), from creation on.
    Owner,
    /// All users (mode 644), unless the user's umask forbids it.
    Public,
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_bounded(path, limit).map_err(Error::in_file(path))
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("open the file"))?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a larger file is noticed.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::io("read the file"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::FileTooLarge { limit });
    }
    Ok(bytes)
}

/// Writes `bytes` under a temporary name in the same directory, then renames the file. Public files may also be written
/// to devices and pipes, which are not replaced, and through symbolic links to their targets.
pub fn write(path: &Path, bytes: &[u8], audience: Audience, existing: Existing) -> Result<()> {
    let follow = audience == Audience::Public && existing == Existing::Replace;
    let written = match path.metadata() {
        Ok(metadata) if follow && !metadata.is_file() && !metadata.is_dir() => {
            let device = File::options().write(true).open(path);
            device.and_then(|mut device| device.write_all(bytes)).map_err(Error::io("write to it"))
        }
        Ok(_) if follow => path
            .canonicalize()
            .map_err(Error::io("follow the path"))
            .and_then(|path| write_atomically(&path, bytes, audience, existing)),
        _ => write_atomically(path, bytes, audience, existing),
    };
    written.map_err(Error::in_file(path))
}

fn write_atomically(
    path: &Path,
    bytes: &[u8],
    audience: Audience,
    existing: Existing,
) -> Result<()> {
    // Fails early with a clear error; the rename below guarantees it.
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(Error::AlreadyExists);
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = temporary(directory, audience).map_err(Error::io("create the file"))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(Error::io("write the file"))?;
    match existing {
        Existing::Replace => file.persist(path),
        Existing::Keep => file.persist_noclobber(path),
    }
    .map_err(|failure| match failure.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::AlreadyExists,
        _ => Error::io("put the file in its place")(failure.error),
    })?;
    // The rename is durable only after the directory is synced.
    #[cfg(unix)]
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("store the directory"))?;
    Ok(())
}

#[cfg(unix)]
fn temporary(directory: &Path, audience: Audience) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // Set at creation, where the umask can only narrow it.
    let mode = match audience {
        Audience::Owner => 0o600,
        Audience::Public => 0o644,
    };
    Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(directory)
}

#[cfg(not(unix))]
fn temporary(directory: &Path, _audience: Audience) -> std::io::Result<NamedTempFile> {
    Builder::new().tempfile_in(directory)
}
