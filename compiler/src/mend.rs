//! Recomputes the digests of an altered model file, for tests and fuzzing.

use hermesh_engine::artifact::{DIGEST_BYTES, mend_digest};

/// Magic, version and kind.
const HEADER_BYTES: usize = 7;

/// Recomputes the digests of a model file that was altered on purpose, that of its program and its own, for tests and
/// fuzzing of the decoders.
#[must_use]
pub fn mend_digests(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(program) = program(&file) {
        let mended = mend_digest(file[program.clone()].to_vec());
        file[program].copy_from_slice(&mended);
    }
    mend_digest(file)
}

/// The bytes of the program. It follows its length, which follows the header.
fn program(file: &[u8]) -> Option<std::ops::Range<usize>> {
    let (length, rest) = postcard::take_from_bytes::<u64>(file.get(HEADER_BYTES..)?).ok()?;
    let (start, length) = (file.len() - rest.len(), usize::try_from(length).ok()?);
    (DIGEST_BYTES..=rest.len()).contains(&length).then(|| start..start + length)
}
