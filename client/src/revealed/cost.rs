//! How many bits about the key are in an answer that is shown.

use hermesh_compiler::Client;
use hermesh_compiler::network::Decision;
use hermesh_engine::{Precision, reveal};

use super::Count;

/// The model states four of its deviations as the resolution of its scores. They are at least those of the noise, so what
/// is counted is at least what is told.
const SIGMAS_IN_RESOLUTION: f64 = 4.0;

/// What it costs to show answers of a model.
#[derive(Clone, Debug)]
pub struct Cost<'a> {
    model: &'a Client,
    /// Standard deviation of the noise in each output, in units of the output. None of `exact` programs, whose answers
    /// have no noise.
    sigmas: Option<Vec<f64>>,
    /// How many times its own noise was added to each output, if any.
    added: Option<f64>,
}

impl<'a> Cost<'a> {
    /// For outputs to which `added` times their own noise was added, if any.
    pub fn new(model: &'a Client, added: Option<f64>) -> Self {
        let noisy = model.outline().precision == Precision::Approximate;
        let sigmas = || model.resolution().iter().map(|step| step / SIGMAS_IN_RESOLUTION).collect();
        Self { model, sigmas: noisy.then(sigmas), added }
    }

    /// Standard deviation of the noise in each output; none if there is no noise.
    pub fn sigmas(&self) -> Option<&[f64]> {
        self.sigmas.as_deref()
    }

    /// Of the scores of one row that are rounded to `resolution`, by its outputs before they are rounded.
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

    /// Of the scores of one row on average, before the row is known.
    pub fn expected_scores(&self, resolution: &[f64]) -> f64 {
        let of = |(sigma, step): (&f64, &f64)| match self.added {
            Some(times) => reveal::noised(times),
            None => reveal::rounded_on_average(step / sigma),
        };
        self.sigmas.as_ref().map_or(0.0, |sigmas| sigmas.iter().zip(resolution).map(of).sum())
    }

    /// Of the label of one row, by its outputs: a label is the result of comparisons.
    ///
    /// With added noise these are comparisons of values that are known up to the model's own noise, if one gives the
    /// observer the added noise as well; so they tell no more than these figures, which are for that case.
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
                // Noises of two outputs may be opposite: at worst, deviations add up.
                let apart = |other: usize| {
                    (outputs[best] - outputs[other]) / (sigmas[best] + sigmas[other])
                };
                others.map(|other| reveal::comparison(apart(other))).sum()
            }
        };
        Count { scores: 0, labels: 1, bits }
    }
}
