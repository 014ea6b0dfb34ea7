//! Chooses the encoding of a layer's inputs: the one with the least error of its rows.

use rayon::prelude::*;

use super::readers::Reader;
use super::rows::Rows;
use super::scaled::Passed;
use super::{Accumulator, TURN};
use crate::Error;
use crate::scale::Encoding;

/// Bits of the weights to try: weights up to 2^(bits − 1) in absolute value.
const WEIGHT_BITS: std::ops::RangeInclusive<i32> = 2..=14;
/// Numbers of steps to try for `exact` values.
const STEPS: [u32; 9] = [1, 2, 3, 7, 15, 31, 63, 127, 255];

impl Rows<'_> {
    /// Chooses the unit (or the number of steps) with the least total error: rounding of weights, rounding of values,
    /// and noise multiplied by the 2-norm; in turns, over all rows.
    pub(super) fn choose_encoding(&self) -> Result<Encoding, Error> {
        if let Some(encoding) = self.given_encoding() {
            return Ok(encoding);
        }
        let encoding = |steps: u32, unit: u64, rounded: bool| {
            let mut low: Vec<f64> = self.before.iter().map(|s| s.low).collect();
            let mut high: Vec<f64> = self.before.iter().map(|s| s.high).collect();
            let full = f64::from(steps) * unit as f64 / TURN;
            for (c, passed) in self.passed.iter().enumerate() {
                if let Some(Passed { low: smallest, turn }) = passed {
                    (low[c], high[c]) = (*smallest, smallest + turn * full);
                }
            }
            for (c, _) in self.waves.iter().enumerate().filter(|(_, wave)| **wave) {
                // Zero stays zero, so that the entry half a turn ahead is the negative on the torus, too.
                (low[c], high[c]) = (0.0, 1.0);
            }
            Encoding { low, high, steps, rounded, unit }
        };
        let weight = |r: usize| {
            let turn = self.frame(r).1;
            let row = self.layer.affine.matrix.row(r);
            row.map(move |(c, w)| w * self.before[c].range() / turn)
        };
        let rows = (0..self.layer.affine.rows()).filter(|&r| self.passing(r).is_none());
        let largest = rows.flat_map(weight).fold(0.0, |largest: f64, w| largest.max(w.abs()));
        if !largest.is_finite() {
            return Err(Error::NotFinite { what: format!("scaled layer {}", self.layer.name) });
        }
        let candidates: Vec<Encoding> = match self.accumulator {
            Accumulator::Continuous => WEIGHT_BITS
                .map(|bits| (largest.max(1e-9) / f64::from((1 << (bits - 1)) - 1)).min(0.25))
                .map(|full| encoding(1, (full * TURN) as u64, false))
                .collect(),
            Accumulator::Bits(bits) => {
                let unit = 1u64 << if self.whole_turn { 64 - bits } else { 63 - bits };
                // Table entries are read as less than half a turn, so that a trace of a row can follow them.
                let fits =
                    |steps: u32| self.first || u128::from(steps) * u128::from(unit) < 1 << 63;
                let steps = STEPS.iter().filter(|&&steps| fits(steps));
                steps.map(|&steps| encoding(steps, unit, true)).collect()
            }
        };
        let errors = candidates.into_iter().map(|encoding| (self.error(&encoding), encoding));
        let best = errors.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, encoding)| encoding);
        best.ok_or_else(|| Error::Network {
            reason: format!("layer {} has no scale", self.layer.name),
        })
    }

    /// The encoding if it is fixed: bits before tables over integers, and multiples of the outputs' step after them.
    fn given_encoding(&self) -> Option<Encoding> {
        let columns = self.before.len();
        let of = |high: f64, steps: u32, unit: u64| Encoding {
            low: vec![0.0; columns],
            high: vec![high; columns],
            steps,
            rounded: true,
            unit,
        };
        if let Some(bits) = self.layer.table_bits() {
            return Some(of(1.0, 1, 1 << (63 - bits)));
        }
        let (Accumulator::Bits(bits), Some(turn)) = (self.accumulator, self.turn_of_sums) else {
            return None;
        };
        Some(of(turn, 1 << bits, 1 << (64 - bits)))
    }

    /// Mean square error of the rows under an encoding, in squared turns.
    fn error(&self, encoding: &Encoding) -> f64 {
        let full = encoding.full();
        let rounding =
            if encoding.rounded { (encoding.unit as f64 / TURN).powi(2) / 12.0 } else { 0.0 };
        let rows = self.layer.affine.rows();
        let scale = self.correlation.map(|_| self.scale_of_inputs(encoding));
        let row = |r: usize| -> f64 {
            if let (Some(correlation), Some(scale)) = (self.correlation, &scale) {
                let weights: Vec<f64> = self.weights(r, encoding).map(|(_, w)| w).collect();
                let (rounded, variance) = correlation.round(&weights, scale);
                let noise = rounded.iter().zip(self.noise).map(|(&q, n)| f64::from(q).powi(2) * n);
                return variance * full * full + noise.sum::<f64>();
            }
            self.weights(r, encoding)
                .map(|(c, w)| {
                    let off = w - w.round();
                    let step = full / encoding.range(c).max(f64::MIN_POSITIVE);
                    off * off * self.before[c].power(encoding.low[c]) * step * step
                        + w.round().powi(2) * (self.noise[c] + rounding)
                })
                .sum()
        };
        // A value that passes keeps its scale, so this encoding also determines later layers' weights for it.
        let later_error = |reader: &Reader| {
            let column = reader.column;
            let turn = encoding.range(column) / full;
            let w = reader.weight * turn / reader.turn;
            let off = w - w.round();
            let spread = self.before[column].power(encoding.low[column]) / (turn * turn);
            (off * off * spread + w.round().powi(2) * self.noise[column]) / reader.rows as f64
        };
        let later = self.readers.iter().filter(|reader| encoding.range(reader.column) > 0.0);
        let own = (0..rows).into_par_iter().map(row).sum::<f64>() / rows as f64;
        own + later.map(later_error).sum::<f64>()
    }

    /// The range of each input relative to that of its encoding.
    pub(super) fn scale_of_inputs(&self, encoding: &Encoding) -> Vec<f64> {
        let ranges = self.before.iter().enumerate();
        ranges
            .map(|(c, span)| span.range() / encoding.range(c).max(f64::MIN_POSITIVE))
            .map(|scale| if scale.is_finite() { scale } else { 0.0 })
            .collect()
    }
}
