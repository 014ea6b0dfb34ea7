//! `hermesh-bench leak`: measures how much shown scores and labels reveal about the client key.
//!
//! The attack is linear regression on known rounding errors (see [`target`]). [`estimate`] computes the work that is
//! left to find the key. `docs/scores.md` has the theory and the bound that the client enforces.

mod estimate;
mod regression;
mod report;
mod target;
mod unrounded;

use std::num::NonZeroUsize;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::revealed::Cost;
use hermesh_client::terminal::progress;
use hermesh_compiler::{Model, Options, compile, normal};
use hermesh_engine::ClientKey;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{self, Files, Samples};
use report::{Ledger, Report};
use target::{Equation, Foreseen, Seen, Target, true_bits};

/// Attacks by an observer who sees decrypted answers.
#[derive(Subcommand)]
pub(crate) enum Leak {
    /// Recover the input key from rounded scores.
    Scores(Scores),
    /// Recover the input key from labels of inputs on a decision boundary.
    Labels(Attack),
    /// Recover the answer key from unrounded outputs, with real encryption.
    Unrounded {
        #[command(flatten)]
        files: Files,
        /// Print one JSON document instead of a sentence.
        #[arg(long)]
        json: bool,
    },
    /// For each key dimension, compute how many bits may be revealed so that an attack still costs 2^120 operations.
    Budget {
        /// Print one JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct Attack {
    #[command(flatten)]
    files: Files,
    /// Number of inferences whose answers are shown.
    #[arg(long, value_name = "N", default_value = "6000")]
    inferences: NonZeroUsize,
    /// Encrypt and compute for real. [default: simulate uniform rounding errors and all other noise with its predicted
    /// variance, which is a thousand times as fast and gives the same result]
    #[arg(long)]
    real: bool,
    /// Seed of the simulation.
    #[arg(long, value_name = "SEED", default_value = "1")]
    seed: u64,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Scores {
    #[command(flatten)]
    attack: Attack,
    /// Rounding step of scores, in standard deviations of their noise.
    #[arg(long, value_name = "SIGMAS", default_value = "4")]
    resolution: f64,
    /// Noise added before rounding, in standard deviations of the noise already present.
    #[arg(long, value_name = "SIGMAS")]
    share_noise: Option<f64>,
}

/// Runs the attack and returns the text to print.
pub(crate) fn run(leak: &Leak) -> Result<String> {
    let (attack, scores) = match leak {
        Leak::Budget { json } => return report::budgets(*json),
        Leak::Unrounded { files, json } => {
            let (model, samples) = compiled(files, "logreg.onnx")?;
            let found = unrounded::run(&model, &samples.inputs.slices())?;
            return match json {
                true => Ok(serde_json::to_string_pretty(&found)? + "\n"),
                false => Ok(found.to_string()),
            };
        }
        Leak::Scores(scores) => (&scores.attack, Some(scores)),
        Leak::Labels(attack) => (attack, None),
    };
    let (model, samples) = compiled(&attack.files, "mlp64.onnx")?;
    let inputs = samples.inputs.slices();
    let report = match scores {
        Some(scores) => run_scores(&model, &inputs, scores)?,
        None => run_labels(&model, &inputs, attack)?,
    };
    match attack.json {
        true => Ok(serde_json::to_string_pretty(&report)? + "\n"),
        false => Ok(report.to_string()),
    }
}

fn compiled(files: &Files, default: &str) -> Result<(Model, Samples)> {
    let samples = data::read_or(files, default)?;
    let spinner = progress::spinner("compiling");
    let rows = samples.calibration.slices();
    let labels = samples.calibration.labels.as_deref();
    let model = compile(&samples.network, &rows, labels, Options::default(), &mut |_| ())?;
    spinner.finish_and_clear();
    Ok((model, samples))
}

/// The attacked client, real or simulated.
enum Client<'a> {
    Real { key: ClientKey, server: Box<Evaluator<'a>> },
    Simulated { key: Vec<f64> },
}

impl Client<'_> {
    fn bits(&self) -> Vec<f64> {
        match self {
            Self::Real { key, .. } => true_bits(key),
            Self::Simulated { key } => key.clone(),
        }
    }

    fn infer(&self, target: &Target<'_>, row: &[u64], rng: &mut StdRng) -> Result<Seen> {
        match self {
            Self::Real { key, server } => target.infer(key, server, row),
            Self::Simulated { key } => Ok(target.simulate(key, row, rng)),
        }
    }
}

/// Runs `attack` against a client.
fn with_client<T>(
    target: &Target<'_>,
    real: bool,
    rng: &mut StdRng,
    attack: impl FnOnce(&Client<'_>, &mut StdRng) -> Result<T>,
) -> Result<T> {
    if !real {
        let bit = |rng: &mut StdRng| if rng.random() { 0.5 } else { -0.5 };
        let key = (0..target.key_bits()).map(|_| bit(rng)).collect();
        return attack(&Client::Simulated { key }, rng);
    }
    let program = target.model.program();
    let pool = compute::pool(None)?;
    let (key, evaluation) = ClientKey::generate(program.parameter_set());
    let server = Box::new(Evaluator::new(program, &evaluation, &pool)?);
    attack(&Client::Real { key, server }, rng)
}

/// The attack on scores.
pub(crate) fn run_scores(model: &Model, inputs: &[&[f64]], options: &Scores) -> Result<Report> {
    let Scores { attack, resolution, share_noise } = options;
    ensure!(*resolution > 0.0, "expected a positive resolution, found {resolution}");
    let target = Target::new(model)?;
    let rng = &mut StdRng::seed_from_u64(attack.seed);
    let steps: Vec<f64> = target.sigmas.iter().map(|sigma| sigma * resolution).collect();
    let cost = Cost::new(model.client(), *share_noise);
    let rows: Vec<(Vec<u64>, Foreseen)> = foresee(&target, inputs)?;
    with_client(&target, attack.real, rng, |client, rng| {
        let mut ledger = Ledger::new(&target, client.bits());
        let bar = progress::bar(attack.inferences.get() as u64, "attacking", "inferences");
        for i in 0..attack.inferences.get() {
            let (row, foreseen) = &rows[i % rows.len()];
            let mut seen = client.infer(&target, row, rng)?;
            for (x, sigma) in seen.outputs.iter_mut().zip(&target.sigmas) {
                *x += share_noise.map_or(0.0, |times| times * sigma * normal(rng));
            }
            ledger.counted += cost.scores(&seen.outputs, &steps).bits;
            for (output, equation) in target.equations(foreseen, &seen).into_iter().enumerate() {
                let shown = (seen.outputs[output] / steps[output]).round() * steps[output];
                ledger.add(equation, shown, target.sigmas[output]);
            }
            bar.inc(1);
            ledger.note(i + 1, attack.inferences.get());
        }
        bar.finish_and_clear();
        Ok(ledger.report(attack.real))
    })
}

/// The attack on labels.
pub(crate) fn run_labels(model: &Model, inputs: &[&[f64]], attack: &Attack) -> Result<Report> {
    let target = Target::new(model)?;
    let rng = &mut StdRng::seed_from_u64(attack.seed);
    let cost = Cost::new(model.client(), None);
    let chosen = boundaries(&target, inputs)?;
    ensure!(!chosen.is_empty(), "expected inputs of different classes, found none");
    with_client(&target, attack.real, rng, |client, rng| {
        let mut ledger = Ledger::new(&target, client.bits());
        let bar = progress::bar(attack.inferences.get() as u64, "attacking", "inferences");
        for i in 0..attack.inferences.get() {
            let Boundary { row, foreseen, between } = &chosen[i % chosen.len()];
            let seen = client.infer(&target, row, rng)?;
            ledger.counted += cost.label(&seen.outputs).bits;
            ledger.shown += 1;
            let label = greatest(&seen.outputs);
            // Skip the rare case that a third class is near.
            if let Some(side) = between.iter().position(|&class| class == label) {
                let mut equations = target.equations(foreseen, &seen);
                let [a, b] = between.map(|class| std::mem::replace(&mut equations[class], empty()));
                let coefficients =
                    a.coefficients.iter().zip(&b.coefficients).map(|(a, b)| a - b).collect();
                let difference = Equation { coefficients, known: a.known - b.known };
                let sigma = target.sigmas[between[0]].hypot(target.sigmas[between[1]]);
                // Scaled so that the mean over the noise is the difference of the outputs, if that is small.
                let value = sigma * std::f64::consts::FRAC_PI_2.sqrt();
                ledger.add(difference, if side == 0 { value } else { -value }, sigma);
                ledger.shown -= 1;
            }
            bar.inc(1);
            ledger.note(i + 1, attack.inferences.get());
        }
        bar.finish_and_clear();
        Ok(ledger.report(attack.real))
    })
}

fn empty() -> Equation {
    Equation { coefficients: Vec::new(), known: 0.0 }
}

fn foresee(target: &Target<'_>, inputs: &[&[f64]]) -> Result<Vec<(Vec<u64>, Foreseen)>> {
    let of = |input: &&[f64]| {
        let row = target.model.encode_row(input)?;
        let foreseen = target.foresee(&row);
        Ok((row, foreseen))
    };
    inputs.iter().map(of).collect()
}

/// An input at which the two greatest outputs are equal.
struct Boundary {
    row: Vec<u64>,
    foreseen: Foreseen,
    between: [usize; 2],
}

/// Finds the boundary between two inputs of different classes by bisection.
fn boundaries(target: &Target<'_>, inputs: &[&[f64]]) -> Result<Vec<Boundary>> {
    let at = |a: &[f64], b: &[f64], part: f64| {
        let mixed: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + part * (b - a)).collect();
        let row = target.model.encode_row(&mixed)?;
        let foreseen = target.foresee(&row);
        Ok::<_, anyhow::Error>((row, foreseen))
    };
    let mut found = Vec::new();
    for pair in inputs.windows(2).take(400) {
        let class =
            |part: f64| Ok::<_, anyhow::Error>(greatest(&at(pair[0], pair[1], part)?.1.outputs));
        let first = class(0.0)?;
        if first == class(1.0)? {
            continue;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            match class(middle)? == first {
                true => low = middle,
                false => high = middle,
            }
        }
        let (row, foreseen) = at(pair[0], pair[1], high)?;
        found.push(Boundary { between: [first, greatest(&foreseen.outputs)], row, foreseen });
    }
    Ok(found)
}

fn greatest(outputs: &[f64]) -> usize {
    let best = outputs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests;
