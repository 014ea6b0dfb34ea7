//! Fits the rows of a layer to integers: their inputs are integers on every calibration row, and their results are too.
//!
//! A row of the floating-point network is a target that a sum of integers with integer weights has to follow. The real
//! weights are first regressed on the integers, which compensates for the rounding of the integers, then rounded
//! jointly ([`crate::rounding`]), for several sizes of the sum's cells; the best fit is kept. This is layer-wise
//! quantisation to activations that are already quantised, as in Frantar et al., *GPTQ* (2023), section 3, and Hubara
//! et al., *Accurate Post Training Quantization with Small Calibration Sets* (2021), section 3. The difference is that
//! sums have few bits, too, so their range is fitted as well.

use crate::network::Layer;
use crate::rounding::Correlation;
use rayon::prelude::*;

/// Part of the mean variance of the integers that is added to each variance, because there may be as few as 200 rows.
const DAMPING: f64 = 0.1;
/// Sums of at most this many bits are fitted with several cell sizes, each larger by this part of the least.
const COARSE_BITS: u32 = 8;
const SIZES: usize = 8;
const SIZES_OF_WIDE_ROWS: usize = 4;
const LARGER: f64 = 0.03;
/// Rows with more weights are wide.
const WIDE: usize = 256;
/// A row is assumed to cover at least this part (1/256) of the range that its inputs allow.
const LEAST_SWING: f64 = 256.0;

/// Margins around the sums of the calibration rows, as in [`crate::calibration::Span::widened`]: a part of their range
/// on both sides, and a number of standard deviations around the mean. A sum that leaves the range gives a wrong
/// answer, so about one in a hundred ordinary rows may leave it; larger margins would make all other sums coarser.
const TABLE_ROOM: (f64, f64) = (0.04, 3.5);
const OUTPUT_ROOM: (f64, f64) = (0.25, 6.0);

/// The integers that a layer's sums are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Accumulator {
    pub(super) bits: u32,
    /// Whether these are outputs, which use the whole torus and have zero in the middle.
    pub(super) output: bool,
}

/// A layer over integers, not yet rounded.
pub(crate) struct Prepared {
    correlation: Option<Correlation>,
    /// Real weights of each row, per step of each input.
    weights: Vec<Vec<f64>>,
}

/// A row of integers: its value is `cell · (Σ weights · inputs + bias) + zero`.
pub(crate) struct Row {
    pub(super) weights: Vec<i32>,
    pub(super) bias: i64,
    pub(super) cell: f64,
    pub(super) zero: f64,
}

impl Row {
    /// Squared 2-norm of the weights: the factor for the variance of noise.
    pub(super) fn squared_norm(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w).powi(2)).sum()
    }

    /// The value for a row of integers.
    pub(super) fn value(&self, integers: &[f64]) -> f64 {
        let sum: f64 = self.weights.iter().zip(integers).map(|(&w, x)| f64::from(w) * x).sum();
        self.cell * (sum + self.bias as f64) + self.zero
    }
}

impl Prepared {
    /// Prepares a layer: regresses its weights on the integers. `steps` is the value of one step of each input;
    /// `inputs` (in steps) and `targets` are per calibration row.
    pub(super) fn new(
        layer: &Layer,
        steps: &[f64],
        inputs: &[Vec<f64>],
        targets: &[Vec<f64>],
    ) -> Self {
        let matrix = &layer.affine.matrix;
        let correlation = Correlation::damped(inputs, DAMPING);
        let weights = (0..matrix.rows()).into_par_iter().map(|r| {
            let mut weights = vec![0.0; steps.len()];
            matrix.row(r).for_each(|(c, w)| weights[c] = w * steps[c]);
            let Some(correlation) = &correlation else {
                return weights;
            };
            let error = |(input, target): (&Vec<f64>, &Vec<f64>)| {
                target[r] - weights.iter().zip(input).map(|(w, x)| w * x).sum::<f64>()
            };
            let mut errors: Vec<f64> = inputs.iter().zip(targets).map(error).collect();
            let count = errors.len() as f64;
            let mean = errors.iter().sum::<f64>() / count;
            errors.iter_mut().for_each(|error| *error = (*error - mean) / count);
            // The errors have mean zero, so the mean of the inputs does not matter.
            let mut covariances = vec![0.0; steps.len()];
            for (input, error) in inputs.iter().zip(&errors) {
                covariances.iter_mut().zip(input).for_each(|(sum, x)| *sum += x * error);
            }
            let change = correlation.regress(&covariances);
            weights.iter().zip(change).map(|(w, d)| w + d).collect()
        });
        let weights = weights.collect();
        Self { correlation, weights }
    }

    /// Rounds the rows for sums of `accumulator.bits` bits.
    pub(super) fn fit(
        &self,
        inputs: &[Vec<f64>],
        targets: &[Vec<f64>],
        most: f64,
        accumulator: Accumulator,
    ) -> Vec<Row> {
        (0..self.weights.len())
            .into_par_iter()
            .map(|r| {
                let targets: Vec<f64> = targets.iter().map(|row| row[r]).collect();
                self.fit_row(&self.weights[r], inputs, &targets, most, accumulator)
            })
            .collect()
    }

    fn fit_row(
        &self,
        weights: &[f64],
        inputs: &[Vec<f64>],
        targets: &[f64],
        most: f64,
        accumulator: Accumulator,
    ) -> Row {
        let Accumulator { bits, output } = accumulator;
        let room = if output { OUTPUT_ROOM } else { TABLE_ROOM };
        let cells = f64::from((1u32 << bits) - 1);
        let sums = |weights: &[f64]| -> Vec<f64> {
            let sum = |input: &Vec<f64>| weights.iter().zip(input).map(|(w, x)| w * x).sum();
            inputs.iter().map(sum).collect()
        };
        let swing: f64 = weights.iter().map(|w| w.abs() * most).sum();
        let range = Range::of(&sums(weights), room).width().max(swing / LEAST_SWING);
        let least = if range > 0.0 { range / cells } else { 1.0 };
        let sizes = match weights.len() {
            _ if bits > COARSE_BITS => 1,
            0..=WIDE => SIZES,
            _ => SIZES_OF_WIDE_ROWS,
        };
        let mut best: Option<(f64, Fitted)> = None;
        for size in 0..sizes {
            let fitted =
                self.fit_cells(weights, least * (1.0 + LARGER * size as f64), cells, &|w| {
                    Range::of(&sums(w), room)
                });
            if best.as_ref().is_none_or(|(error, _)| fitted.error < *error) {
                best = Some((fitted.error, fitted));
            }
        }
        let Some((_, Fitted { rounded, range, cell, .. })) = best else {
            return Row { weights: vec![0; weights.len()], bias: 0, cell: 1.0, zero: 0.0 };
        };
        // Moves the middle of the range to the middle of the cells.
        let middle = if output { 0.0 } else { cells / 2.0 };
        let bias = (middle - (range.low + range.high) / 2.0).round();
        let mut row = Row {
            weights: rounded.iter().map(|&w| w as i32).collect(),
            bias: bias as i64,
            cell,
            zero: 0.0,
        };
        // The mean error of the row after all rounding.
        let off = |(input, target): (&Vec<f64>, &f64)| target - row.value(input);
        row.zero = inputs.iter().zip(targets).map(off).sum::<f64>() / inputs.len() as f64;
        row
    }

    /// Rounds a row for cells of this size, or larger ones if the rounded sums would not fit.
    fn fit_cells(
        &self,
        weights: &[f64],
        mut cell: f64,
        cells: f64,
        range_of: &dyn Fn(&[f64]) -> Range,
    ) -> Fitted {
        loop {
            let exact: Vec<f64> = weights.iter().map(|w| w / cell).collect();
            let (rounded, variance) = match &self.correlation {
                Some(correlation) => correlation.round(&exact, &vec![1.0; exact.len()]),
                None => (exact.iter().map(|w| w.round() as i32).collect(), 0.0),
            };
            let rounded: Vec<f64> = rounded.into_iter().map(f64::from).collect();
            let range = range_of(&rounded);
            // Rounding sums to cells adds a variance of 1/12.
            let error = (variance + 1.0 / 12.0) * cell * cell;
            // The range of `cells` has one more at both ends, because the middle is rounded.
            if range.width() <= cells || rounded.iter().all(|&w| w == 0.0) {
                return Fitted { rounded, range, cell, error };
            }
            cell *= (range.width() / cells).max(1.01);
        }
    }
}

struct Fitted {
    rounded: Vec<f64>,
    range: Range,
    cell: f64,
    error: f64,
}

/// A range of sums, margins included.
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(sums: &[f64], (margin, sigmas): (f64, f64)) -> Self {
        let count = sums.len() as f64;
        let mean = sums.iter().sum::<f64>() / count;
        let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let spread = sigmas * variance.sqrt();
        let low = sums.iter().copied().fold(f64::INFINITY, f64::min);
        let high = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let margin = margin * (high - low);
        Self { low: (low - margin).min(mean - spread), high: (high + margin).max(mean + spread) }
    }

    fn width(&self) -> f64 {
        self.high - self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Affine, Matrix};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const BITS: Accumulator = Accumulator { bits: 5, output: false };

    /// Neighbouring values are similar, as pixels are; in steps of 0 to 3.
    fn inputs(rng: &mut StdRng, count: usize, columns: usize) -> Vec<Vec<f64>> {
        let row = |rng: &mut StdRng| {
            let mut x = 1.5;
            let each = (0..columns).map(|_| {
                x = (x + rng.random_range(-0.8..0.8f64)).clamp(0.0, 3.0);
                x
            });
            each.collect()
        };
        (0..count).map(|_| row(rng)).collect()
    }

    fn layer(rng: &mut StdRng, rows: usize, cols: usize) -> Layer {
        let values = (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect();
        Layer {
            name: String::new(),
            affine: Affine { matrix: Matrix::Dense { rows, cols, values }, bias: vec![0.3; rows] },
            activation: Some(Activation::Relu.into()),
            groups: None,
            bounds: None,
        }
    }

    #[test]
    fn sums_stay_in_their_frame_and_near_the_target() {
        let mut rng = StdRng::seed_from_u64(1);
        let (rows, columns) = (12, 30);
        let layer = layer(&mut rng, rows, columns);
        let exact = inputs(&mut rng, 800, columns);
        let integers: Vec<Vec<f64>> =
            exact.iter().map(|row| row.iter().map(|x| x.round()).collect()).collect();
        let targets: Vec<Vec<f64>> = exact.iter().map(|row| layer.affine.apply(row)).collect();
        let (seen, rest) = (0..400, 400..800);
        let prepared = Prepared::new(
            &layer,
            &vec![1.0; columns],
            &integers[seen.clone()],
            &targets[seen.clone()],
        );
        let fitted = prepared.fit(&integers[seen.clone()], &targets[seen.clone()], 3.0, BITS);
        let (mut ours, mut one_by_one) = (0.0, 0.0);
        for (r, row) in fitted.iter().enumerate() {
            let sum = |input: &[f64]| {
                let products = row.weights.iter().zip(input).map(|(&w, x)| f64::from(w) * x);
                products.sum::<f64>() + row.bias as f64
            };
            let left = |i: &usize| !(0.0..32.0).contains(&sum(&integers[*i]));
            assert_eq!(seen.clone().filter(left).count(), 0);
            // Among rows that were not fitted, hardly any.
            assert!(rest.clone().filter(left).count() <= 2);
            // With the same cells, weights that are rounded one by one have larger errors.
            let weights: Vec<f64> = layer.affine.matrix.row(r).map(|(_, w)| w).collect();
            let nearest: Vec<f64> = weights.iter().map(|w| (w / row.cell).round()).collect();
            let off = |i: usize, value: f64| targets[i][r] - value;
            let nearest = |i: usize| -> f64 {
                nearest.iter().zip(&integers[i]).map(|(w, x)| row.cell * w * x).sum()
            };
            let shift = seen.clone().map(|i| off(i, nearest(i))).sum::<f64>() / seen.len() as f64;
            for i in rest.clone() {
                ours += off(i, row.value(&integers[i])).powi(2);
                one_by_one += off(i, nearest(i) + shift).powi(2);
            }
        }
        assert!(ours < 0.5 * one_by_one, "{ours}, one by one {one_by_one}");
    }

    #[test]
    fn inputs_that_never_move_are_no_reason_to_fail() {
        let mut rng = StdRng::seed_from_u64(2);
        let layer = layer(&mut rng, 3, 4);
        let inputs = vec![vec![1.0; 4]; 5];
        let targets: Vec<Vec<f64>> = inputs.iter().map(|row| layer.affine.apply(row)).collect();
        let prepared = Prepared::new(&layer, &[1.0; 4], &inputs, &targets);
        for (r, row) in prepared.fit(&inputs, &targets, 1.0, BITS).iter().enumerate() {
            assert!((row.value(&inputs[0]) - targets[0][r]).abs() < 1e-9);
            assert!(row.cell > 0.0 && row.squared_norm().is_finite());
        }
    }
}
