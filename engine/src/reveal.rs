//! Bounds, in bits, on the information about the secret keys in published values of `approximate` programs, and how
//! many bits a key may reveal. `docs/scores.md` has the derivation.
//!
//! The noise in an answer is mostly a sum of key bits with coefficients that the server knows (rounding errors of
//! ciphertexts). Every value with visible noise is therefore an equation about the key: Li and Micciancio, *On the
//! Security of Homomorphic Encryption on Approximate Numbers* (Eurocrypt 2021). The functions here bound the Shannon
//! information in one published value, for an observer who knows everything except the keys: the program, the input in
//! the clear, the ciphertexts and the evaluation key. The bounds hold for any input, also for chosen ones. Information
//! from several values at most adds up.

use crate::ParameterSet;
use crate::parameters::ANSWER_DIMENSION;

/// Bits of security that remain while at most [`budget`] bits are revealed.
pub const REMAINING_SECURITY_BITS: f64 = 120.0;

/// For each dimension of a secret key: the bits of information about it after which an attack still takes 2¹²⁰
/// operations, if the information is spread evenly over all key bits. `hermesh-bench leak budget` computes these
/// figures, and its tests compare them.
pub const BUDGETS: &[(usize, f64)] = &[
    (640, 90.0),
    (672, 96.0),
    (736, 114.0),
    (768, 120.0),
    (800, 132.0),
    (832, 140.0),
    (896, 160.0),
    (960, 180.0),
    (1024, 200.0),
    (1536, 370.0),
    (2048, 560.0),
    (4096, 2000.0),
    (8192, 2000.0),
];

/// Bits of information that values under one key of this set may reveal: the smallest budget of the input key, the
/// accumulator's key and the answer key, as if all information concerned that key.
#[must_use]
pub fn budget(set: &ParameterSet) -> f64 {
    let dimensions = [set.lwe_dimension, set.output_dimension(), ANSWER_DIMENSION];
    // A dimension that is not in the table has no budget. A test checks that every set has one.
    let of =
        |dimension| BUDGETS.iter().find(|(d, _)| *d == dimension).map_or(0.0, |(_, bits)| *bits);
    dimensions.into_iter().map(of).fold(f64::INFINITY, f64::min)
}

/// Bits revealed by a comparison of a noisy value with a threshold, if the value lies `sigmas` standard deviations of
/// the noise from the threshold.
///
/// The outcome of comparing μ + e with 0, for known μ and normal e, has entropy H(Φ(μ/σ)) ≤ 1 bit. The result is a
/// function of the *noisy* value whose mean is at least that entropy for every μ: √5·exp(−2t²), with mean
/// exp(−2μ²/5σ²).
#[must_use]
pub fn comparison(sigmas: f64) -> f64 {
    5f64.sqrt() * (-2.0 * sigmas * sigmas).exp()
}

/// Steps shorter than this many standard deviations are counted by [`entropy_of_steps`], independently of where the
/// value lies in its step.
const FINE: f64 = 2.0;

/// Bits revealed by a value rounded to multiples of `step`, if the noisy value was `value`; both in standard deviations
/// of the noise. Rounding is equivalent to comparisons with the edges of the steps.
#[must_use]
pub fn rounded(value: f64, step: f64) -> f64 {
    if step < FINE {
        return entropy_of_steps(step);
    }
    // Position in its step: −½ … ½. An edge more than two steps away adds less than 10⁻⁶ bits.
    let within = value / step - (value / step).round();
    (-2..2).map(|edge| comparison((f64::from(edge) + 0.5 - within) * step)).sum()
}

/// The mean of [`rounded`] over uniformly distributed values.
#[must_use]
pub fn rounded_on_average(step: f64) -> f64 {
    if step < FINE {
        return entropy_of_steps(step);
    }
    // ∫ comparison = √5 · √(π/2), and there is one edge per step.
    (5.0 * std::f64::consts::FRAC_PI_2).sqrt() / step
}

/// Upper bound on the entropy of the step's index. Rounding moves a value by at most half a step, and among integer
/// distributions of a given variance the discretised normal distribution has the greatest entropy (Cover and Thomas,
/// *Elements of Information Theory*, 2nd edition, problem 8.7). Unbounded as `step` goes to 0.
fn entropy_of_steps(step: f64) -> f64 {
    let deviation = 1.0 / step + 0.5;
    0.5 * (std::f64::consts::TAU * std::f64::consts::E * (deviation * deviation + 1.0 / 12.0))
        .log2()
}

/// Bits revealed by a value to which independent normal noise of `times` its own standard deviation was added, whatever
/// processing follows: the capacity of a Gaussian channel, ½·log₂(1 + 1/`times`²). Li, Micciancio, Schultz and Sorrell,
/// *Securing Approximate Homomorphic Encryption Using Differential Privacy* (Crypto 2022), section 5, protect values in
/// this way.
#[must_use]
pub fn noised(times: f64) -> f64 {
    0.5 * (times * times).recip().ln_1p() / std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::two_sided_tail_log2;
    use crate::parameters::CATALOGUE;

    #[test]
    fn every_key_of_the_catalogue_has_a_budget() {
        for set in CATALOGUE {
            assert!(budget(set) >= 90.0, "{}", set.name);
        }
        assert_eq!(budget(&crate::parameters::T3X512N640), 90.0);
        // The input key's budget is larger than the answer key's.
        assert_eq!(budget(&crate::parameters::LINEAR), 370.0);
    }

    fn entropy(p: f64) -> f64 {
        let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
        term(p) + term(1.0 - p)
    }

    /// Φ(x) of the normal distribution.
    fn below(x: f64) -> f64 {
        let tail = two_sided_tail_log2(x.abs()).exp2() / 2.0;
        if x > 0.0 { 1.0 - tail } else { tail }
    }

    /// The mean of `f` over normal values around `mean`.
    fn mean(mean: f64, f: impl Fn(f64) -> f64) -> f64 {
        let width = 0.01;
        let points = (-800..=800).map(|i| f64::from(i) * width);
        let density = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
        points.map(|z| f(mean + z) * density(z) * width).sum()
    }

    #[test]
    fn what_is_counted_is_on_average_at_least_what_is_told() {
        for i in 0..=60 {
            let mu = f64::from(i) / 10.0;
            let (counted, told) = (mean(mu, comparison), entropy(below(mu)));
            assert!(counted >= told * (1.0 - 1e-6), "{mu}: {counted} counted, {told} told");
        }
        // At the threshold the two are equal.
        assert!((mean(0.0, comparison) - 1.0).abs() < 1e-6);
        for step in [0.25, 0.5, 1.0, 1.9, 2.0, 3.0, 4.0, 8.0] {
            let mut average = 0.0;
            for i in 0..20 {
                let mu = step * f64::from(i) / 20.0;
                let told: f64 = (-60..=60)
                    .map(|k| {
                        let edge = |half: f64| below((f64::from(k) + half) * step - mu);
                        let p = edge(0.5) - edge(-0.5);
                        if p > 0.0 { -p * p.log2() } else { 0.0 }
                    })
                    .sum();
                let counted = mean(mu, |x| rounded(x, step));
                assert!(counted >= told, "{step}, {mu}: {counted} counted, {told} told");
                average += counted / 20.0;
            }
            assert!((average / rounded_on_average(step) - 1.0).abs() < 0.01, "{step}: {average}");
        }
    }

    #[test]
    fn added_noise_is_a_gaussian_channel() {
        assert!((noised(1.0) - 0.5).abs() < 1e-12);
        // For strong noise: half the ratio of the variances, in nats.
        assert!((noised(100.0) * std::f64::consts::LN_2 / 0.5e-4 - 1.0).abs() < 1e-4);
    }
}
