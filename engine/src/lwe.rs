//! Lists of LWE ciphertexts: `dimension + 1` coefficients of 32 bits each, the body last.
//!
//! Fresh and bootstrapped ciphertexts have noise far above 2⁻³², so 32 bits per coefficient lose nothing, and linear
//! operators run twice as fast on half the memory.

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

/// Rounds a torus element scaled by 2⁶⁴ to the nearest multiple of 2⁻³², scaled by 2³².
pub(crate) fn round(value: u64) -> u32 {
    (value.wrapping_add(1 << 31) >> 32) as u32
}
