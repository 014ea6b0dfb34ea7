//! `tfhe`'s default parameters: `PARAM_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128` of `tfhe` 1.8.2
//! (`src/shortint/parameters/v1_4/classic/tuniform/p_fail_2_minus_128/ks_pbs.rs`, to which
//! `aliases.rs` and `v1_8` refer), 128 bits of security. Copied, because enabling the feature that contains them would
//! double the time to compile `tfhe`.

use tfhe::core_crypto::prelude::*;

pub(super) const LWE_DIMENSION: LweDimension = LweDimension(918);
pub(super) const GLWE_DIMENSION: GlweDimension = GlweDimension(1);
pub(super) const POLYNOMIAL_SIZE: PolynomialSize = PolynomialSize(2048);
pub(super) const PBS_BASE_LOG: DecompositionBaseLog = DecompositionBaseLog(23);
pub(super) const PBS_LEVEL: DecompositionLevelCount = DecompositionLevelCount(1);
pub(super) const KS_BASE_LOG: DecompositionBaseLog = DecompositionBaseLog(4);
pub(super) const KS_LEVEL: DecompositionLevelCount = DecompositionLevelCount(4);
pub(super) const MODULUS: CiphertextModulus<u64> = CiphertextModulus::new_native();

/// Size of a ciphertext under the big key, in coefficients.
pub(super) const BIG_SIZE: LweSize = LweSize(GLWE_DIMENSION.0 * POLYNOMIAL_SIZE.0 + 1);

/// Coefficients of the bootstrapping key.
pub(super) const BSK_WORDS: usize =
    LWE_DIMENSION.0 * PBS_LEVEL.0 * (GLWE_DIMENSION.0 + 1).pow(2) * POLYNOMIAL_SIZE.0;
/// Coefficients of the keyswitching key.
pub(super) const KSK_WORDS: usize = (BIG_SIZE.0 - 1) * KS_LEVEL.0 * (LWE_DIMENSION.0 + 1);

pub(super) fn lwe_noise() -> DynamicDistribution<u64> {
    DynamicDistribution::new_t_uniform(45)
}

pub(super) fn glwe_noise() -> DynamicDistribution<u64> {
    DynamicDistribution::new_t_uniform(17)
}
