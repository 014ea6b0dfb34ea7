//! Computes how many bits about the client key an answer reveals when it is shown.

use hermesh_compiler::Client;
use hermesh_compiler::network::Decision;
use hermesh_engine::{Precision, reveal};

use super::Count;

/// The resolution of a model's scores is four of its standard deviations. These are at least the standard deviation of
/// the noise, so the count is at least what is revealed.
const SIGMAS_IN_RESOLUTION: f64 = 4.0;

/// Cost of showing answers of a model.
#[derive(Clone, Debug)]
pub struct Cost<'a> {
    model: &'a Client,
    /// Standard deviation of the noise in each output, in units of the output. `None` for `exact` programs, whose
    /// answers have no noise.
    sigmas: Option<Vec<f64>>,
    /// Noise that was added to each output, in multiples of its own noise, if any.
    added: Option<f64>,
}

impl<'a> Cost<'a> {
    /// Cost for outputs to which `added` times their own noise was added, if any.
    pub fn new(model: &'a Client, added: Option<f64>) -> Self {
        let noisy = model.outline().precision == Precision::Approximate;
        let sigmas = || model.resolution().iter().map(|step| step / SIGMAS_IN_RESOLUTION).collect();
        Self { model, sigmas: noisy.then(sigmas), added }
    }

    /// Standard deviation of the noise in each output; `None` if there is no noise.
    pub fn sigmas(&self) -> Option<&[f64]> {
        self.sigmas.as_deref()
    }

    /// Cost of the scores of one row, rounded to `resolution`. Takes the outputs before rounding.
    pub fn scores(&self, outputs: &[f64], resolution: &[f64]) -> Count {
        let Some(sigmas) = &self.sigmas else {
            return Count::default();
        };
        let of = |((x, sigma), step): ((&f64, &f64), &f64)| match self.added {
            Some(times) => reveal::noised(times),
            None => reveal::rounded(x / sigma, step / sigma),
        };
        let bits = outputs.iter().zip(sigmas).zip(resolution).map(of).sum();
        Count { scores: outputs.len() as u64, labels: 0, bits }
    }

    /// Expected cost of the scores of one row, before the row is known.
    pub fn expected_scores(&self, resolution: &[f64]) -> f64 {
        let of = |(sigma, step): (&f64, &f64)| match self.added {
            Some(times) => reveal::noised(times),
            None => reveal::rounded_on_average(step / sigma),
        };
        self.sigmas.as_ref().map_or(0.0, |sigmas| sigmas.iter().zip(resolution).map(of).sum())
    }

    /// Cost of the label of one row, from its outputs: a label is the result of comparisons.
    ///
    /// With added noise the figures hold even for an observer who knows the added noise: such an observer sees
    /// comparisons of values with the model's own noise. Other observers learn no more.
    pub fn label(&self, outputs: &[f64]) -> Count {
        let Some(sigmas) = &self.sigmas else {
            return Count::default();
        };
        let bits = match &self.model.head().decision {
            Decision::Threshold { above, .. } => {
                let compared = outputs.iter().zip(sigmas);
                compared.map(|(x, sigma)| reveal::comparison((x - above) / sigma)).sum()
            }
            Decision::Scores if outputs.len() == 1 => return Count::default(),
            Decision::Scores | Decision::ArgMax { .. } => {
                let best = (0..outputs.len()).max_by(|&a, &b| outputs[a].total_cmp(&outputs[b]));
                let best = best.unwrap_or_default();
                let others = (0..outputs.len()).filter(|&other| other != best);
                // Worst case: the noise of the two outputs is opposite, and the standard deviations add up.
                let apart = |other: usize| {
                    (outputs[best] - outputs[other]) / (sigmas[best] + sigmas[other])
                };
                others.map(|other| reveal::comparison(apart(other))).sum()
            }
        };
        Count { scores: 0, labels: 1, bits }
    }
}
