//! A scaled layer: its integer weights and its lookup tables.

use std::collections::HashMap;
use std::f64::consts::PI;

use hermesh_engine::{self as engine, Linear, Lookup, ParameterSet, torus};
use rayon::prelude::*;

use super::rows::Rows;
use super::{Accumulator, TURN};
use crate::network::{Layer, Matrix};
use crate::scale::Encoding;
use crate::sums;

/// A value that passed a stage unchanged: its smallest value, and the value of one turn.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    pub(super) low: f64,
    pub(super) turn: f64,
}

/// The meaning of a scaled layer's torus values.
pub(super) struct Scaled {
    /// The value in the middle of each frame.
    pub(super) centre: Vec<f64>,
    /// The value of one turn.
    pub(super) scale: Vec<f64>,
    pub(super) accumulator: Accumulator,
    pub(super) passes: Vec<bool>,
    /// See [`Rows::wave`].
    pub(super) waves: Vec<Option<usize>>,
    /// The whole turns of each bias, which are not visible on the torus.
    pub(super) turns: Vec<i32>,
}

impl Rows<'_> {
    /// Rounds the weights for an encoding.
    pub(super) fn scale(&self, encoding: &Encoding) -> (Linear, Scaled) {
        let affine = &self.layer.affine;
        let rows = affine.rows();
        let (mut weights, mut indices, mut offsets) = (Vec::new(), Vec::new(), vec![0u32]);
        let (mut bias, mut centre, mut scale) = (Vec::new(), Vec::new(), Vec::new());
        let mut turns = Vec::new();
        let scale_of_inputs = self.scale_of_inputs(encoding);
        let rounded: Vec<(Vec<i32>, f64)> = (0..rows)
            .into_par_iter()
            .map(|r| {
                let exact: Vec<f64> = self.weights(r, encoding).map(|(_, w)| w).collect();
                let Some(correlation) = self.correlation else {
                    return (exact.iter().map(|w| w.round() as i32).collect(), 0.0);
                };
                let (rounded, _) = correlation.round(&exact, &scale_of_inputs);
                // The mean error of the row by rounding.
                let shift = |(c, (w, &q)): (usize, (&f64, &i32))| {
                    let low = (self.before[c].low - encoding.low[c]) / encoding.range(c);
                    let mean = correlation.mean(c) * scale_of_inputs[c];
                    (w - f64::from(q)) * if low.is_finite() { low + mean } else { 0.0 }
                };
                let shift: f64 = exact.iter().zip(&rounded).enumerate().map(shift).sum();
                (rounded, shift * encoding.full())
            })
            .collect();
        for (r, (rounded, shift)) in rounded.into_iter().enumerate() {
            indices.extend(affine.matrix.row(r).map(|(c, _)| c as u32));
            weights.extend(rounded);
            offsets.push(weights.len() as u32);
            let (mut middle, turn) = self.frame_under(r, encoding);
            let constant: f64 = affine.bias[r]
                + affine.matrix.row(r).map(|(c, w)| w * encoding.low[c]).sum::<f64>();
            let offset = if self.whole_turn { 0.0 } else { 0.25 };
            let exact = (constant - middle) / turn + offset + shift;
            let unwrapped;
            bias.push(match self.accumulator {
                Accumulator::Continuous => {
                    unwrapped = exact;
                    torus(exact)
                }
                Accumulator::Bits(_) => {
                    // A whole number of steps; the centre absorbs the rounding. Half a step more before a table turns
                    // rounding down into rounding to nearest.
                    let step = encoding.unit as f64 / TURN;
                    let whole = (exact / step).round();
                    middle += (exact - whole * step) * turn;
                    let half = if self.whole_turn { 0 } else { encoding.unit / 2 };
                    unwrapped = whole * step + half as f64 / TURN;
                    torus(whole * step).wrapping_add(half)
                }
            });
            let place = bias[r] as i64 as f64 / TURN;
            turns.push((unwrapped - place).round() as i32);
            centre.push(middle);
            scale.push(turn);
        }
        let matrix = match &affine.matrix {
            Matrix::Dense { rows, cols, .. } => {
                engine::Matrix::Dense { rows: *rows as u32, columns: *cols as u32, weights }
            }
            Matrix::Sparse(sparse) => {
                engine::Matrix::Sparse { columns: sparse.cols as u32, offsets, indices, weights }
            }
        };
        let passes = (0..rows).map(|r| self.passing(r).is_some()).collect();
        let waves = (0..rows).map(|r| self.wave(r)).collect();
        let accumulator = self.accumulator;
        (Linear { matrix, bias }, Scaled { centre, scale, accumulator, passes, waves, turns })
    }
}

/// The table of the cosine, `quarters` quarters of a turn ahead: an exact rotation of the cosine's table, so that the
/// two share a bootstrap.
fn wave(entries: usize, quarters: usize, encode: impl Fn(f64) -> u64) -> Vec<u64> {
    let cosine = |i: usize| encode((PI * (i as f64 + 0.5) / entries as f64).cos());
    let entry = |i: usize| {
        let i = i + quarters * entries / 2;
        let value = cosine(i % entries);
        if (i / entries).is_multiple_of(2) { value } else { value.wrapping_neg() }
    };
    (0..entries).map(entry).collect()
}

impl Scaled {
    pub(super) fn passed(&self) -> Vec<Option<Passed>> {
        let low =
            |r: usize| Passed { low: self.centre[r] - self.scale[r] / 4.0, turn: self.scale[r] };
        (0..self.passes.len()).map(|r| self.passes[r].then(|| low(r))).collect()
    }

    /// The tables of a layer: activation, then encoding for the next layer. Rows with the same table share it. `None`
    /// if the set cannot hold the tables.
    pub(super) fn tables(
        &self,
        layer: &Layer,
        next: &Encoding,
        set: &ParameterSet,
    ) -> Option<Lookup> {
        let entries = match (self.accumulator, set.bootstrap) {
            (Accumulator::Bits(bits), Some(b)) if 1 << bits <= b.polynomial_size => 1 << bits,
            (Accumulator::Continuous, Some(b)) => b.polynomial_size,
            _ => return None,
        };
        let mut known = HashMap::new();
        let (mut tables, mut table_of) = (Vec::new(), Vec::new());
        for r in 0..self.centre.len() {
            if self.passes[r] {
                table_of.push(Lookup::PASS);
                continue;
            }
            let whole = layer.table_bits().is_some() && next.rounded;
            let dither = if whole { sums::dither(r) } else { 0.0 };
            let key = [self.centre[r], self.scale[r], next.low[r], next.range(r), dither];
            let key = key.map(f64::to_bits);
            let kind = layer.activation.as_ref().map(|a| std::ptr::from_ref(a.at(r)));
            let table = *known.entry((key, kind)).or_insert_with(|| {
                if let Some(quarters) = self.waves[r] {
                    tables.push(wave(entries, quarters, |cosine| next.encode(r, cosine, 0.0)));
                    return tables.len() as u32 - 1;
                }
                let table = (0..entries).map(|i| {
                    // The middle of the entry if values are continuous; otherwise the integer itself.
                    let middle =
                        if matches!(self.accumulator, Accumulator::Continuous) { 0.5 } else { 0.0 };
                    let x = (i as f64 + middle) / (2 * entries) as f64 - 0.25;
                    let value = self.centre[r] + self.scale[r] * x;
                    next.encode(r, layer.activated(r, value), dither)
                });
                tables.push(table.collect());
                tables.len() as u32 - 1
            });
            table_of.push(table);
        }
        Some(Lookup { tables, table_of })
    }
}
