//! The head: the steps that the client applies to the network's outputs after decryption.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::activation::sigmoid;
use crate::Error;
use crate::bounded;

/// Maximum number of transforms in a head that is read.
const MAX_TRANSFORMS: usize = 16;
/// Maximum number of classes of a model that is read: a network has no more outputs.
const MAX_LABELS: usize = hermesh_engine::MAX_WIDTH;

/// The steps after the last layer, which the client applies in the clear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// From the network's outputs to the model's scores, in this order.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_TRANSFORMS>")]
    pub transforms: Vec<Transform>,
    /// From the network's outputs to a label.
    pub decision: Decision,
}

/// A step from outputs to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transform {
    /// Probabilities that sum to one.
    Softmax,
    /// The logarithms of [`Transform::Softmax`].
    LogSoftmax,
    /// The logistic function of each value.
    Sigmoid,
    /// From the probability p of a class to the probabilities (1 − p, p).
    Complement,
    /// Divides by the sum of absolute values.
    NormalizeL1,
}

/// How the label follows from the network's outputs, before any [`Transform`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    /// No label: a regression, or scores without a decision.
    Scores,
    /// The label of the greatest output; of the first one if several are equal.
    ArgMax {
        /// One label per output.
        #[serde(deserialize_with = "bounded::list::<_, _, MAX_LABELS>")]
        labels: Vec<Label>,
    },
    /// The second label if the only output is above a threshold, else the first.
    Threshold {
        /// The threshold.
        above: f64,
        /// The label up to the threshold, and the label above it.
        labels: [Label; 2],
    },
}

/// The name of a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    /// A number.
    Int(i64),
    /// A text.
    String(String),
}

/// The model's prediction for one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The class, if the model is a classifier.
    pub label: Option<Label>,
    /// Probabilities or values, as the model's own outputs would be.
    pub scores: Vec<f64>,
}

impl Head {
    /// The prediction that follows from the network's outputs.
    pub fn apply(&self, outputs: &[f64]) -> Prediction {
        let scores = self
            .transforms
            .iter()
            .fold(outputs.to_vec(), |scores, transform| transform.apply(scores));
        Prediction { label: self.decision.apply(outputs).cloned(), scores }
    }

    /// Checks that this is a head for a network of `outputs` outputs.
    pub fn validate(&self, outputs: usize) -> Result<(), Error> {
        let mut width = outputs;
        for transform in &self.transforms {
            if *transform == Transform::Complement {
                if width != 1 {
                    return malformed(format!(
                        "the complement of a probability needs one output, not {width}"
                    ));
                }
                width = 2;
            }
        }
        match &self.decision {
            Decision::ArgMax { labels } if labels.len() != outputs => {
                malformed(format!("{} labels for {outputs} outputs", labels.len()))
            }
            Decision::Threshold { above, .. } if outputs != 1 || !above.is_finite() => {
                malformed(format!(
                    "a threshold of {above} for {outputs} outputs: expected a number and one output"
                ))
            }
            _ => Ok(()),
        }
    }
}

fn malformed(reason: String) -> Result<(), Error> {
    Err(Error::Network { reason })
}

impl Transform {
    fn apply(self, mut scores: Vec<f64>) -> Vec<f64> {
        match self {
            Transform::Softmax | Transform::LogSoftmax => {
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum = scores.iter().map(|score| (score - max).exp()).sum::<f64>();
                for score in &mut scores {
                    let shifted = *score - max;
                    *score = if self == Transform::Softmax {
                        shifted.exp() / sum
                    } else {
                        shifted - sum.ln()
                    };
                }
            }
            Transform::Sigmoid => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            Transform::Complement => {
                scores = scores.iter().map(|p| 1.0 - p).chain(scores.iter().copied()).collect();
            }
            Transform::NormalizeL1 => {
                let sum = scores.iter().map(|score| score.abs()).sum::<f64>();
                if sum > 0.0 {
                    scores.iter_mut().for_each(|score| *score /= sum);
                }
            }
        }
        scores
    }
}

impl Decision {
    fn apply(&self, outputs: &[f64]) -> Option<&Label> {
        match self {
            Decision::Scores => None,
            Decision::ArgMax { labels } => {
                let first = (0, f64::NEG_INFINITY);
                let (index, _) = outputs.iter().enumerate().fold(first, |best, (index, &score)| {
                    if score > best.1 { (index, score) } else { best }
                });
                labels.get(index)
            }
            Decision::Threshold { above, labels } => {
                outputs.first().map(|output| &labels[usize::from(output > above)])
            }
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Int(value) => value.fmt(f),
            Label::String(value) => value.fmt(f),
        }
    }
}
