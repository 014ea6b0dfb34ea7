//! How noise spreads through lookup tables, for one row.
//!
//! [`Program::noise`] gives the noise that is added before each table. What a table makes of it depends on the row: on
//! a steep part of a function it grows, on a flat part it vanishes, and at a corner the mean moves as well.
//!
//! Each table is replaced by its best linear approximation under the noise at its input: a mean, a slope (the
//! regression of the entries on the noise), and a remainder that is independent of it. Means and variances go forward,
//! stage by stage; the variance of an output is collected backwards, so that noise which reaches it on several ways is
//! added before it is squared. What is approximated: the distribution of sums, as normal.

use crate::noise::StageNoise;
use crate::{Lookup, Program, torus};

/// The noise of one row.
#[derive(Clone, Debug)]
pub struct Spread {
    /// For each stage and sum: its variance, in squared turns. Zero for values that pass.
    pub sums: Vec<Vec<f64>>,
    /// For each output: by how much noise moves its mean, in turns.
    pub shift: Vec<f64>,
    /// For each output: its variance, in squared turns.
    pub variance: Vec<f64>,
}

/// What a table makes of a noisy value.
#[derive(Clone, Copy)]
struct Response {
    /// Mean of the entries less the entry without noise, in turns.
    shift: f64,
    /// Turns of the entry for each turn of the noise.
    slope: f64,
    /// Variance of the entries that the slope does not explain, in squared turns.
    rest: f64,
}

impl Program {
    /// For the sums of one row ([`Program::trace`]) and the program's noise ([`Program::noise`]).
    ///
    /// # Panics
    /// If `trace` or `noise` are not those of this program.
    #[must_use]
    pub fn spread(&self, trace: &[Vec<i128>], noise: &[StageNoise]) -> Spread {
        let mut sums = Vec::with_capacity(trace.len());
        let mut responses: Vec<Vec<Response>> = Vec::with_capacity(trace.len());
        // Of the values that enter a stage: shift of the mean, and variance that tables made.
        let mut incoming = vec![(0.0, 0.0); self.inputs()];
        for ((stage, noise), trace) in self.stages().iter().zip(noise).zip(trace) {
            let matrix = &stage.linear.matrix;
            let moved: Vec<(f64, f64)> = (0..matrix.rows())
                .map(|r| {
                    matrix.row(r).fold((0.0, 0.0), |(shift, variance), (c, w)| {
                        let w = f64::from(w);
                        (shift + w * incoming[c].0, variance + w * w * incoming[c].1)
                    })
                })
                .collect();
            let passes = |r: usize| stage.lookup.as_ref().is_some_and(|l| l.table(r).is_none());
            let variance = |(r, &(_, variance)): (usize, &(f64, f64))| {
                if passes(r) { 0.0 } else { variance + noise.input[r] }
            };
            sums.push(moved.iter().enumerate().map(variance).collect::<Vec<f64>>());
            let Some(lookup) = &stage.lookup else {
                incoming = moved;
                continue;
            };
            let variances = &sums[sums.len() - 1];
            let respond = |r: usize| match passes(r) {
                true => Response { shift: moved[r].0, slope: 1.0, rest: 0.0 },
                false => respond(lookup, r, trace[r], moved[r].0, variances[r]),
            };
            let stage: Vec<Response> = (0..matrix.rows()).map(respond).collect();
            let outgoing = |(r, response): (usize, &Response)| {
                let through = if passes(r) { moved[r].1 } else { variances[r] };
                (response.shift, response.slope * response.slope * through + response.rest)
            };
            incoming = stage.iter().enumerate().map(outgoing).collect();
            responses.push(stage);
        }
        let shift: Vec<f64> = incoming.iter().map(|(shift, _)| *shift).collect();
        let variance =
            (0..self.outputs()).map(|output| self.variance(output, noise, &responses)).collect();
        Spread { sums, shift, variance }
    }

    /// The variance of one output.
    fn variance(&self, output: usize, noise: &[StageNoise], responses: &[Vec<Response>]) -> f64 {
        let last = self.stages().len() - 1;
        let mut total = noise[last].input[output];
        // How much the output moves with each result of the stage before.
        let mut weights = vec![0.0; self.stages()[last].linear.matrix.columns()];
        let row = self.stages()[last].linear.matrix.row(output);
        row.for_each(|(c, w)| weights[c] += f64::from(w));
        for (s, responses) in responses.iter().enumerate().rev() {
            let stage = &self.stages()[s];
            let Some(lookup) = &stage.lookup else { continue };
            let rows = stage.linear.matrix.rows();
            let slopes: Vec<f64> = (0..rows).map(|r| weights[r] * responses[r].slope).collect();
            // Values that share a bootstrap share its noise.
            let mut together = vec![0.0; rows];
            for r in (0..rows).filter(|&r| lookup.table(r).is_some()) {
                total += weights[r] * weights[r] * responses[r].rest;
                together[self.shares(s)[r].leader] += slopes[r];
            }
            total += together.iter().zip(&noise[s].input).map(|(g, v)| g * g * v).sum::<f64>();
            if s == 0 {
                break;
            }
            weights = vec![0.0; stage.linear.matrix.columns()];
            for (r, &slope) in slopes.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
                stage.linear.matrix.row(r).for_each(|(c, w)| weights[c] += slope * f64::from(w));
            }
        }
        total
    }
}

/// Entries around a sum, at whole standard deviations up to four, weighted as a normal distribution.
fn respond(lookup: &Lookup, index: usize, sum: i128, shift: f64, variance: f64) -> Response {
    let sigma = variance.sqrt();
    let without = lookup.entry(index, sum as u64);
    let at = |z: f64| {
        let entry = lookup.entry(index, (sum as u64).wrapping_add(torus(shift + z * sigma)));
        entry.wrapping_sub(without) as i64 as f64 / 2f64.powi(64)
    };
    let points = (-4..=4).map(f64::from).map(|z| (z, (-z * z / 2.0).exp(), at(z)));
    let points: Vec<(f64, f64, f64)> = points.collect();
    let mean = |f: &dyn Fn(f64, f64) -> f64| {
        let weight: f64 = points.iter().map(|(_, w, _)| w).sum();
        points.iter().map(|&(z, w, entry)| w * f(z, entry)).sum::<f64>() / weight
    };
    let shift = mean(&|_, entry| entry);
    let variance = mean(&|_, entry| (entry - shift).powi(2));
    let along = mean(&|z, entry| z * entry);
    let slope = if sigma > 0.0 { along / sigma } else { 0.0 };
    Response { shift, slope, rest: (variance - along * along).max(0.0) }
}
