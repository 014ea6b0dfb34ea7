//! Decrypts answers, counts what they reveal, and prints or writes them.

use std::fmt::Write;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};
use hermesh_client::cli::Output;
use hermesh_client::data;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::model;
use hermesh_client::revealed::{Cost, Count};
use hermesh_client::terminal::plain;
use hermesh_compiler::Client;
use hermesh_compiler::network::{Label, Prediction};
use hermesh_engine::{ClientKey, reveal};
use hermesh_mesh::Digest;
use serde_json::{Map, Value, json};

use super::{print, print_json};

/// Rounding step of `--raw`, in standard deviations of the noise. The dropped digits are only noise, and each would
/// reveal more about the client key.
const RAW_STEP: f64 = 0.5;

pub(super) struct Answers<'a> {
    /// Digest of the evaluation key that belongs to the client key used.
    key: Digest,
    predictions: Vec<Prediction>,
    /// Costs of showing the scores and the labels.
    cost: (Count, Count),
    /// Bits that may be revealed about the key.
    budget: f64,
    /// True if scores were requested, or if there are no labels, as in a regression.
    scores: bool,
    /// Rounding step of each output.
    resolution: Vec<f64>,
    /// Time of decryption, with the client key in memory.
    seconds: f64,
    options: &'a Output,
}

impl<'a> Answers<'a> {
    /// Decrypts an answer. A failure is final: a repeated request would tell an attacker who altered the answer that it
    /// did not decrypt, and so reveal something about the key.
    pub(super) fn decrypt(
        model: &Client,
        key: &ClientKey,
        answer: &[u8],
        options: &'a Output,
    ) -> Result<Self> {
        let cost = Cost::new(model, options.share_noise);
        let resolution = resolution(model, &cost, options);
        let start = Instant::now();
        let mut rows = model::decrypt_outputs(model, key, answer)?;
        let seconds = start.elapsed().as_secs_f64();
        if let (Some(times), Some(sigmas)) = (options.share_noise, cost.sigmas()) {
            // From a cryptographic generator: an observer who could predict this noise would subtract it.
            let mut rng = rand::rng();
            for (x, sigma) in rows.iter_mut().flat_map(|row| row.iter_mut().zip(sigmas)) {
                *x += times * sigma * hermesh_compiler::normal(&mut rng);
            }
        }
        let predictions: Vec<Prediction> =
            rows.iter().map(|outputs| model::predict(model, outputs, &resolution)).collect();
        let labelled = predictions.iter().all(|prediction| prediction.label.is_some());
        let scores = rows.iter().map(|outputs| cost.scores(outputs, &resolution));
        let labels = rows.iter().map(|outputs| cost.label(outputs));
        Ok(Self {
            key: Digest(key.evaluation_key()),
            cost: (scores.fold(Count::default(), plus), labels.fold(Count::default(), plus)),
            budget: reveal::budget(model.outline().parameter_set),
            predictions,
            scores: options.scores || !labelled,
            resolution,
            seconds,
            options,
        })
    }

    /// Fails before the job is sent if the scores of this many rows could not be shown. The cost of labels is not known
    /// in advance.
    pub(super) fn check(
        keys: &KeyDirectory,
        key: &ClientKey,
        model: &Client,
        rows: usize,
        options: &Output,
    ) -> Result<()> {
        let cost = Cost::new(model, options.share_noise);
        if options.private || cost.sigmas().is_none() {
            return Ok(());
        }
        let regression = model.interpret(&vec![0.0; model.outline().outputs]).label.is_none();
        let bits = match options.scores || regression {
            true => rows as f64 * cost.expected_scores(&resolution(model, &cost, options)),
            false => 0.0,
        };
        let budget = reveal::budget(model.outline().parameter_set);
        let key = Digest(key.evaluation_key());
        Ok(keys.revealed().check(key, bits, budget)?)
    }

    /// Seconds of decryption, without reading the client key from its file.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Counts the output, writes the file of `-o`, then prints. `more` goes into the JSON document.
    ///
    /// # Errors
    /// The key has reached its bound; nothing is shown then.
    pub(super) fn report(
        &self,
        keys: &KeyDirectory,
        json: bool,
        mut more: Map<String, Value>,
    ) -> Result<()> {
        if let Some(count) = self.count(keys, json)? {
            // Without the bits: they depend on outputs before rounding, and the user may pass the document on.
            let shown = json!({"scores": count.scores, "labels": count.labels});
            more.insert("revealed".into(), shown);
        }
        if let Some(path) = &self.options.file {
            files::write(path, &self.npy()?, Audience::Public, Existing::Replace)?;
        }
        match json {
            true => print_json(&self.document(more)),
            false => print(&self.text()),
        }
    }

    /// Counts the output before it is shown, and warns from half the bound on. `None` if there is nothing to count.
    fn count(&self, keys: &KeyDirectory, json: bool) -> Result<Option<Count>> {
        let (scores, labels) = self.cost;
        let mut shown = Count::default();
        if self.scores {
            shown = plus(shown, scores);
        }
        // A JSON document always has labels.
        if json || !self.scores {
            shown = plus(shown, labels);
        }
        if self.options.private || (shown.scores, shown.labels) == (0, 0) {
            return Ok(None);
        }
        let count = keys.revealed().add(self.key, shown, self.budget)?;
        if count.bits > self.budget / 2.0 {
            let next = match count.bits < self.budget {
                true => "at the limit, hermesh shows no more output",
                false => "hermesh shows no more output under this key",
            };
            warn(&format!(
                "this key has revealed {:.0} of the {:.0} bits that are safe to reveal: {next} without \
                 --private (only you see it) or a new key (hermesh key rotate)",
                count.bits, self.budget
            ));
        }
        Ok(Some(count))
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
                "the labels of this model are text, which -o cannot write: use --json, or --scores with -o"
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

    /// Rounds to decimals: without this, rounded outputs would end in artefacts of binary fractions.
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

fn plus(a: Count, b: Count) -> Count {
    Count { scores: a.scores + b.scores, labels: a.labels + b.labels, bits: a.bits + b.bits }
}

/// Rounding step of each output.
fn resolution(model: &Client, cost: &Cost<'_>, options: &Output) -> Vec<f64> {
    let wider = options.share_noise.map_or(1.0, |times| times.hypot(1.0));
    match (options.raw, options.resolution, cost.sigmas()) {
        (false, Some(step), _) => vec![step; model.outline().outputs],
        (true, _, Some(sigmas)) if !options.private => {
            sigmas.iter().map(|sigma| RAW_STEP * sigma).collect()
        }
        (true, ..) => vec![0.0; model.outline().outputs],
        (false, None, _) => model.resolution().iter().map(|step| step * wider).collect(),
    }
}

/// Warns in pipes too: in scripts the user does not see the count grow.
fn warn(text: &str) {
    // If standard error is closed, the warning is dropped.
    let _ = writeln!(std::io::stderr(), "warning: {}", plain(text));
}
