//! `hermesh-bench exact`: answers of `exact` programs against whole-number arithmetic of our own, on rows that were made
//! to break them.
//!
//! The reference is written here once more, and does not know the torus: sums are whole numbers that do not go round, and
//! a sum that leaves its frame is moved to the frame's edge. So a row that is admitted although one of its sums goes
//! round shows as a difference, as does noise that changes an answer.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::data::{Limits, Table, read_labels, read_table};
use hermesh_client::model;
use hermesh_client::terminal::progress;
use hermesh_compiler::{
    Domain, Model, Options, OutOfRange, Precision, Source, compile, normal, onnx,
};
use hermesh_engine::reach::{LOOKUP_FRAME, OUTPUT_FRAME};
use hermesh_engine::{ClientKey, Noise, Precision as Compiled};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Answers of exact programs against whole-number arithmetic, on random and adversarial rows.
#[derive(Args)]
pub(crate) struct Exact {
    /// Which of the example models. [default: all]
    #[arg(value_name = "MODEL", value_parser = PROGRAMS.map(|program| program.name))]
    models: Vec<String>,
    /// Rows to draw for each model.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// Rows of each model to encrypt and compute for real.
    #[arg(long, value_name = "N", default_value_t = 0)]
    encrypt: usize,
    /// Seed of rows and of the simulated noise.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// A model of `examples/`, and what it is calibrated on.
struct Example {
    name: &'static str,
    file: &'static str,
    calibration: &'static str,
    labels: Option<&'static str>,
    held_out: &'static str,
    /// Of every feature; observed where absent.
    domain: Option<(f64, f64)>,
    /// Points of accuracy, or of R², that the program may lose.
    budget: f64,
}

const fn digits(name: &'static str, file: &'static str, budget: f64) -> Example {
    Example {
        name,
        file,
        calibration: "digits/calibration-images.npy",
        labels: Some("digits/calibration-labels.npy"),
        held_out: "digits/test-images.npy",
        domain: Some((0.0, 16.0)),
        budget,
    }
}

const PROGRAMS: [Example; 5] = [
    digits("logreg", "digits/logreg.onnx", 1.0),
    digits("mlp64", "digits/mlp64.onnx", 1.0),
    digits("mlp", "digits/mlp.onnx", 10.0),
    digits("xgboost", "digits/xgboost.onnx", 1.0),
    Example {
        name: "diabetes",
        file: "diabetes/mlp.onnx",
        calibration: "diabetes/calibration-rows.npy",
        labels: None,
        held_out: "diabetes/test-rows.npy",
        domain: None,
        budget: 3.0,
    },
];

/// What became of the rows of one model.
#[derive(Serialize)]
struct Outcome {
    model: &'static str,
    /// Rows drawn.
    rows: usize,
    /// Of these, how many the client refused to encrypt.
    refused: usize,
    /// Of the others, how many had an answer that is not the reference's, with simulated noise.
    simulated_wrong: usize,
    encrypted: usize,
    encrypted_wrong: usize,
}

/// Runs it, and returns what to print and how many answers were wrong.
pub(crate) fn run(options: &Exact) -> Result<(String, usize)> {
    let asked = |name: &str| options.models.is_empty() || options.models.iter().any(|m| m == name);
    let programs = PROGRAMS.iter().filter(|program| asked(program.name));
    let outcomes = programs
        .map(|program| measure(program, options).with_context(|| program.name))
        .collect::<Result<Vec<_>>>()?;
    let wrong = outcomes.iter().map(|found| found.simulated_wrong + found.encrypted_wrong).sum();
    if options.json {
        return Ok((serde_json::to_string_pretty(&outcomes)? + "\n", wrong));
    }
    let mut text = String::from(
        "model       rows   refused   answered, simulated   wrong   encrypted   wrong\n",
    );
    for found in &outcomes {
        let Outcome { model, rows, refused, simulated_wrong, encrypted, encrypted_wrong } = found;
        let answered = rows - refused;
        writeln!(
            text,
            "{model:<9} {rows:>6} {refused:>9} {answered:>21} {simulated_wrong:>7} {encrypted:>11} {encrypted_wrong:>7}"
        )?;
    }
    Ok((text, wrong))
}

fn measure(program: &'static Example, options: &Exact) -> Result<Outcome> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let limits = Limits::default();
    let network = onnx::read(&examples.join(program.file))?;
    let calibration = read_table(&examples.join(program.calibration), limits)?;
    let calibration: Vec<&[f64]> = slices(&calibration);
    let labels =
        program.labels.map(|name| read_labels(&examples.join(name), limits)).transpose()?;
    let labels = labels.map(|labels| model::labels(&network.head, &labels));
    let domain =
        program.domain.map(|(low, high)| Domain::same(network.inputs, low, high, Source::Declared));
    let compiled = Options {
        precision: Some(Precision::Exact),
        accuracy_budget: Some(program.budget),
        domain,
        ..Options::default()
    };
    let spinner = progress::spinner(&format!("compiling {}", program.name));
    let model = compile(&network, &calibration, labels.as_deref(), compiled, &mut |_| ())?;
    spinner.finish_and_clear();
    let reference = Reference::new(&model, &calibration)?;
    let held_out = read_table(&examples.join(program.held_out), limits)?;
    let rows = draw(&model, &slices(&held_out), options);
    simulated(program.name, &model, &reference, &rows, options)
}

fn slices(table: &Table) -> Vec<&[f64]> {
    table.values.chunks_exact(table.columns).collect()
}

fn admits(model: &Model, row: &[f64]) -> bool {
    model.admit(row, OutOfRange::Refuse).is_ok()
}

/// A third of the rows is uniform in the domain, a third are corners of it, and a third lie between a held-out row and a
/// corner, as near to the corner as the client admits.
fn draw(model: &Model, held_out: &[&[f64]], options: &Exact) -> Vec<Vec<f64>> {
    let rng = &mut StdRng::seed_from_u64(options.seed);
    let Domain { low, high, .. } = model.client().domain();
    let spans: Vec<(f64, f64)> = low.iter().copied().zip(high.iter().copied()).collect();
    let bar = progress::bar(options.rows as u64, "drawing", "rows");
    let draw = |index: usize| {
        bar.inc(1);
        let uniform: Vec<f64> =
            spans.iter().map(|(low, high)| low + rng.random::<f64>() * (high - low)).collect();
        let share: f64 = rng.random();
        let corner: Vec<f64> = spans
            .iter()
            .map(|&(low, high)| if rng.random::<f64>() < share { low } else { high })
            .collect();
        match index % 3 {
            0 => uniform,
            1 => corner,
            _ => {
                let inside = held_out[rng.random_range(0..held_out.len())];
                let mix = |part: f64| -> Vec<f64> {
                    inside.iter().zip(&corner).map(|(a, b)| a + part * (b - a)).collect()
                };
                let (mut least, mut most) = (0.0, 1.0);
                for _ in 0..12 {
                    let middle = f64::midpoint(least, most);
                    match admits(model, &mix(middle)) {
                        true => least = middle,
                        false => most = middle,
                    }
                }
                mix(least)
            }
        }
    };
    let rows = (0..options.rows).map(draw).collect();
    bar.finish_and_clear();
    rows
}

/// The program as whole-number arithmetic.
struct Reference<'a> {
    model: &'a Model,
    output_bits: u32,
    /// Biases in units of 2⁻⁶⁴ turns, with their whole turns.
    biases: Vec<Vec<i128>>,
}

impl<'a> Reference<'a> {
    /// A program's biases are known up to whole turns: those that most calibration rows' sums stay in their frames with.
    fn new(model: &'a Model, calibration: &[&[f64]]) -> Result<Self> {
        let program = model.program();
        let Compiled::Exact { output_bits } = program.precision() else {
            bail!("expected an exact program, found an approximate one");
        };
        let mut reference = Self { model, output_bits, biases: Vec::new() };
        let mut values: Vec<Vec<i128>> = calibration
            .iter()
            .map(|row| Ok(whole(&model.encode_row(row)?)))
            .collect::<Result<_>>()?;
        for (s, stage) in program.stages().iter().enumerate() {
            let (least, _) = frame(stage.lookup.is_some());
            let sums: Vec<Vec<i128>> = values.iter().map(|row| reference.sums(s, row)).collect();
            let bias = |(r, &bias): (usize, &u64)| {
                let bias = i128::from(bias as i64);
                let mut turns: Vec<i128> =
                    sums.iter().map(|sums| (sums[r] + bias - least).div_euclid(1 << 64)).collect();
                turns.sort_unstable();
                bias - (turns[turns.len() / 2] << 64)
            };
            reference.biases.push(stage.linear.bias.iter().enumerate().map(bias).collect());
            values = sums.iter().map(|sums| reference.after(s, sums)).collect();
        }
        Ok(reference)
    }

    fn sums(&self, stage: usize, values: &[i128]) -> Vec<i128> {
        let matrix = &self.model.program().stages()[stage].linear.matrix;
        let sum = |r: usize| matrix.row(r).map(|(c, w)| i128::from(w) * values[c]).sum();
        (0..matrix.rows()).map(sum).collect()
    }

    /// What follows on sums without bias: moved into the frame, and looked up where there is a table.
    fn after(&self, stage: usize, sums: &[i128]) -> Vec<i128> {
        let lookup = self.model.program().stages()[stage].lookup.as_ref();
        let (least, most) = frame(lookup.is_some());
        let after = |(r, (sum, bias)): (usize, (&i128, &i128))| match lookup {
            Some(lookup) if lookup.table(r).is_none() => sum + bias,
            Some(lookup) => {
                i128::from(lookup.entry(r, (sum + bias).clamp(least, most) as u64) as i64)
            }
            None => (sum + bias).clamp(least, most),
        };
        sums.iter().zip(&self.biases[stage]).enumerate().map(after).collect()
    }

    /// The outputs, in steps of an answer.
    fn answer(&self, row: &[u64]) -> Vec<i64> {
        let stages = 0..self.biases.len();
        let outputs = stages.fold(whole(row), |values, s| self.after(s, &self.sums(s, &values)));
        self.steps(&outputs.iter().map(|&x| x as u64).collect::<Vec<_>>())
    }

    /// Outputs rounded to the steps of an answer, as the client does.
    fn steps(&self, outputs: &[u64]) -> Vec<i64> {
        let shift = 64 - self.output_bits;
        let step = |x: &u64| (x.wrapping_add(1 << (shift - 1)) as i64) >> shift;
        outputs.iter().map(step).collect()
    }
}

fn whole(row: &[u64]) -> Vec<i128> {
    row.iter().map(|&x| i128::from(x as i64)).collect()
}

fn frame(looked_up: bool) -> (i128, i128) {
    if looked_up { LOOKUP_FRAME } else { OUTPUT_FRAME }
}

fn simulated(
    name: &'static str,
    model: &Model,
    reference: &Reference<'_>,
    rows: &[Vec<f64>],
    options: &Exact,
) -> Result<Outcome> {
    let rng = &mut StdRng::seed_from_u64(options.seed + 1);
    let program = model.program();
    let stages = program.noise();
    let mut wrong = 0;
    let mut admitted = Vec::new();
    let bar = progress::bar(rows.len() as u64, "simulating", "rows");
    for row in rows {
        bar.inc(1);
        let Ok(encoded) = model.admit(row, OutOfRange::Refuse) else { continue };
        let mut noise = Noise::Predicted { stages: &stages, normal: &mut || normal(rng) };
        let answer = reference.steps(&program.simulate(&encoded.torus, &mut noise));
        let expected = reference.answer(&encoded.torus);
        wrong += usize::from(answer != expected);
        admitted.push((row, expected));
    }
    bar.finish_and_clear();
    ensure!(!admitted.is_empty(), "every row was refused");
    // Evenly from all kinds of rows.
    let step = (admitted.len() / options.encrypt.max(1)).max(1);
    // Kinds take turns by threes.
    let step = if step.is_multiple_of(3) { step - 1 } else { step };
    let chosen: Vec<_> = admitted.iter().step_by(step).take(options.encrypt).collect();
    let encrypted_wrong = encrypted(model, reference, &chosen)?;
    Ok(Outcome {
        model: name,
        rows: rows.len(),
        refused: rows.len() - admitted.len(),
        simulated_wrong: wrong,
        encrypted: chosen.len(),
        encrypted_wrong,
    })
}

/// How many rows have another answer under real encryption.
fn encrypted(
    model: &Model,
    reference: &Reference<'_>,
    rows: &[&(&Vec<f64>, Vec<i64>)],
) -> Result<usize> {
    let program = model.program();
    let pool = compute::pool(None)?;
    let (key, evaluation) = ClientKey::generate(program.parameter_set());
    let server = Evaluator::new(program, &evaluation, &pool)?;
    let bar = progress::bar(rows.len() as u64, "encrypted", "rows");
    let mut wrong = 0;
    for (row, expected) in rows {
        let input = model::encrypt(model, &key, &Table::of_row(row), OutOfRange::Refuse)?;
        let answer = server.compute(&input.bytes, |_| ())?;
        let answer = hermesh_engine::Answer::decode(&answer, program)?;
        let answers = hermesh_engine::decrypt(&key, &answer)?;
        wrong += usize::from(reference.steps(&answers[0]) != *expected);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(wrong)
}
