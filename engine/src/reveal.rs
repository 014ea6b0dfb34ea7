//! What answers of `approximate` programs tell about the secret keys once others see them, in bits, and how many bits
//! a key may give away. `docs/scores.md` has the whole derivation.
//!
//! The noise in an answer is, for the most part, a sum of key bits with coefficients that the server knows (rounding
//! errors of ciphertexts). So an answer in which noise can be seen is an equation about the key: Li and Micciancio, *On
//! the Security of Homomorphic Encryption on Approximate Numbers* (Eurocrypt 2021). The functions here bound the
//! Shannon information that is in one shown value, for an observer who knows everything but the keys: program, input in
//! the clear, ciphertexts, evaluation key. The bounds hold for any input, chosen ones included. Information of several
//! values adds up at most.

use crate::ParameterSet;
use crate::parameters::ANSWER_DIMENSION;

/// Security, in bits, that remains at least while no more than [`budget`] has been given away.
pub const REMAINING_SECURITY_BITS: f64 = 120.0;

/// For each dimension of a secret key: how many bits of information about it leave an attack with 2¹²⁰ operations, if they
/// are spread over all key bits alike. `hermesh-bench leak budget` computes these figures, and its tests compare them.
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

/// Bits about the keys of this set that may be given away under one key. It is as if all information were about the key
/// that bears least: the input key, the accumulator's or that of answers.
#[must_use]
pub fn budget(set: &ParameterSet) -> f64 {
    let dimensions = [set.lwe_dimension, set.output_dimension(), ANSWER_DIMENSION];
    // A dimension that is not in the table bears nothing; a test sees to it that there is none.
    let of =
        |dimension| BUDGETS.iter().find(|(d, _)| *d == dimension).map_or(0.0, |(_, bits)| *bits);
    dimensions.into_iter().map(of).fold(f64::INFINITY, f64::min)
}

/// Bits that a comparison tells, if the noisy value was found `sigmas` standard deviations of the noise away from where
/// the outcome changes.
///
/// The outcome of comparing μ + e with 0, for known μ and normal e, has entropy H(Φ(μ/σ)), which is at most one bit. What is
/// returned is a function of the *noisy* value whose mean is at least that entropy, whatever μ is: √5·exp(−2t²), the mean
/// of which is exp(−2μ²/5σ²).
#[must_use]
pub fn comparison(sigmas: f64) -> f64 {
    5f64.sqrt() * (-2.0 * sigmas * sigmas).exp()
}

/// Steps below this many standard deviations are counted by [`entropy_of_steps`], where it lies in its step does not matter.
const FINE: f64 = 2.0;

/// Bits in a value that is rounded to multiples of `step`, both in standard deviations of the noise, if the noisy value
/// was `value`. The step that it falls into is known once it is compared with the steps' edges.
#[must_use]
pub fn rounded(value: f64, step: f64) -> f64 {
    if step < FINE {
        return entropy_of_steps(step);
    }
    // Where in its step: −½ … ½. An edge further than two steps away adds less than 10⁻⁶ bits.
    let within = value / step - (value / step).round();
    (-2..2).map(|edge| comparison((f64::from(edge) + 0.5 - within) * step)).sum()
}

/// The mean of [`rounded`] over values.
#[must_use]
pub fn rounded_on_average(step: f64) -> f64 {
    if step < FINE {
        return entropy_of_steps(step);
    }
    // ∫ comparison = √5 · √(π/2), for one edge a step.
    (5.0 * std::f64::consts::FRAC_PI_2).sqrt() / step
}

/// Most bits that the number of the step has: rounding moves a value by half a step at most, and among integers of a
/// variance those with a discretised normal distribution have the greatest entropy (Cover and Thomas, *Elements of
/// Information Theory*, 2nd edition, problem 8.7). No limit for unrounded values.
fn entropy_of_steps(step: f64) -> f64 {
    let deviation = 1.0 / step + 0.5;
    0.5 * (std::f64::consts::TAU * std::f64::consts::E * (deviation * deviation + 1.0 / 12.0))
        .log2()
}

/// Bits in a value to which independent normal noise of `times` its own standard deviation has been added, whatever is
/// done to it afterwards: the capacity of a Gaussian channel. Li, Micciancio, Schultz and Sorrell, *Securing Approximate
/// Homomorphic Encryption Using Differential Privacy* (Crypto 2022), section 5, protect in this way.
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
        // Its inputs bear more than the key of its answers.
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
        // At the boundary itself the two are equal.
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
        // For much noise, half the ratio of the variances, in nats.
        assert!((noised(100.0) * std::f64::consts::LN_2 / 0.5e-4 - 1.0).abs() < 1e-4);
    }
}
