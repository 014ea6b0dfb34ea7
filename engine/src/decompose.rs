//! Signed gadget decomposition of ciphertext coefficients into small integers.

use crate::parameters::Decomposition;
use tfhe::core_crypto::prelude::*;

/// Decomposes each coefficient c, scaled by 2⁶⁴, into `levels` signed digits dᵢ in [−B/2, B/2] with B = 2^`base_log`,
/// such that c ≈ Σᵢ dᵢ · 2⁶⁴/Bⁱ (i = 1 … `levels`), to the nearest multiple of 2⁶⁴/B^`levels`. The digits are in the
/// order in which `tfhe` stores the levels of its keys, least digit (i = `levels`) first.
pub(crate) fn digits(
    decomposition: Decomposition,
    coefficients: impl Iterator<Item = u64>,
) -> Vec<i32> {
    let decomposer = SignedDecomposer::<u64>::new(
        DecompositionBaseLog(decomposition.base_log),
        DecompositionLevelCount(decomposition.levels),
    );
    coefficients
        .flat_map(|c| decomposer.decompose(c))
        .map(|term| term.value() as i64 as i32)
        .collect()
}
