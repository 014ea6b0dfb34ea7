//! Files that hold secrets and certificates.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::pki_types::CertificateDer;
use tempfile::Builder;
use zeroize::Zeroizing;

/// The largest certificate, key or token file, in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Permission bits that a secret must not have. Group read is allowed, because orchestrators use it to hand secrets to
/// processes that do not run as root.
const FORBIDDEN: u32 = 0o037;

/// Reads a file of at most [`MAX_BYTES`].
///
/// # Errors
/// Errors of the system, or [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let room = file.metadata()?.len().min(MAX_BYTES as u64) as usize + 1;
    // Reserved in full from the start, so that growing leaves no copy of the secret in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        let expected = "expected at most 64 KiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, expected));
    }
    Ok(bytes)
}

/// Reads a secret file.
///
/// # Errors
/// As [`read`], or [`io::ErrorKind::PermissionDenied`] if other users can read or change it.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & FORBIDDEN != 0 {
        let told = format!(
            "its mode is {mode:03o}; expected a file that other users cannot read or change (chmod 600)"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
    }
    read(path)
}

/// Creates a directory that only this user can enter, unless it exists.
///
/// # Errors
/// Errors of the system.
pub fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What to do if the file already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Replace it.
    Replace,
    /// Keep it and return an error.
    Keep,
}

/// Writes a file that every user can read. The write is atomic, even across a crash.
///
/// # Errors
/// Errors of the system; [`io::ErrorKind::AlreadyExists`] if an existing file is kept.
pub fn write(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    write_as(0o644, path, bytes, existing)
}

/// Writes a file that only this user can read and write; otherwise like [`write()`].
///
/// # Errors
/// As [`write()`].
pub fn write_secret(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    write_as(0o600, path, bytes, existing)
}

fn write_as(mode: u32, path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let parent = parent(path);
    let mut file = Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Replace => file.persist(path)?,
        Existing::Keep => file.persist_noclobber(path)?,
    };
    sync_directory(parent)
}

/// Removes a file durably. Of several concurrent callers, one succeeds.
///
/// # Errors
/// Errors of the system; [`io::ErrorKind::NotFound`] if another caller was first.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory(parent(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Encodes certificates as PEM, in order.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut text = &BASE64_STANDARD.encode(certificate)[..];
        while !text.is_empty() {
            let (line, rest) = text.split_at(text.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            text = rest;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}
