//! Ridge regression: the best linear estimate of key bits from noisy linear equations about them.

use rayon::prelude::*;

/// Equations that are added in one block.
const BLOCK: usize = 256;

/// The sums that regression needs, over equations `value = Σ coefficient · (bit − ½) + noise`.
pub(crate) struct Equations {
    bits: usize,
    /// Sums of coefficients times coefficients; the lower half, row by row.
    products: Vec<Vec<f64>>,
    /// Sums of coefficients times values.
    with_values: Vec<f64>,
    /// Sum of squared values.
    values: f64,
    count: usize,
    waiting: Vec<(Vec<f64>, f64)>,
}

/// The estimate of the key.
pub(crate) struct Estimate {
    /// Estimates of bit − ½.
    pub(crate) bits: Vec<f64>,
    /// Standard deviation of the noise with which each bit is observed, taken independently.
    pub(crate) tau: f64,
}

impl Equations {
    pub(crate) fn new(bits: usize) -> Self {
        Self {
            bits,
            products: (1..=bits).map(|length| vec![0.0; length]).collect(),
            with_values: vec![0.0; bits],
            values: 0.0,
            count: 0,
            waiting: Vec::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds an equation, in units in which all have the same noise.
    pub(crate) fn add(&mut self, coefficients: Vec<f64>, value: f64) {
        self.values += value * value;
        self.count += 1;
        for (sum, c) in self.with_values.iter_mut().zip(&coefficients) {
            *sum += c * value;
        }
        self.waiting.push((coefficients, value));
        if self.waiting.len() == BLOCK {
            self.take_in();
        }
    }

    fn take_in(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.products.par_iter_mut().enumerate().for_each(|(i, row)| {
            for (coefficients, _) in &waiting {
                let factor = coefficients[i];
                for (sum, c) in row.iter_mut().zip(coefficients) {
                    *sum += factor * c;
                }
            }
        });
    }

    /// The estimate. Before any observation, bit − ½ has variance ¼.
    pub(crate) fn solve(&mut self) -> Estimate {
        self.take_in();
        let variance = self.values / self.count as f64;
        let diagonal: f64 = self.products.iter().enumerate().map(|(i, row)| row[i]).sum();
        let explained = (diagonal / self.count as f64 / 4.0 / variance).min(1.0);
        // The rest is noise, which is never zero.
        let noise = variance * (1.0 - explained).max(0.02);
        let factor = cholesky(self.products.iter().enumerate().map(|(i, row)| {
            let mut row: Vec<f64> = row.iter().map(|x| x / noise).collect();
            row[i] += 4.0;
            row
        }));
        let scaled: Vec<f64> = self.with_values.iter().map(|x| x / noise).collect();
        let bits = back(&factor, forward(&factor, scaled));
        // The trace of the inverse is the sum of squares of the inverse factor.
        let trace: f64 = (0..self.bits)
            .into_par_iter()
            .map(|i| {
                let mut unit = vec![0.0; self.bits];
                unit[i] = 1.0;
                forward(&factor, unit).iter().map(|x| x * x).sum::<f64>()
            })
            .sum();
        let left = trace / self.bits as f64;
        let tau = (left.recip() - 4.0).max(1e-9).recip().sqrt();
        Estimate { bits, tau }
    }
}

/// The lower factor of a positive definite matrix.
fn cholesky(rows: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut factor: Vec<Vec<f64>> = Vec::new();
    for mut row in rows {
        let i = row.len() - 1;
        for (j, other) in factor.iter().enumerate() {
            let sum: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - sum) / other[j];
        }
        let sum: f64 = row[..i].iter().map(|a| a * a).sum();
        row[i] = (row[i] - sum).max(f64::MIN_POSITIVE).sqrt();
        factor.push(row);
    }
    factor
}

fn forward(factor: &[Vec<f64>], mut values: Vec<f64>) -> Vec<f64> {
    let first = values.iter().position(|&x| x != 0.0).unwrap_or(values.len());
    for (i, row) in factor.iter().enumerate().skip(first) {
        let sum: f64 = row[first..i].iter().zip(&values[first..i]).map(|(a, b)| a * b).sum();
        values[i] = (values[i] - sum) / row[i];
    }
    values
}

fn back(factor: &[Vec<f64>], mut values: Vec<f64>) -> Vec<f64> {
    for (i, row) in factor.iter().enumerate().rev() {
        values[i] /= row[i];
        let value = values[i];
        for (x, f) in values[..i].iter_mut().zip(row) {
            *x -= f * value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn finds_bits_and_says_how_well_it_knows_them() {
        let mut rng = StdRng::seed_from_u64(1);
        let key: Vec<f64> = (0..40).map(|_| if rng.random() { 0.5 } else { -0.5 }).collect();
        let mut equations = Equations::new(40);
        // Noise of standard deviation 4: with 4000 equations of coefficients of variance 1, τ is 4/√4000.
        for _ in 0..4000 {
            let coefficients: Vec<f64> =
                key.iter().map(|_| hermesh_compiler::normal(&mut rng)).collect();
            let value: f64 = coefficients.iter().zip(&key).map(|(c, k)| c * k).sum();
            equations.add(coefficients, value + 4.0 * hermesh_compiler::normal(&mut rng));
        }
        let estimate = equations.solve();
        assert!(estimate.bits.iter().zip(&key).all(|(found, bit)| found * bit > 0.0));
        assert!((estimate.tau / (4.0 / 4000f64.sqrt()) - 1.0).abs() < 0.1, "{}", estimate.tau);
    }
}
