//! Signed gadget decomposition of ciphertext coefficients into small integers.

use crate::parameters::Decomposition;
use tfhe::core_crypto::prelude::*;

/// The digits of each coefficient, in the order in which `tfhe` lays out its keys' levels.
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
