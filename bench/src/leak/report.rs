//! Progress of an attack, and its report.

use anyhow::Result;
use hermesh_client::terminal::TextTable;
use hermesh_engine::parameters::{ANSWER_DIMENSION, ANSWER_NOISE_LOG2, CATALOGUE};
use hermesh_engine::reveal;
use serde::Serialize;

use super::estimate::{self, Key, Knowledge};
use super::regression::Equations;
use super::target::{Equation, Target};

/// Result after a number of inferences.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Progress {
    pub(crate) inferences: usize,
    /// Number of shown scores or labels.
    pub(crate) shown: usize,
    /// Bits that the client counts for them: an upper bound on the information in them.
    pub(crate) counted_bits: f64,
    /// Bits about the input key that the attack found.
    pub(crate) found_bits: f64,
    /// Number of wrong key bits; half of all bits without knowledge.
    pub(crate) wrong: usize,
    /// log₂ of the operations left to find the key.
    pub(crate) work_log2: f64,
}

/// The result of an attack.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) parameter_set: &'static str,
    pub(crate) key_bits: usize,
    real: bool,
    /// Bits that the client allows to be revealed about a key.
    pub(crate) budget_bits: f64,
    /// Share of the noise in the shown values that the true key explains.
    pub(crate) explained: f64,
    pub(crate) progress: Vec<Progress>,
}

/// State of the attack.
pub(super) struct Ledger {
    set: &'static hermesh_engine::ParameterSet,
    key: Vec<f64>,
    equations: Equations,
    pub(super) counted: f64,
    pub(super) shown: usize,
    /// Sums of squares of the noise in the shown values, and of the rest that the true key does not explain.
    noise: [f64; 2],
    progress: Vec<Progress>,
}

impl Ledger {
    pub(super) fn new(target: &Target<'_>, key: Vec<f64>) -> Self {
        Self {
            set: target.model.program().parameter_set(),
            equations: Equations::new(key.len()),
            key,
            counted: 0.0,
            shown: 0,
            noise: [0.0; 2],
            progress: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, equation: Equation, shown: f64, sigma: f64) {
        let Equation { mut coefficients, known } = equation;
        coefficients.iter_mut().for_each(|c| *c /= sigma);
        let value = (shown - known) / sigma;
        let of_key: f64 = coefficients.iter().zip(&self.key).map(|(c, bit)| c * bit).sum();
        self.noise[0] += value * value;
        self.noise[1] += (value - of_key).powi(2);
        self.shown += 1;
        self.equations.add(coefficients, value);
    }

    /// Records a result after 1, 2, 5, 10, 20 … inferences, at the end, and where the budget ends.
    pub(super) fn note(&mut self, inferences: usize, of: usize) {
        let budget = reveal::budget(self.set);
        let before = self.progress.last().map_or(0.0, |last| last.counted_bits);
        let crossed = before < budget && self.counted >= budget;
        let power = 10usize.pow(inferences.ilog10());
        let round = [1, 2, 5].iter().any(|&times| times * power == inferences) && inferences >= 10;
        let thousand = inferences.is_multiple_of(1000);
        if self.equations.count() == 0 || !(crossed || round || thousand || inferences == of) {
            return;
        }
        let estimate = self.equations.solve();
        let wrong = estimate.bits.iter().zip(&self.key).filter(|(found, bit)| *found * *bit <= 0.0);
        let known = Knowledge::channel(estimate.tau);
        let key = Key { dimension: self.key.len(), noise_log2: self.set.lwe_noise_log2 };
        self.progress.push(Progress {
            inferences,
            shown: self.shown,
            counted_bits: self.counted,
            found_bits: known.bits() * self.key.len() as f64,
            wrong: wrong.count(),
            work_log2: estimate::work(key, &known),
        });
    }

    pub(super) fn report(self, real: bool) -> Report {
        Report {
            parameter_set: self.set.name,
            key_bits: self.key.len(),
            real,
            budget_bits: reveal::budget(self.set),
            explained: 1.0 - self.noise[1] / self.noise[0],
            progress: self.progress,
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.real { "real encryption" } else { "simulated" };
        writeln!(
            f,
            "{}, a key of {} bits, {how}. The key explains {:.0} % of the shown noise. The client allows {:.0} bits.",
            self.parameter_set,
            self.key_bits,
            100.0 * self.explained,
            self.budget_bits
        )?;
        let mut table = TextTable::new([
            "inferences",
            "shown",
            "bits counted",
            "bits found",
            "key bits wrong",
            "work left",
        ]);
        for line in &self.progress {
            table.push([
                line.inferences.to_string(),
                line.shown.to_string(),
                format!("{:.1}", line.counted_bits),
                format!("{:.1}", line.found_bits),
                line.wrong.to_string(),
                format!("2^{:.1}", line.work_log2),
            ]);
        }
        write!(f, "{table}")
    }
}

/// Budgets of all keys in the catalogue.
pub(super) fn budgets(json: bool) -> Result<String> {
    let floor = reveal::REMAINING_SECURITY_BITS;
    let mut keys = vec![Key { dimension: ANSWER_DIMENSION, noise_log2: ANSWER_NOISE_LOG2 }];
    for set in CATALOGUE {
        keys.push(Key { dimension: set.lwe_dimension, noise_log2: set.lwe_noise_log2 });
        keys.push(Key { dimension: set.output_dimension(), noise_log2: set.glwe_noise_log2 });
    }
    keys.sort_by_key(|key| key.dimension);
    keys.dedup_by_key(|key| key.dimension);
    let mut table =
        TextTable::new(["key bits", "published", "ours", "budget computed", "budget kept"]);
    let mut documents = Vec::new();
    for key in keys {
        let (published, ours) = (estimate::published(key), estimate::work(key, &Knowledge::none()));
        let budget = estimate::budget(key, floor);
        let kept = reveal::BUDGETS.iter().find(|(d, _)| *d == key.dimension).map_or(0.0, |b| b.1);
        let bits = |bits: f64| format!("{bits:.1}");
        table.push([
            key.dimension.to_string(),
            bits(published),
            bits(ours),
            bits(budget),
            bits(kept),
        ]);
        documents.push(serde_json::json!({
            "key_bits": key.dimension,
            "published_log2": published,
            "work_log2": ours,
            "budget_bits": budget,
            "budget_kept_bits": kept,
        }));
    }
    match json {
        true => Ok(serde_json::to_string_pretty(&documents)? + "\n"),
        false => Ok(table.to_string()),
    }
}
