//! LWE ciphertexts as they travel: lists of `dimension + 1` coefficients of 32 bits, the body last.
//!
//! Fresh and bootstrapped ciphertexts have noise far above 2⁻³², so nothing is lost by keeping 32
//! bits of each coefficient, and everything linear runs twice as fast on half the memory.

/// A list of ciphertexts of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LweList {
    pub(crate) dimension: usize,
    pub(crate) data: Vec<u32>,
}

impl LweList {
    pub(crate) fn width(&self) -> usize {
        self.dimension + 1
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len() / self.width()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.data.chunks_exact(self.width())
    }
}

/// The nearest multiple of 2⁻³² of the torus.
pub(crate) fn round(value: u64) -> u32 {
    (value.wrapping_add(1 << 31) >> 32) as u32
}
