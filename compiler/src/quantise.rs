//! From a network in floating point to a program on the torus.
//!
//! A row of a layer, `a = Σ wᵢ·xᵢ + b`, arrives as values that the encoding before it maps to
//! `tᵢ = unit·steps·(xᵢ − lowᵢ)/rangeᵢ`. The row's weights are divided by a step `s`, rounded to
//! integers, and applied to the `tᵢ`; `s` is chosen so that the calibrated range of `a`, and a
//! margin, just fills the part of the torus that there is: the half that a table covers, or all of
//! it for outputs. Bias, activation and the encoding for the next layer go into the table (operator
//! fusion). What is left to choose is the unit: a smaller one makes the integers larger, so that
//! rounding them costs less and noise, which grows with their 2-norm, more.

use crate::Error;
use crate::calibration::{Span, Spans};
use crate::network::{Layer, Matrix, Network};
use crate::scale::{Decoding, Encoding};
use hermesh_engine::{
    self as engine, Linear, Lookup, ParameterSet, Precision, Program, Stage, noise, torus,
};
use std::collections::HashMap;

/// Room left around the calibrated range of a table's inputs, and around that of outputs, where a
/// value out of range is a wrong answer: see [`Span::widened`].
const TABLE_ROOM: (f64, f64) = (0.05, 4.5);
const OUTPUT_ROOM: (f64, f64) = (0.25, 6.0);
/// A row is taken to cover at least this part of what its inputs could make of it.
const LEAST_SWING: f64 = 256.0;
/// Weights that are tried: up to 2^(bits − 1) in absolute value.
const WEIGHT_BITS: std::ops::RangeInclusive<i32> = 2..=14;
/// Steps that `exact` values are tried with.
const STEPS: [u32; 9] = [1, 2, 3, 7, 15, 31, 63, 127, 255];
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// A program with what the client needs to use it.
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    pub(crate) program: Program,
    pub(crate) input: Encoding,
    pub(crate) output: Decoding,
    /// log₂ of the largest weight of each stage, rounded up, plus the sign.
    pub(crate) weight_bits: Vec<u32>,
}

/// What a layer's results are computed on.
#[derive(Clone, Copy)]
enum Accumulator {
    /// As fine as the torus.
    Continuous,
    /// Integers of this many bits.
    Bits(u32),
}

/// Quantises for a set. For `exact`, accumulators before tables have `bits` bits and outputs
/// `output_bits`.
pub(crate) fn quantise(
    network: &Network,
    spans: &Spans,
    set: &'static ParameterSet,
    exact: Option<(u32, u32)>,
) -> Result<Quantised, Error> {
    let mut stages = Vec::new();
    let mut weight_bits = Vec::new();
    let mut noise_in = noise::fresh(set);
    let mut before = &spans.inputs;
    let mut incoming = None;
    let mut input = None;
    let last = network.layers.len() - 1;
    for (i, layer) in network.layers.iter().enumerate() {
        let accumulator = match exact {
            None => Accumulator::Continuous,
            Some((_, output)) if i == last => Accumulator::Bits(output),
            Some((bits, _)) => Accumulator::Bits(bits),
        };
        let row =
            Rows { layer, spans: &spans.before[i], before, whole_turn: i == last, accumulator };
        let encoding = row.choose_encoding(noise_in)?;
        match incoming.take() {
            None => input = Some(encoding.clone()),
            Some((linear, layer_before, rows)) => {
                let rows: Scaled = rows;
                let lookup = rows.tables(layer_before, &encoding, set)?;
                stages.push(Stage { linear, lookup: Some(lookup) });
            }
        }
        let (linear, scaled) = row.scale(&encoding);
        weight_bits.push(bits(&linear));
        incoming = Some((linear, layer, scaled));
        noise_in = noise::bootstrap(set);
        before = &spans.after[i];
    }
    let (Some((linear, _, scaled)), Some(input)) = (incoming, input) else {
        return Err(Error::Network { reason: "no layer".into() });
    };
    stages.push(Stage { linear, lookup: None });
    let precision = match exact {
        None => Precision::Approximate,
        Some((_, output_bits)) => Precision::Exact { output_bits },
    };
    let output =
        Decoding { centre: scaled.centre, scale: scaled.scale, bits: exact.map(|(_, bits)| bits) };
    let program = Program::new(set, precision, stages)?;
    Ok(Quantised { program, input, output, weight_bits })
}

fn bits(linear: &Linear) -> u32 {
    let matrix = &linear.matrix;
    let largest =
        (0..matrix.rows()).flat_map(|r| matrix.row(r)).map(|(_, w)| w.unsigned_abs()).max();
    33 - largest.unwrap_or(0).leading_zeros()
}

/// A layer about to be scaled.
struct Rows<'a> {
    layer: &'a Layer,
    /// Of what the rows compute.
    spans: &'a [Span],
    /// Of what they compute it from.
    before: &'a [Span],
    whole_turn: bool,
    accumulator: Accumulator,
}

/// What a scaled layer's torus values mean.
struct Scaled {
    /// The value in the middle of the covered part.
    centre: Vec<f64>,
    /// What a whole turn stands for.
    scale: Vec<f64>,
    accumulator: Accumulator,
}

impl Rows<'_> {
    /// What is left room for in row `r`: the middle, and what a whole turn stands for.
    fn frame(&self, r: usize) -> (f64, f64) {
        let ((margin, sigmas), part) =
            if self.whole_turn { (OUTPUT_ROOM, 1.0) } else { (TABLE_ROOM, 0.5) };
        let (low, high) = self.spans[r].widened(margin, sigmas);
        // A row that hardly moves on the calibration rows (it cancels, or is constant) still needs a
        // scale: one that its weights bear, and other rows with it.
        let row = self.layer.affine.matrix.row(r);
        let swing: f64 = row.map(|(c, w)| (w * self.before[c].range()).abs()).sum();
        let least = (swing / LEAST_SWING).max(1e-6 * (1.0 + high.abs()));
        ((low + high) / 2.0, (high - low).max(least) / part)
    }

    /// The weights of a row over encoded values that go from 0 to `full` turns.
    fn weights(&self, r: usize, full: f64) -> impl Iterator<Item = (usize, f64)> + '_ {
        let scale = 1.0 / (self.frame(r).1 * full);
        self.layer.affine.matrix.row(r).map(move |(c, w)| (c, w * self.before[c].range() * scale))
    }

    /// Chooses the unit (or the number of steps) with the least total error: weights rounded, values
    /// rounded, noise multiplied by the 2-norm; in turns of the torus, over all rows.
    fn choose_encoding(&self, noise: f64) -> Result<Encoding, Error> {
        let encoding = |steps: u32, unit: u64, rounded: bool| Encoding {
            low: self.before.iter().map(|s| s.low).collect(),
            high: self.before.iter().map(|s| s.high).collect(),
            steps,
            rounded,
            unit,
        };
        let largest = (0..self.layer.affine.rows())
            .flat_map(|r| self.weights(r, 1.0))
            .fold(0.0, |largest: f64, (_, w)| largest.max(w.abs()));
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
                STEPS.iter().map(|&steps| encoding(steps, unit, true)).collect()
            }
        };
        let best = candidates
            .into_iter()
            .min_by(|a, b| self.error(a, noise).total_cmp(&self.error(b, noise)));
        best.ok_or_else(|| Error::Network {
            reason: format!("layer {} has no scale", self.layer.name),
        })
    }

    /// Mean square error of the rows, in turns, that an encoding leads to.
    fn error(&self, encoding: &Encoding, noise: f64) -> f64 {
        let full = f64::from(encoding.steps) * encoding.unit as f64 / TURN;
        let rounding =
            if encoding.rounded { (encoding.unit as f64 / TURN).powi(2) / 12.0 } else { 0.0 };
        let rows = self.layer.affine.rows();
        let row = |r: usize| -> f64 {
            self.weights(r, full)
                .map(|(c, w)| {
                    let off = w - w.round();
                    off * off * self.before[c].power() * full * full
                        + w.round().powi(2) * (noise + rounding)
                })
                .sum()
        };
        (0..rows).map(row).sum::<f64>() / rows as f64
    }

    /// Rounds the weights for an encoding.
    fn scale(&self, encoding: &Encoding) -> (Linear, Scaled) {
        let full = f64::from(encoding.steps) * encoding.unit as f64 / TURN;
        let affine = &self.layer.affine;
        let rows = affine.rows();
        let (mut weights, mut indices, mut offsets) = (Vec::new(), Vec::new(), vec![0u32]);
        let (mut bias, mut centre, mut scale) = (Vec::new(), Vec::new(), Vec::new());
        for r in 0..rows {
            for (c, w) in self.weights(r, full) {
                weights.push(w.round() as i32);
                indices.push(c as u32);
            }
            offsets.push(weights.len() as u32);
            let (mut middle, turn) = self.frame(r);
            let constant: f64 = affine.bias[r]
                + affine.matrix.row(r).map(|(c, w)| w * self.before[c].low).sum::<f64>();
            let offset = if self.whole_turn { 0.0 } else { 0.25 };
            let exact = (constant - middle) / turn + offset;
            bias.push(match self.accumulator {
                Accumulator::Continuous => torus(exact),
                Accumulator::Bits(_) => {
                    // A whole number of steps; what the rounding moves, the centre takes up. Before
                    // a table half a step more, so that rounding down is rounding to the nearest.
                    let step = encoding.unit as f64 / TURN;
                    let whole = (exact / step).round();
                    middle += (exact - whole * step) * turn;
                    let half = if self.whole_turn { 0 } else { encoding.unit / 2 };
                    torus(whole * step).wrapping_add(half)
                }
            });
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
        (Linear { matrix, bias }, Scaled { centre, scale, accumulator: self.accumulator })
    }
}

impl Scaled {
    /// The tables of a layer: activation, and encoding for the next. Rows that share everything
    /// share a table.
    fn tables(&self, layer: &Layer, next: &Encoding, set: &ParameterSet) -> Result<Lookup, Error> {
        let entries = match (self.accumulator, set.bootstrap) {
            (Accumulator::Bits(bits), Some(b)) if 1 << bits <= b.polynomial_size => 1 << bits,
            (Accumulator::Continuous, Some(b)) => b.polynomial_size,
            _ => {
                let reason = format!("parameter set {} cannot hold the tables", set.name);
                return Err(Error::Network { reason });
            }
        };
        let activation = layer.activation;
        let mut known = HashMap::new();
        let (mut tables, mut table_of) = (Vec::new(), Vec::new());
        for r in 0..self.centre.len() {
            let key = [self.centre[r], self.scale[r], next.low[r], next.high[r]].map(f64::to_bits);
            let table = *known.entry(key).or_insert_with(|| {
                let table = (0..entries).map(|i| {
                    // The middle of the entry if values are continuous, else the integer itself.
                    let middle =
                        if matches!(self.accumulator, Accumulator::Continuous) { 0.5 } else { 0.0 };
                    let x = (i as f64 + middle) / (2 * entries) as f64 - 0.25;
                    let value = self.centre[r] + self.scale[r] * x;
                    next.encode(r, activation.map_or(value, |a| a.apply(value)))
                });
                tables.push(table.collect());
                tables.len() as u32 - 1
            });
            table_of.push(table);
        }
        Ok(Lookup { tables, table_of })
    }
}
