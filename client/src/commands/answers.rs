//! Decrypted answers, on their way to the user.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Result, bail};
use hermesh_client::cli::Output;
use hermesh_client::data;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::model;
use hermesh_compiler::Client;
use hermesh_compiler::network::{Label, Prediction};
use hermesh_engine::ClientKey;
use serde_json::{Map, Value, json};

use super::{print, print_json};

pub(super) struct Answers<'a> {
    predictions: Vec<Prediction>,
    /// Asked for, or all there is: a regression has no labels.
    scores: bool,
    /// What each output was rounded to.
    resolution: Vec<f64>,
    /// What decryption took, with the secret key in memory.
    seconds: f64,
    options: &'a Output,
}

impl<'a> Answers<'a> {
    /// Decrypts an answer. A failure is final: asking again for what did not decrypt would tell
    /// whoever altered it about the key.
    pub(super) fn decrypt(
        model: &Client,
        key: &ClientKey,
        answer: &[u8],
        options: &'a Output,
    ) -> Result<Self> {
        let resolution = match (options.raw, options.resolution) {
            (true, _) => vec![0.0; model.outline().outputs],
            (false, Some(step)) => vec![step; model.outline().outputs],
            (false, None) => model.resolution().to_vec(),
        };
        let start = Instant::now();
        let predictions = model::decrypt(model, key, answer, &resolution)?;
        let seconds = start.elapsed().as_secs_f64();
        let labelled = predictions.iter().all(|prediction| prediction.label.is_some());
        Ok(Self { predictions, scores: options.scores || !labelled, resolution, seconds, options })
    }

    /// Seconds that decryption took, without unsealing the secret key.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Writes the file that was asked for, then prints. `more` goes into the JSON document.
    pub(super) fn report(&self, json: bool, more: Map<String, Value>) -> Result<()> {
        if let Some(path) = &self.options.file {
            files::write(path, &self.npy()?, Audience::Public, Existing::Replace)?;
        }
        match json {
            true => print_json(&self.document(more)),
            false => print(&self.text()),
        }
    }

    fn labels(&self) -> impl Iterator<Item = &Label> {
        self.predictions.iter().filter_map(|prediction| prediction.label.as_ref())
    }

    fn npy(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.scores {
            let columns = self.predictions.first().map_or(0, |first| first.scores.len());
            let values: Vec<f64> =
                self.predictions.iter().flat_map(|p| p.scores.iter().copied()).collect();
            data::write_floats(&mut bytes, columns, &values)?;
            return Ok(bytes);
        }
        let integers = self.labels().map(|label| match label {
            Label::Int(label) => Some(*label),
            Label::String(_) => None,
        });
        let Some(integers) = integers.collect::<Option<Vec<_>>>() else {
            bail!(
                "the labels of this model are text, which -o does not write: use --json, or --scores with -o"
            );
        };
        data::write_integers(&mut bytes, &integers)?;
        Ok(bytes)
    }

    fn document(&self, mut document: Map<String, Value>) -> Value {
        let labels = self.labels().map(|label| match label {
            Label::Int(label) => json!(label),
            Label::String(label) => json!(label),
        });
        let labels: Vec<Value> = labels.collect();
        document.insert("rows".into(), self.predictions.len().into());
        if !labels.is_empty() {
            document.insert("labels".into(), labels.into());
        }
        if self.scores {
            let scores: Vec<&[f64]> = self.predictions.iter().map(|p| &*p.scores).collect();
            document.insert("scores".into(), json!(scores));
            document.insert("resolution".into(), json!(self.resolution));
        }
        document.into()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        if self.scores {
            for prediction in &self.predictions {
                let scores: Vec<String> =
                    prediction.scores.iter().map(|&score| self.digits(score)).collect();
                let _ = writeln!(text, "{}", scores.join(","));
            }
        } else {
            for label in self.labels() {
                let _ = writeln!(text, "{label}");
            }
        }
        text
    }

    /// Rounded outputs end in the artefacts of binary fractions, which say nothing.
    fn digits(&self, score: f64) -> String {
        let finest = self.resolution.iter().copied().fold(f64::INFINITY, f64::min);
        if finest > 0.0 {
            let decimals = (1.0 - finest.log10().floor()).clamp(6.0, 17.0);
            format!("{score:.*}", decimals as usize)
        } else {
            score.to_string()
        }
    }
}
