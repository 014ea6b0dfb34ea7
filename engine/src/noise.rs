//! Predicted noise variances, by `tfhe`'s formulas (`core_crypto::commons::noise_formulas`), and the failure
//! probability that follows.
//!
//! Variances are in squared turns: a standard deviation of 2⁻⁸ is 1/256 of the torus.

use crate::parameters::{
    ANSWER_BITS, ANSWER_DIMENSION, ANSWER_NOISE_LOG2, Decomposition, PACKING_SIZE,
};
use crate::{ParameterSet, Precision, Program};
use tfhe::core_crypto::commons::noise_formulas::centered_mean_shifted_modulus_switch::centered_binary_shifted_modulus_switch_additive_variance;
use tfhe::core_crypto::commons::noise_formulas::lwe_programmable_bootstrap::pbs_variance_132_bits_security_gaussian_fft_mul;
use tfhe::core_crypto::prelude::*;

const MODULUS: f64 = 18_446_744_073_709_551_616.0;

fn variance(std_log2: f64) -> f64 {
    (2.0 * std_log2).exp2()
}

/// Variance of rounding all coefficients of a ciphertext to `bits` bits, under a binary key of `dimension` bits: (1 +
/// dimension/2) / 12 · 2^(−2·bits).
fn rounding(dimension: usize, bits: usize) -> f64 {
    (1.0 + dimension as f64 / 2.0) / 12.0 * variance(-(bits as f64))
}

/// Variance of a keyswitch from `dimension`, for a key with noise variance σ², base B and l levels: dimension · l ·
/// (B²/12 + 1/6) · σ² + dimension/24 · B^(−2l). As `tfhe`'s `lwe_keyswitch` formula, which fixes σ² by its security
/// curve; here σ² is an argument.
fn keyswitching(dimension: usize, d: Decomposition, key_noise: f64) -> f64 {
    let base = (d.base_log as f64).exp2();
    let levels = d.levels as f64;
    let dimension = dimension as f64;
    let digit = base * base / 12.0 + 1.0 / 6.0;
    dimension * levels * digit * key_noise
        + dimension / 24.0 * variance(-((d.base_log * d.levels) as f64))
}

/// Variance of a fresh input after it is rounded to 32 bits.
#[must_use]
pub fn fresh(set: &ParameterSet) -> f64 {
    // The rounding is centred, as in a modulus switch, so n/4 replaces the n/2 of `rounding`.
    let rounding = (1.0 + set.lwe_dimension as f64 / 4.0) / 12.0 * variance(-32.0);
    variance(set.lwe_noise_log2) + rounding
}

/// Variance added by the keyswitch before a Lookup. Zero for sets without Lookups.
#[must_use]
pub fn keyswitch(set: &ParameterSet) -> f64 {
    let Some(bootstrap) = &set.bootstrap else {
        return 0.0;
    };
    let key = variance(set.lwe_noise_log2) + rounding(set.lwe_dimension, 32);
    keyswitching(set.output_dimension(), bootstrap.keyswitch, key)
}

/// Variance added by the modulus switch before a Lookup, rounding of the body included. Zero for sets without Lookups.
#[must_use]
pub fn modulus_switch(set: &ParameterSet) -> f64 {
    let Some(bootstrap) = &set.bootstrap else {
        return 0.0;
    };
    let steps = 2.0 * bootstrap.polynomial_size as f64;
    let dimension = LweDimension(set.lwe_dimension);
    let mask =
        centered_binary_shifted_modulus_switch_additive_variance(dimension, MODULUS, steps).0;
    mask + 1.0 / 12.0 / (steps * steps)
}

/// Variance of a Lookup's result, around the table entry. Zero for sets without Lookups.
///
/// `tfhe`'s formula, and two terms for accumulators of 32 bits. For each key bit the product is rounded to 2⁻³². The
/// digits contribute as much again, because they are cut from multiples of 2⁻³² and not from a continuum: a sixth of a
/// squared step more, for the half of the bits that are one.
#[must_use]
pub fn bootstrap(set: &ParameterSet) -> f64 {
    let Some(bootstrap) = &set.bootstrap else {
        return 0.0;
    };
    pbs_variance_132_bits_security_gaussian_fft_mul(
        LweDimension(set.lwe_dimension),
        GlweDimension(bootstrap.glwe_dimension),
        PolynomialSize(bootstrap.polynomial_size),
        DecompositionBaseLog(bootstrap.product.base_log),
        DecompositionLevelCount(bootstrap.product.levels),
        53.0,
        MODULUS,
    )
    .0 + 2.0 * set.lwe_dimension as f64 * rounding(set.output_dimension(), 32)
}

/// Variance added to each value by packing `slots` values into one GLWE ciphertext, rounding to 24 bits included. The
/// error of the decomposition affects only the value's own slot; the noise of the key affects all slots.
#[must_use]
pub fn packing(set: &ParameterSet, slots: usize) -> f64 {
    let key = variance(ANSWER_NOISE_LOG2) + rounding(ANSWER_DIMENSION, 32);
    let cut_off = keyswitching(set.output_dimension(), set.packing, 0.0);
    let one = keyswitching(set.output_dimension(), set.packing, key) - cut_off;
    slots as f64 * one + cut_off + rounding(ANSWER_DIMENSION, ANSWER_BITS)
}

/// Predicted variances of one stage of a program.
#[derive(Clone, Debug)]
pub struct StageNoise {
    /// For each value: the variance at its table's input; for a value that passes, its own; in the last stage, that of
    /// the answer.
    pub input: Vec<f64>,
    /// The part of it that this stage adds to each value that does not pass: keyswitch and modulus switch before a
    /// table, packing in the last stage. The rest comes with the values that the stage reads, and several sums have it
    /// in common.
    pub added: f64,
    /// Variance of the Lookup's result, around the entry.
    pub output: f64,
}

impl Program {
    /// Predicted noise of each stage. Answers are assumed to be packed with all slots in use, as for a batch of rows.
    #[must_use]
    pub fn noise(&self) -> Vec<StageNoise> {
        let set = self.parameter_set();
        let mut incoming = vec![fresh(set); self.inputs()];
        let mut stages = Vec::with_capacity(self.stages().len());
        for (i, stage) in self.stages().iter().enumerate() {
            let added = match (&stage.lookup, i) {
                (None, _) => packing(set, PACKING_SIZE),
                (Some(_), 0) => modulus_switch(set),
                (Some(_), _) => keyswitch(set) + modulus_switch(set),
            };
            let matrix = &stage.linear.matrix;
            let passes =
                |r: usize| stage.lookup.as_ref().is_some_and(|lookup| lookup.table(r).is_none());
            let input: Vec<f64> = (0..matrix.rows())
                .map(|r| {
                    let sum: f64 =
                        matrix.row(r).map(|(c, w)| f64::from(w).powi(2) * incoming[c]).sum();
                    sum + if passes(r) { 0.0 } else { added }
                })
                .collect();
            let output = bootstrap(set);
            incoming =
                (0..matrix.rows()).map(|r| if passes(r) { input[r] } else { output }).collect();
            stages.push(StageNoise { input, added, output });
        }
        stages
    }

    /// log₂ of the probability that noise changes any value in one row of an `exact` program (a union bound over all
    /// its values). `None` for `approximate` programs, whose values noise always changes slightly.
    #[must_use]
    pub fn failure_log2(&self) -> Option<f64> {
        let Precision::Exact { output_bits } = self.precision() else {
            return None;
        };
        let mut worst = f64::NEG_INFINITY;
        let mut add = |margin: f64, variance: f64| {
            let p = two_sided_tail_log2(margin / variance.sqrt());
            let (high, low) = if p > worst { (p, worst) } else { (worst, p) };
            worst = if high == f64::NEG_INFINITY {
                high
            } else {
                high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2
            };
        };
        for (stage, noise) in self.stages().iter().zip(self.noise()) {
            for (value, &variance) in noise.input.iter().enumerate() {
                let bits = match &stage.lookup {
                    Some(lookup) => match lookup.table(value) {
                        Some(table) => table.len().ilog2() + 1,
                        None => continue,
                    },
                    None => output_bits,
                };
                add(f64::from(bits + 1).exp2().recip(), variance);
            }
        }
        Some(worst.min(0.0))
    }
}

/// log₂ of the probability that a standard normal variable exceeds `z` in absolute value.
#[must_use]
pub fn two_sided_tail_log2(z: f64) -> f64 {
    // From z = 2 on: Mills' ratio by Laplace's continued fraction, accurate to 1e-6. Below: numerical integration.
    if z < 2.0 {
        let steps = 2000;
        let h = z / f64::from(steps);
        let density = |x: f64| (-x * x / 2.0).exp();
        let inner: f64 = (0..steps).map(|i| density((f64::from(i) + 0.5) * h) * h).sum();
        return (1.0 - inner * (2.0 / std::f64::consts::PI).sqrt()).max(f64::MIN_POSITIVE).log2();
    }
    let fraction = (1..=60).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    let ln = -z * z / 2.0 + (2.0 / std::f64::consts::PI).sqrt().ln() - fraction.ln();
    ln / std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_agrees_with_known_values() {
        // 2·(1 − Φ(z)), from tables of the normal distribution.
        for (z, p) in [
            (0.0, 1.0),
            (1.0, 0.317_310_5),
            (1.96, 0.049_995_8),
            (3.0, 0.002_699_8),
            (6.0, 1.973_175e-9),
        ] {
            assert!((two_sided_tail_log2(z) - f64::log2(p)).abs() < 1e-4, "{z}");
        }
        assert!((two_sided_tail_log2(13.1) + 128.0).abs() < 1.5);
    }

    #[test]
    fn a_curve_bound_formula_and_ours_agree() {
        use tfhe::core_crypto::commons::noise_formulas::lwe_keyswitch::keyswitch_additive_variance_132_bits_security_gaussian;
        for set in crate::parameters::CATALOGUE {
            let Some(b) = &set.bootstrap else { continue };
            let theirs = keyswitch_additive_variance_132_bits_security_gaussian(
                LweDimension(set.output_dimension()),
                LweDimension(set.lwe_dimension),
                DecompositionBaseLog(b.keyswitch.base_log),
                DecompositionLevelCount(b.keyswitch.levels),
                MODULUS,
                MODULUS,
            );
            assert!((keyswitch(set) / theirs.0 - 1.0).abs() < 0.01, "{}", set.name);
        }
    }
}
