//! How noise spreads through lookup tables, for one row.
//!
//! A table amplifies the noise at its input where it is steep, removes it where it is flat, and moves its mean at a
//! corner. So the noise of an output depends on the row. [`Program::noise`] cannot tell: it knows no row.
//!
//! Each table is replaced by its best linear approximation under the noise at its input: a mean, a slope (the regression
//! of the entries on the noise) and a remainder. [`Program::spread`] goes forward through the stages.
//! [`Program::output_moments`] then goes backward from each output to every source of noise: fresh inputs, keyswitches
//! and modulus switches, results of bootstraps, remainders. Noise that reaches an output along several ways is thus
//! added before it is squared.
//!
//! Approximations: sums are normal; forward, the noise that several values of a stage have in common is counted as
//! independent, which matters for sums before tables from the third stage on; jumps of a table that are further than
//! four standard deviations away (once in 31,000 times) are not seen.

use crate::noise::{StageNoise, fresh};
use crate::{Lookup, Program, torus};

/// How noise moves a sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// By how much it moves the mean, in turns.
    pub shift: f64,
    /// Variance, in squared turns.
    pub variance: f64,
}

/// The noise of one row.
#[derive(Clone, Debug)]
pub struct Spread {
    /// For each stage and sum. The variance of a value that passes is only what tables before it made.
    pub sums: Vec<Vec<Moments>>,
    /// For each stage with tables.
    responses: Vec<Vec<Response>>,
}

/// What a table makes of a noisy value.
#[derive(Clone, Copy, Debug)]
struct Response {
    /// Mean of the entries less the entry without noise, in turns.
    shift: f64,
    /// Turns of the entry for each turn of the noise.
    slope: f64,
    /// Variance of what the slope does not explain, in squared turns.
    rest: f64,
}

impl Program {
    /// The noise of the sums of one row, given without noise ([`Program::trace`]). `noise` is [`Program::noise`].
    ///
    /// # Panics
    /// If `trace` or `noise` are not those of this program.
    #[must_use]
    pub fn spread(&self, trace: &[Vec<i128>], noise: &[StageNoise]) -> Spread {
        let mut spread = Spread { sums: Vec::new(), responses: Vec::new() };
        // What tables made of the noise so far.
        let mut incoming = vec![Moments::default(); self.inputs()];
        for ((stage, noise), trace) in self.stages().iter().zip(noise).zip(trace) {
            let passes = |r: usize| stage.lookup.as_ref().is_some_and(|l| l.table(r).is_none());
            let sum = |r: usize| {
                let own = if passes(r) { 0.0 } else { noise.input[r] };
                let start = Moments { shift: 0.0, variance: own };
                stage.linear.matrix.row(r).fold(start, |sum, (c, w)| {
                    let w = f64::from(w);
                    Moments {
                        shift: sum.shift + w * incoming[c].shift,
                        variance: sum.variance + w * w * incoming[c].variance,
                    }
                })
            };
            let sums: Vec<Moments> = (0..stage.linear.matrix.rows()).map(sum).collect();
            if let Some(lookup) = &stage.lookup {
                let respond = |(r, &sum): (usize, &Moments)| match passes(r) {
                    true => Response { shift: sum.shift, slope: 1.0, rest: 0.0 },
                    false => respond(lookup, r, trace[r], sum),
                };
                let responses: Vec<Response> = sums.iter().enumerate().map(respond).collect();
                let outgoing = |(sum, response): (&Moments, &Response)| Moments {
                    shift: response.shift,
                    variance: response.slope * response.slope * sum.variance + response.rest,
                };
                incoming = sums.iter().zip(&responses).map(outgoing).collect();
                spread.responses.push(responses);
            }
            spread.sums.push(sums);
        }
        spread
    }

    /// The noise of each output, from the spread of its row.
    ///
    /// # Panics
    /// As [`Self::spread`].
    #[must_use]
    pub fn output_moments(&self, spread: &Spread, noise: &[StageNoise]) -> Vec<Moments> {
        let last = spread.sums.last().map_or(&[][..], |sums| sums);
        let moments = |(output, sum): (usize, &Moments)| Moments {
            variance: self.output_variance(output, &spread.responses, noise),
            ..*sum
        };
        last.iter().enumerate().map(moments).collect()
    }

    fn output_variance(
        &self,
        output: usize,
        responses: &[Vec<Response>],
        noise: &[StageNoise],
    ) -> f64 {
        let (last, before) = (self.stages().len() - 1, &self.stages()[..self.stages().len() - 1]);
        let mut total = noise[last].added;
        // How much the output moves with each value that enters a stage.
        let mut weights = vec![0.0; self.stages()[last].linear.matrix.columns()];
        self.stages()[last].linear.matrix.row(output).for_each(|(c, w)| weights[c] += f64::from(w));
        for (s, stage) in before.iter().enumerate().rev() {
            let rows = stage.linear.matrix.rows();
            let slopes: Vec<f64> = (0..rows).map(|r| weights[r] * responses[s][r].slope).collect();
            // Values that share a bootstrap share the noise before it.
            let mut together = vec![0.0; rows];
            for r in 0..rows {
                if stage.lookup.as_ref().is_some_and(|lookup| lookup.table(r).is_some()) {
                    total += weights[r] * weights[r] * (responses[s][r].rest + noise[s].output);
                    together[self.shares(s)[r].leader] += slopes[r];
                }
            }
            total += together.iter().map(|slope| slope * slope).sum::<f64>() * noise[s].added;
            weights = vec![0.0; stage.linear.matrix.columns()];
            for (r, &slope) in slopes.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
                stage.linear.matrix.row(r).for_each(|(c, w)| weights[c] += slope * f64::from(w));
            }
        }
        total + weights.iter().map(|w| w * w).sum::<f64>() * fresh(self.parameter_set())
    }
}

/// Entries around a sum, at whole standard deviations up to four, weighted as a normal distribution.
///
/// The remainder is at least a sixth of its largest value there, so that six standard deviations cover any one jump.
fn respond(lookup: &Lookup, index: usize, sum: i128, noise: Moments) -> Response {
    let sigma = noise.variance.sqrt();
    let without = lookup.entry(index, sum as u64);
    let entry = |z: f64| {
        let at = (sum as u64).wrapping_add(torus(noise.shift + z * sigma));
        lookup.entry(index, at).wrapping_sub(without) as i64 as f64 / 2f64.powi(64)
    };
    let points = (-4..=4).map(f64::from).map(|z| (z, (-z * z / 2.0).exp(), entry(z)));
    let points: Vec<(f64, f64, f64)> = points.collect();
    let weight: f64 = points.iter().map(|(_, w, _)| w).sum();
    let mean = |f: &dyn Fn(f64, f64) -> f64| {
        points.iter().map(|&(z, w, entry)| w * f(z, entry)).sum::<f64>() / weight
    };
    let shift = mean(&|_, entry| entry);
    // E[z²] of these points is 1 to four digits.
    let along = mean(&|z, entry| z * entry);
    let rest = |z: f64, entry: f64| (entry - shift - z * along).powi(2);
    let largest = points.iter().map(|&(z, _, entry)| rest(z, entry)).fold(0.0, f64::max);
    let slope = if sigma > 0.0 { along / sigma } else { 0.0 };
    Response { shift, slope, rest: mean(&rest).max(largest / 36.0) }
}
