//! Parts common to all hermesh files: a format version, which is checked first, and a digest at the end, which detects
//! damage.
//!
//! The digest is not a signature. It detects changes by a disk, a copy or an interrupted download. An attacker who
//! alters a file computes a new digest. Files that must not be forged are signed (jobs, receipts) or encrypted and
//! authenticated under a passphrase (keys).

use crate::Error;
use sha2::{Digest as _, Sha256};

/// Length of the digest, the first half of a SHA-256. A damaged file passes with probability 2⁻¹²⁸.
pub const DIGEST_BYTES: usize = 16;

/// The versions of a format that this build reads, and the advice for other versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Oldest version that is read.
    pub oldest: u32,
    /// Newest version that is read, and the version that is written.
    pub newest: u32,
    /// For older versions: the last release of hermesh that reads them.
    pub readers: &'static [(u32, &'static str)],
    /// How to recreate the file, as an instruction: "run `hermesh compile` again".
    pub again: &'static str,
}

impl Format {
    /// Accepts the versions that this build reads. `what` names the file in the error: "the model file".
    ///
    /// # Errors
    /// [`Error::WrongVersion`] with the hermesh release that reads the file and how to recreate it.
    pub fn check(&self, what: &'static str, found: u32) -> Result<(), Error> {
        match (self.oldest..=self.newest).contains(&found) {
            true => Ok(()),
            false => {
                Err(Error::WrongVersion { what, version: OtherVersion { found, format: *self } })
            }
        }
    }
}

/// A format version that this build does not read. Its text is the same for every kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherVersion {
    /// The version in the file.
    pub found: u32,
    /// The versions that this build reads.
    pub format: Format,
}

impl std::fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { found, format: Format { oldest, newest, readers, again } } = *self;
        let older = found < oldest;
        let age = if older { "an older" } else { "a newer" };
        write!(f, "it was written by {age} hermesh (format {found}")?;
        if let Some((_, release)) = readers.iter().find(|(version, _)| *version == found) {
            write!(f, "; hermesh {release} reads it")?;
        }
        match oldest == newest {
            true => write!(f, "); this one reads format {newest}: ")?,
            false => write!(f, "); this one reads formats {oldest} to {newest}: ")?,
        }
        match older {
            true => f.write_str(again),
            false => write!(f, "update hermesh, or {again}"),
        }
    }
}

/// Bytes whose digest matches.
pub(crate) struct Checked<'a> {
    /// Without the digest.
    pub(crate) content: &'a [u8],
    /// SHA-256 state after content and digest. Finalising it gives the file's identifier, so large keys are hashed
    /// once.
    pub(crate) state: Sha256,
}

pub(crate) fn checked(bytes: &[u8]) -> Option<Checked<'_>> {
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    let mut state = Sha256::new_with_prefix(content);
    if state.clone().finalize()[..DIGEST_BYTES] != *digest {
        return None;
    }
    state.update(digest);
    Some(Checked { content, state })
}

/// Appends the digest of `bytes`. Returns the SHA-256 of the result, so that large keys are hashed once.
pub(crate) fn seal(bytes: &mut Vec<u8>) -> crate::Digest {
    let mut state = Sha256::new_with_prefix(&bytes);
    let digest = state.clone().finalize();
    state.update(&digest[..DIGEST_BYTES]);
    bytes.extend_from_slice(&digest[..DIGEST_BYTES]);
    state.finalize().into()
}

/// Appends the digest of `bytes`.
#[must_use]
pub fn append_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    seal(&mut bytes);
    bytes
}

/// Checks the digest that [`append_digest`] appended, and returns the bytes before it.
///
/// # Errors
/// [`Error::Damaged`] with `what` (which file: "the model file") and `mend` (what to do).
pub fn check_digest<'a>(
    bytes: &'a [u8],
    what: &'static str,
    mend: &'static str,
) -> Result<&'a [u8], Error> {
    checked(bytes).map(|checked| checked.content).ok_or(Error::Damaged { what, mend })
}

/// Replaces the digest of bytes that were altered on purpose, for tests and fuzzing of the decoders.
#[doc(hidden)]
#[must_use]
pub fn mend_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(DIGEST_BYTES));
    append_digest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format =
        Format { oldest: 4, newest: 4, readers: &[(3, "0.1.0")], again: "make it again" };

    #[test]
    fn other_versions_are_explained() {
        assert_eq!(FORMAT.check("the file", 4), Ok(()));
        let said = |format: Format, found| format.check("the file", found).unwrap_err().to_string();
        assert_eq!(
            said(FORMAT, 3),
            "cannot read the file: it was written by an older hermesh (format 3; hermesh 0.1.0 reads it); this one \
             reads format 4: make it again"
        );
        assert_eq!(
            said(FORMAT, 2),
            "cannot read the file: it was written by an older hermesh (format 2); this one reads format 4: make it \
             again"
        );
        assert_eq!(
            said(Format { oldest: 1, ..FORMAT }, 5),
            "cannot read the file: it was written by a newer hermesh (format 5); this one reads formats 1 to 4: \
             update hermesh, or make it again"
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = append_digest(b"content".to_vec());
        assert_eq!(check_digest(&good, "it", "mend it"), Ok(&b"content"[..]));
        assert_eq!(mend_digest(good.clone()), good);
        for bit in 0..8 * good.len() {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let refused = check_digest(&damaged, "it", "mend it");
            assert_eq!(refused, Err(Error::Damaged { what: "it", mend: "mend it" }), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(check_digest(&good[..length], "it", "mend it").is_err());
        }
    }

    #[test]
    fn the_name_of_a_file_is_the_digest_of_all_of_it() {
        let mut bytes = b"content".to_vec();
        let name = seal(&mut bytes);
        assert_eq!(name, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(checked(&bytes).unwrap().state.finalize()[..], name);
    }
}
