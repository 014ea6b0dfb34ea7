//! Rounds the weights of a row jointly, using the correlations of the inputs.
//!
//! Rounding changes a row by Σ (wᵢ − qᵢ)·xᵢ. The variance of this error is a quadratic form in the differences, with
//! the covariance of the inputs. Its Cholesky factor turns it into a sum of squares; each is minimised in turn, one
//! weight after another, given the differences so far (the nearest plane of Babai, 1986; used for language models by
//! Frantar et al., *GPTQ*, 2023). Inputs that are correlated, such as pixels, compensate for one another, so smaller
//! integers suffice, and noise, which grows with their 2-norm, is lower.

use rayon::prelude::*;

/// Maximum number of inputs: the matrix has its square.
const MOST_INPUTS: usize = 2048;
/// Part of the mean variance that is added to each variance, so that inputs that hardly vary on these rows do not get
/// arbitrarily large weights.
const DAMPING: f64 = 0.01;

/// Mean and covariance of a layer's inputs.
pub(crate) struct Correlation {
    mean: Vec<f64>,
    /// Upper triangular, row by row: the covariance is its transpose times itself.
    factor: Vec<f64>,
}

impl Correlation {
    /// Computed from rows of inputs. `None` if there are too many inputs, or none varies.
    pub(crate) fn of(rows: &[Vec<f64>]) -> Option<Self> {
        Self::damped(rows, DAMPING)
    }

    /// Like [`Self::of`], with `damping` as the part of the mean variance that is added.
    pub(crate) fn damped(rows: &[Vec<f64>], damping: f64) -> Option<Self> {
        let n = rows.first()?.len();
        if n > MOST_INPUTS || rows.len() < 2 {
            return None;
        }
        let count = rows.len() as f64;
        let mean: Vec<f64> =
            (0..n).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / count).collect();
        let centred: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
        let mut covariance = vec![0.0; n * n];
        covariance.par_chunks_mut(n).enumerate().for_each(|(i, line)| {
            for row in &centred {
                if row[i] != 0.0 {
                    line[i..].iter_mut().zip(&row[i..]).for_each(|(sum, x)| *sum += row[i] * x);
                }
            }
            line.iter_mut().for_each(|sum| *sum /= count);
        });
        let trace: f64 = (0..n).map(|i| covariance[i * n + i]).sum();
        if trace <= 0.0 {
            return None;
        }
        (0..n).for_each(|i| covariance[i * n + i] += damping * trace / n as f64);
        Some(Self { mean, factor: cholesky(covariance, n) })
    }

    /// Rounds weights of inputs that are `scale` times the measured ones, plus a constant. Returns the integers and the
    /// variance of the rounding error.
    pub(crate) fn round(&self, weights: &[f64], scale: &[f64]) -> (Vec<i32>, f64) {
        let n = weights.len();
        let mut off = vec![0.0; n];
        let mut rounded = vec![0; n];
        let mut variance = 0.0;
        for i in (0..n).rev() {
            let line = &self.factor[i * n..(i + 1) * n];
            let rest: f64 = line[i + 1..].iter().zip(&off[i + 1..]).map(|(r, d)| r * d).sum();
            let more = if scale[i] > 0.0 { rest / (line[i] * scale[i]) } else { 0.0 };
            let nearest = (weights[i] + more).round();
            off[i] = (weights[i] - nearest) * scale[i];
            rounded[i] = nearest as i32;
            variance += (line[i] * off[i] + rest).powi(2);
        }
        (rounded, variance)
    }

    /// The change of a row's weights that minimises its error, given the error's covariances with the inputs: ridge
    /// regression (Hoerl and Kennard, 1970), with the damping as the ridge.
    pub(crate) fn regress(&self, covariances: &[f64]) -> Vec<f64> {
        let n = covariances.len();
        let line = |i: usize| &self.factor[i * n..(i + 1) * n];
        // The factor's transpose, then the factor.
        let mut solution = covariances.to_vec();
        for i in 0..n {
            solution[i] /= line(i)[i];
            let (done, rest) = solution.split_at_mut(i + 1);
            rest.iter_mut().zip(&line(i)[i + 1..]).for_each(|(x, r)| *x -= r * done[i]);
        }
        for i in (0..n).rev() {
            let rest: f64 =
                line(i)[i + 1..].iter().zip(&solution[i + 1..]).map(|(r, x)| r * x).sum();
            solution[i] = (solution[i] - rest) / line(i)[i];
        }
        solution
    }

    /// The mean of an input.
    pub(crate) fn mean(&self, input: usize) -> f64 {
        self.mean[input]
    }
}

/// The upper triangular Cholesky factor of a matrix whose upper half is given.
fn cholesky(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    for i in 0..n {
        let (done, rest) = matrix.split_at_mut((i + 1) * n);
        let line = &mut done[i * n..];
        let pivot = line[i].max(f64::MIN_POSITIVE).sqrt();
        line[i..].iter_mut().for_each(|x| *x /= pivot);
        line[..i].fill(0.0);
        let line = &*line;
        rest.par_chunks_mut(n).enumerate().for_each(|(offset, below)| {
            let j = i + 1 + offset;
            let factor = line[j];
            if factor != 0.0 {
                below[j..].iter_mut().zip(&line[j..]).for_each(|(x, l)| *x -= factor * l);
            }
        });
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// Inputs that are each near the one before.
    fn rows(rng: &mut StdRng, count: usize, n: usize) -> Vec<Vec<f64>> {
        let row = |rng: &mut StdRng| {
            let mut x = 0.0;
            (0..n)
                .map(|_| {
                    x = 0.9 * x + rng.random_range(-1.0..1.0);
                    x
                })
                .collect()
        };
        (0..count).map(|_| row(rng)).collect()
    }

    #[test]
    fn what_moves_together_is_rounded_together() {
        let mut rng = StdRng::seed_from_u64(1);
        let rows = rows(&mut rng, 500, 40);
        let correlation = Correlation::of(&rows).unwrap();
        let (mut ours, mut plain) = (0.0, 0.0);
        for _ in 0..20 {
            let weights: Vec<f64> = (0..40).map(|_| rng.random_range(-4.0..4.0)).collect();
            let (rounded, variance) = correlation.round(&weights, &[1.0; 40]);
            let off = |i: usize| weights[i] - f64::from(rounded[i]);
            let shift: f64 = (0..40).map(|i| off(i) * correlation.mean(i)).sum();
            let error = |q: &dyn Fn(usize) -> f64, shift: f64| {
                let of = |row: &Vec<f64>| {
                    (0..40).map(|i| (weights[i] - q(i)) * row[i]).sum::<f64>() - shift
                };
                rows.iter().map(|row| of(row).powi(2)).sum::<f64>() / rows.len() as f64
            };
            let measured = error(&|i| f64::from(rounded[i]), shift);
            // The prediction includes the damping.
            assert!(
                measured <= variance * 1.0001 && measured > 0.3 * variance,
                "{measured} {variance}"
            );
            ours += measured;
            plain += error(&|i| weights[i].round(), 0.0);
        }
        assert!(ours < 0.4 * plain, "{ours}, one by one {plain}");
    }

    #[test]
    fn regression_finds_the_weights_that_made_an_error() {
        let mut rng = StdRng::seed_from_u64(2);
        let rows: Vec<Vec<f64>> =
            (0..200).map(|_| (0..6).map(|_| rng.random_range(0.0..1.0)).collect()).collect();
        let made = [0.5, -1.0, 0.0, 2.0, 0.25, -0.75];
        let correlation = Correlation::damped(&rows, 1e-9).unwrap();
        let error = |row: &[f64]| row.iter().zip(&made).map(|(x, w)| x * w).sum::<f64>();
        let covariance = |c: usize| {
            let of = |row: &Vec<f64>| (row[c] - correlation.mean(c)) * error(row);
            rows.iter().map(of).sum::<f64>() / rows.len() as f64
        };
        let covariances: Vec<f64> = (0..6).map(covariance).collect();
        for (found, made) in correlation.regress(&covariances).iter().zip(made) {
            assert!((found - made).abs() < 1e-6, "{found}, not {made}");
        }
        // A ridge makes the change smaller.
        let norm = |w: &[f64]| w.iter().map(|w| w * w).sum::<f64>();
        let ridge = Correlation::damped(&rows, 0.5).unwrap().regress(&covariances);
        assert!(norm(&ridge) < 0.8 * norm(&made));
    }

    #[test]
    fn nothing_that_moves_is_nothing_to_correlate() {
        assert!(Correlation::of(&[vec![1.0, 2.0], vec![1.0, 2.0]]).is_none());
        assert!(Correlation::of(&[]).is_none());
    }
}
