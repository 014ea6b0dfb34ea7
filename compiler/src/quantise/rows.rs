//! A layer before scaling: the frame of each row.

use std::f64::consts::{FRAC_PI_2, TAU};

use super::Accumulator;
use super::readers::Reader;
use super::scaled::Passed;
use crate::calibration::Span;
use crate::network::{Activation, Layer};
use crate::rounding::Correlation;
use crate::scale::Encoding;

/// Margins around the calibrated range of a table's inputs, and around that of outputs, where a value outside is a
/// wrong answer: see [`Span::widened`].
pub(crate) const TABLE_ROOM: (f64, f64) = (0.07, 4.5);
const OUTPUT_ROOM: (f64, f64) = (0.25, 6.0);
/// The part of a turn that rows with bounds cover, before tables and in outputs. The rest is for noise and for the
/// rounding of weights.
const BOUNDED_PARTS: (f64, f64) = (0.47, 0.9);
/// A row is assumed to cover at least this part (1/256) of the range that its inputs allow.
const LEAST_SWING: f64 = 256.0;

/// A layer before scaling.
pub(super) struct Rows<'a> {
    pub(super) layer: &'a Layer,
    /// Spans of the rows' results.
    pub(super) spans: &'a [Span],
    /// Spans of the rows' inputs.
    pub(super) before: &'a [Span],
    pub(super) whole_turn: bool,
    pub(super) accumulator: Accumulator,
    /// Noise variance of each input.
    pub(super) noise: &'a [f64],
    /// Inputs that passed the stage before.
    pub(super) passed: &'a [Option<Passed>],
    /// Which inputs are sines or cosines (sinusoidal features).
    pub(super) waves: &'a [bool],
    /// The correlation by which weights are rounded jointly.
    pub(super) correlation: Option<&'a Correlation>,
    pub(super) first: bool,
    /// The value of one turn, if the rows are exact sums of tables over integers.
    pub(super) turn_of_sums: Option<f64>,
    /// Rows of later layers that read values that pass this one.
    pub(super) readers: Vec<Reader>,
}

impl Rows<'_> {
    /// The column that row `r` passes unchanged, if it does.
    pub(super) fn passing(&self, r: usize) -> Option<usize> {
        let identity =
            self.layer.activation.as_ref().is_some_and(|a| *a.at(r) == Activation::Identity);
        let continuous = matches!(self.accumulator, Accumulator::Continuous);
        if self.first || !identity || !continuous || self.layer.affine.bias[r] != 0.0 {
            return None;
        }
        let mut row = self.layer.affine.matrix.row(r).filter(|&(_, w)| w != 0.0);
        match (row.next(), row.next()) {
            (Some((column, 1.0)), None) => Some(column),
            _ => None,
        }
    }

    /// [`Activation::wave`] of row `r`, if accumulators are continuous. One period is then one turn, so the sum may
    /// wrap around any number of times, and the whole torus is used.
    pub(super) fn wave(&self, r: usize) -> Option<usize> {
        let continuous = matches!(self.accumulator, Accumulator::Continuous);
        self.layer.activation.as_ref().filter(|_| continuous)?.at(r).wave()
    }

    /// The frame of row `r`: its middle, and the value of one turn.
    pub(super) fn frame(&self, r: usize) -> (f64, f64) {
        if self.wave(r).is_some() {
            return (FRAC_PI_2, TAU);
        }
        if let Some(bits) = self.layer.table_bits() {
            // The integers that the tables take, each in the middle of its cell.
            let half = if matches!(self.accumulator, Accumulator::Continuous) { 0.5 } else { 0.0 };
            return (f64::from(1 << (bits - 1)) - half, f64::from(1 << (bits + 1)));
        }
        if let Some(bounds) = &self.layer.bounds {
            let (low, high) = bounds[r];
            let least = 1e-6 * (1.0 + low.abs().max(high.abs()));
            let part = if self.whole_turn { BOUNDED_PARTS.1 } else { BOUNDED_PARTS.0 };
            let turn = self.turn_of_sums.unwrap_or((high - low).max(least) / part);
            return ((low + high) / 2.0, turn);
        }
        let ((margin, sigmas), part) =
            if self.whole_turn { (OUTPUT_ROOM, 1.0) } else { (TABLE_ROOM, 0.5) };
        let (mut low, mut high) = self.spans[r].widened(margin, sigmas);
        // A row with one weight covers the whole range of its input.
        let mut row = self.layer.affine.matrix.row(r).filter(|&(_, w)| w != 0.0);
        if let (Some((c, w)), None) = (row.next(), row.next()) {
            let ends = [self.before[c].low, self.before[c].high];
            let ends = ends.map(|x| w * x + self.layer.affine.bias[r]);
            (low, high) = (low.min(ends[0]).min(ends[1]), high.max(ends[0]).max(ends[1]));
        }
        // A row that hardly varies on the calibration rows (it cancels, or is constant) still needs a scale: one that
        // suits its weights and the other rows.
        let row = self.layer.affine.matrix.row(r);
        let swing: f64 = row.map(|(c, w)| (w * self.before[c].range()).abs()).sum();
        let least = (swing / LEAST_SWING).max(1e-6 * (1.0 + high.abs()));
        ((low + high) / 2.0, (high - low).max(least) / part)
    }

    /// [`Self::frame`] under an encoding, which determines the frame of a row that passes.
    pub(super) fn frame_under(&self, r: usize, encoding: &Encoding) -> (f64, f64) {
        let Some(column) = self.passing(r) else {
            return self.frame(r);
        };
        let turn = encoding.range(column) / encoding.full();
        (encoding.low[column] + turn / 4.0, turn)
    }

    /// The weights of a row over encoded values.
    pub(super) fn weights<'a>(
        &'a self,
        r: usize,
        encoding: &'a Encoding,
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        let scale = 1.0 / (self.frame_under(r, encoding).1 * encoding.full());
        self.layer.affine.matrix.row(r).map(move |(c, w)| (c, w * encoding.range(c) * scale))
    }
}
