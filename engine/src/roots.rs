//! Roots of unity, exact to the last bit, by integer arithmetic.
//!
//! An inference gives the same bytes on every machine only if its tables of roots are the same. The sine and cosine of
//! the standard library come from the system's libm, whose last bits differ between versions and processors, so they
//! are not used here. Integer additions, products and conversions are exact everywhere.

/// π in units of 2⁻¹¹².
const PI: u128 = 0x3_243f_6a88_85a3_08d3_1319_8a2e_0370;
const PI_BITS: u32 = 112;

/// The number one in units of 2⁻⁶³.
const ONE: u64 = 1 << 63;

/// Number of terms of the series. Later terms are below 2⁻⁶⁷.
const TERMS: u64 = 10;

/// Cosine and sine of π·`step`/`steps`, within 0.51 units in the last place. For the polynomial sizes of the catalogue
/// all values are correctly rounded.
///
/// # Panics
/// If `steps` is not a power of two of at most 2¹³, or `step` exceeds `steps`/2.
pub(crate) fn cos_sin(step: usize, steps: usize) -> (f64, f64) {
    assert!(steps.is_power_of_two() && steps <= 1 << 13, "{steps} steps");
    assert!(step <= steps / 2, "step {step} of {steps}");
    // Above an eighth of a turn, the complement to a quarter turn has sine and cosine exchanged.
    if 4 * step > steps {
        let (cos, sin) = up_to_an_eighth(steps / 2 - step, steps);
        return (sin, cos);
    }
    up_to_an_eighth(step, steps)
}

fn up_to_an_eighth(step: usize, steps: usize) -> (f64, f64) {
    if step == 0 {
        return (1.0, 0.0);
    }
    // In units of 2⁻¹¹², below 0.79.
    let angle = (PI * step as u128) >> steps.ilog2();
    // Its 64 most significant bits, in units of 2^-fraction.
    let excess = 64 - angle.leading_zeros();
    let (short, fraction) = ((angle >> excess) as u64, PI_BITS - excess);
    // The square in units of 2⁻⁶⁴. The bits that are cut off are far below the precision of the result.
    let square = high(short, short) >> (2 * (fraction - 64));
    let cos = series(square, |k| (2 * k - 1) * (2 * k));
    // The sine of a small angle is small, so the series computes sine/angle, which is near one.
    let ratio = series(square, |k| (2 * k) * (2 * k + 1));
    let sin = u128::from(short) * u128::from(ratio);
    (f64_of(cos.into(), 63), f64_of(sin, fraction + 63))
}

/// 1 − x/d(1)·(1 − x/d(2)·(1 − …)) in units of 2⁻⁶³, by Horner's rule. With the squared angle as x this is the Taylor
/// series of the cosine, or of sine/angle.
fn series(square: u64, divisor: impl Fn(u64) -> u64) -> u64 {
    (1..=TERMS).rev().fold(ONE, |rest, k| ONE - high(square, rest) / divisor(k))
}

/// The upper 64 bits of a product.
fn high(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// An integer in units of 2^-fraction, rounded to nearest.
fn f64_of(integer: u128, fraction: u32) -> f64 {
    // 2^-fraction: an `f64` with only its exponent bits set.
    let unit = f64::from_bits(u64::from(1023 - fraction) << 52);
    integer as f64 * unit
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "reference values")]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
    use std::f64::consts::FRAC_PI_4;

    const SIZES: [usize; 4] = [512, 1024, 2048, 4096];

    /// π minus the `f64` nearest to it.
    const REST: f64 = 1.224_646_799_147_353_2e-16;

    fn units_apart(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn values_are_those_of_the_functions() {
        for steps in SIZES {
            for step in 0..=steps / 4 {
                let (cos, sin) = cos_sin(step, steps);
                let scale = step as f64 / steps as f64;
                let angle = std::f64::consts::PI * scale;
                // Corrects the rounding of the product, to first order.
                let lacks = std::f64::consts::PI.mul_add(scale, -angle) + REST * scale;
                let (expected_cos, expected_sin) =
                    (angle.cos() - lacks * angle.sin(), angle.sin() + lacks * angle.cos());
                assert!(angle <= FRAC_PI_4);
                assert!(units_apart(cos, expected_cos) <= 1, "cos, {step} of {steps}");
                assert!(units_apart(sin, expected_sin) <= 1, "sin, {step} of {steps}");
                assert_eq!(cos_sin(steps / 2 - step, steps), (sin, cos));
            }
        }
    }

    /// Digests of the correctly rounded values, computed with 300 bits by another program. If they differ, this machine
    /// gives other answers than the rest.
    #[test]
    fn tables_are_the_same_bytes_everywhere() {
        for (steps, expected) in SIZES.into_iter().zip(GOLDEN) {
            let mut digest = Sha256::new();
            for step in 0..steps / 2 {
                let (cos, sin) = cos_sin(step, steps);
                digest.update(cos.to_le_bytes());
                digest.update(sin.to_le_bytes());
            }
            let found = crate::error::short(&digest.finalize().into());
            assert_eq!(found, expected, "{steps} steps");
        }
    }

    const GOLDEN: [&str; 4] = ["225e076d", "4002f4f7", "cd49c433", "97b661ba"];
}
