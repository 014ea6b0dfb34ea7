//! The errors that a model states for its outputs, and what is left of them for clamping.

use super::{Compilation, Grid, Precision, Tried};
use crate::Error;
use crate::client::Guarantee;
use crate::interval;
use crate::measure::{self, Off};
use crate::model::Model;
use crate::probe;
use crate::proven;
use crate::report::{Candidate, Report, Unbounded};
use rayon::prelude::*;

/// Limit on the error of an answered score by rounding and clamping: multiples of the root mean square error on the
/// measured rows, and of the standard deviation of noise.
const ROUNDING_ROOM: f64 = 4.0;
const NOISE_ROOM: f64 = 2.0;
/// The stated deviation covers this fraction of the measured rows, with something to spare for others of their kind.
const COVERED: f64 = 0.995;
const SPARE: f64 = 1.15;
/// If a bound on rounding is proven, the limit is at least this many times the bound; the rest is left for clamping.
const PROVEN_ROOM: f64 = 1.25;

impl Compilation<'_> {
    /// Adds error bounds, resolution and measurements to the model.
    pub(super) fn finish(
        &self,
        chosen: Tried,
        frontier: Vec<Candidate>,
        why: String,
        plain: Option<f64>,
        unbounded: Option<Unbounded>,
        calibration: &[&[f64]],
    ) -> Result<Model, Error> {
        let Tried { model, measured, .. } = chosen;
        let off = self.off(&model, measured.off, calibration)?;
        let exact = self.precision == Precision::Exact;
        let noise = |i: usize| if exact { 0.0 } else { off.noise[i] };
        let outputs = 0..model.program().outputs();
        let proven = self.proven(&model);
        let limit: Vec<f64> = outputs
            .clone()
            .map(|i| {
                let measured = (ROUNDING_ROOM * off.rounding[i]).max(NOISE_ROOM * noise(i));
                let proven = proven.as_ref().map_or(0.0, |proven| PROVEN_ROOM * proven[i]);
                measured.max(proven)
            })
            .collect();
        let usual: Vec<f64> = outputs.map(|i| noise(i) + limit[i] / 6.0).collect();
        let deviation = self.deviation(&model, usual)?;
        let resolution = deviation.iter().map(|std| if exact { 0.0 } else { 4.0 * std });
        let resolution: Vec<f64> = resolution.collect();
        let mut client = model.client().clone();
        client.sensitivity = proven.and_then(|proven| {
            let left = limit.iter().zip(&proven).map(|(limit, rounding)| limit - rounding);
            self.sensitivity(&model, &left.collect::<Vec<_>>())
        });
        client.resolution = resolution.clone();
        client.report = Report {
            why,
            resolution,
            deviation,
            rows_measured: self.rows.len(),
            held_out: self.held_out,
            plain_accuracy: plain,
            simulated_accuracy: measured.accuracy,
            agreement: measured.agreement,
            frontier,
            unbounded,
            warnings: self.warnings.clone(),
            ..client.report
        };
        model.with_client(client)
    }

    /// What is stated: enough for the measured rows, whose noise differs from row to row where tables amplify it. The
    /// outputs keep their proportions, so that the row that decides is the worst in any output.
    fn deviation(&self, model: &Model, usual: Vec<f64>) -> Result<Vec<f64>, Error> {
        if self.precision == Precision::Exact || self.core.layers.len() == 1 {
            return Ok(usual);
        }
        let rows = self.rows.par_iter().map(|row| model.errors_of(row));
        let rows: Vec<Vec<f64>> =
            rows.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect();
        if rows.is_empty() {
            return Ok(usual);
        }
        let typical: Vec<f64> = (0..usual.len())
            .map(|i| quantile(rows.iter().map(|row| row[i] / 6.0), 0.95).max(f64::MIN_POSITIVE))
            .collect();
        let worst = |row: &Vec<f64>| {
            row.iter().zip(&typical).map(|(x, typical)| x / 6.0 / typical).fold(0.0, f64::max)
        };
        let times = SPARE * quantile(rows.iter().map(worst), COVERED);
        Ok(typical.iter().map(|x| times * x).collect())
    }

    /// Errors of the outputs on the measured rows and, if those do not represent the rows to come, on synthetic rows.
    fn off(&self, model: &Model, measured: Off, calibration: &[&[f64]]) -> Result<Off, Error> {
        let mut kinds = Vec::new();
        if !self.held_out {
            kinds.push(probe::between(calibration, &self.whole));
        }
        let client = model.client();
        if client.guarantee == Guarantee::Bounded && !self.compares() {
            kinds.extend(probe::everywhere(&client.domain, calibration, &self.whole));
        }
        let mut off = measured;
        for rows in kinds {
            let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            off = off.worst(&measure::simulate(model, &rows, None, rows.len())?.off);
        }
        Ok(off)
    }

    /// Whether the client compares features with a grid. A value between a threshold and its grid point is answered as
    /// if it were on the other side, so random rows would not measure rounding.
    fn compares(&self) -> bool {
        crate::grid::compares(&self.prefix)
    }

    /// See [`proven::rounding`]; of bounded programs only. Grids that move thresholds have no bound.
    fn proven(&self, model: &Model) -> Option<Vec<f64>> {
        let bounded = model.client().guarantee == Guarantee::Bounded;
        let moved = self.compares() && self.options.grid != Grid::Thresholds;
        if !bounded || moved { None } else { proven::rounding(&self.core, model) }
    }

    /// How far clamping a value may move an output, in parts of the limit that rounding leaves.
    fn sensitivity(&self, model: &Model, limit: &[f64]) -> Option<Vec<f64>> {
        if self.compares() {
            // Comparisons are never clamped.
            return Some(vec![0.0; model.program().inputs()]);
        }
        interval::sensitivity(&self.core, limit)
    }
}

/// The smallest value that is at least this fraction of all.
fn quantile(values: impl Iterator<Item = f64>, fraction: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = (fraction * values.len() as f64).ceil() as usize;
    values[at.clamp(1, values.len()) - 1]
}
