//! `hermesh eval`

mod classes;
mod numbers;
mod samples;
mod truth;

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::Eval;
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::data::{self, Table};
use hermesh_client::model::{self, Moved};
use hermesh_client::terminal::{TextTable, progress, units};
use hermesh_compiler::{Model, OutOfRange};
use hermesh_engine::ClientKey;
use serde::Serialize;
use serde_json::{Map, Value};

use super::statistics::{peak_memory, quantile};
use super::{count, print, print_json, seconds_by_operator};
use classes::Classes;
use numbers::Numbers;
use samples::{Samples, Sieve, Spent, Worst, deviation, infer};
use truth::Truth;

#[derive(Serialize)]
struct Evaluation {
    /// Number of accepted rows.
    samples: usize,
    rows_refused: usize,
    /// The first refused rows, with reasons.
    refused: Vec<Refused>,
    #[serde(flatten)]
    moved: Moved,
    worst_deviation: Worst,
    #[serde(flatten)]
    classes: Option<Classes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbers>,
    #[serde(flatten)]
    costs: Option<Costs>,
    bootstraps: usize,
    precision: String,
    parameter_set: &'static str,
    security_bits: u32,
    failure_log2: Option<f64>,
    /// Largest resident memory of the process, client included; `None` if unknown.
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Refused {
    row: usize,
    reason: String,
}

/// Number of refused rows to list.
const NAMED: usize = 5;

/// Costs of the encrypted run.
#[derive(Serialize)]
struct Costs {
    /// Time of one inference on the server: from encrypted input to encrypted answer.
    median_seconds: f64,
    p95_seconds: f64,
    median_encrypt_seconds: f64,
    median_decrypt_seconds: f64,
    evaluation_key_bytes: usize,
    input_bytes: usize,
    answer_bytes: usize,
    threads: usize,
    key_generation_seconds: f64,
    key_expansion_seconds: f64,
    /// Time of all samples, summed over threads.
    seconds_by_operator: Map<String, Value>,
}

pub(crate) fn run(options: &Eval) -> Result<()> {
    let model = model::read_whole(&options.model)?;
    let table = data::read_table(&options.inputs, options.data.limits())?;
    let truth = Truth::read(&model, table.rows, options)?;
    let Sieve { answered, refused, moved } = Sieve::new(&model, &table, options.rows.policy())
        .with_context(|| format!("cannot use {}", options.inputs.display()))?;
    let named = refused.iter().take(NAMED);
    let named = named.map(|(row, reason)| Refused { row: *row, reason: reason.clone() }).collect();
    let (mut table, truth) = (table.select(&answered), truth.select(&answered));
    if options.rows.policy() == OutOfRange::Clamp {
        // What is answered is the clamped row, so the plain model answers that as well.
        let domain = model.client().domain();
        let columns = table.columns;
        table
            .values
            .chunks_exact_mut(columns)
            .for_each(|row| row.copy_from_slice(&domain.clamp(row)));
    }
    let mut samples = Samples::foresee(&model, &table)
        .with_context(|| format!("cannot use {}", options.inputs.display()))?;
    let costs = match options.simulate_only {
        true => None,
        false => Some(encrypt(&model, &table, options, &mut samples)?),
    };
    let (program, set) = (model.program(), model.program().parameter_set());
    let evaluation = Evaluation {
        samples: table.rows,
        rows_refused: refused.len(),
        refused: named,
        moved,
        worst_deviation: samples.worst,
        classes: truth.concerns_labels(&model).then(|| Classes::new(&samples, truth.labels())),
        numbers: truth.concerns_numbers(&model).then(|| Numbers::new(&samples, truth.targets())),
        costs,
        bootstraps: program.lookups_per_row(),
        precision: model.report().precision.clone(),
        parameter_set: set.name,
        security_bits: set.security_bits,
        failure_log2: program.failure_log2(),
        peak_memory_bytes: peak_memory(),
    };
    match options.report.json {
        true => print_json(&evaluation),
        false => print(&text(&evaluation)),
    }
}

/// Evaluates every row encrypted, under a key made for this run.
fn encrypt(model: &Model, table: &Table, options: &Eval, samples: &mut Samples) -> Result<Costs> {
    let program = model.program();
    let pool = compute::pool(options.compute.threads)?;
    let lookups = program.lookups_per_row();
    let bar = progress::bar((lookups * table.rows) as u64, "evaluating", "bootstraps");
    let start = Instant::now();
    let (client, key) = pool.install(|| ClientKey::generate(program.parameter_set()));
    let key_generation_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let evaluator = Evaluator::new(program, &key, &pool)?;
    let key_expansion_seconds = start.elapsed().as_secs_f64();
    let (mut spent, mut encrypted) = (Spent::default(), Vec::new());
    for row in table.values.chunks_exact(table.columns) {
        let outputs = infer(model, &client, &evaluator, row, &mut spent, |n| bar.inc(n))?;
        let worst = samples.worst.encrypted.get_or_insert(0.0);
        *worst = worst.max(deviation(model, &outputs, row)?);
        encrypted.push(model::predict(model, &outputs, model.resolution()));
    }
    bar.finish_and_clear();
    samples.encrypted = Some(encrypted);

    let mut seconds_by_operator = seconds_by_operator(evaluator.timings());
    for (name, all) in [("encrypt", &spent.encrypt_seconds), ("decrypt", &spent.decrypt_seconds)] {
        seconds_by_operator.insert(name.to_owned(), all.iter().sum::<f64>().into());
    }
    Ok(Costs {
        median_seconds: quantile(&spent.compute_seconds, 0.5),
        p95_seconds: quantile(&spent.compute_seconds, 0.95),
        median_encrypt_seconds: quantile(&spent.encrypt_seconds, 0.5),
        median_decrypt_seconds: quantile(&spent.decrypt_seconds, 0.5),
        evaluation_key_bytes: key.encode().len(),
        input_bytes: spent.input_bytes,
        answer_bytes: spent.answer_bytes,
        threads: evaluator.threads(),
        key_generation_seconds,
        key_expansion_seconds,
        seconds_by_operator,
    })
}

fn text(e: &Evaluation) -> String {
    let threads = e
        .costs
        .as_ref()
        .map_or_else(|| "nothing encrypted".to_owned(), |costs| count(costs.threads, "thread"));
    let mut text = format!(
        "{}, {} ({} bits of security), {threads}\n",
        count(e.samples, "sample"),
        e.parameter_set,
        e.security_bits,
    );
    // Writing to a string cannot fail.
    if e.rows_refused > 0 {
        let _ = writeln!(text, "{} refused before encryption:", count(e.rows_refused, "row"));
        for Refused { row, reason } in &e.refused {
            let _ = writeln!(text, "  row {row}: {reason}");
        }
    }
    if e.moved.clamped_values > 0 {
        let _ = writeln!(text, "{} clamped", count(e.moved.clamped_values, "value"));
    }
    let _ = writeln!(
        text,
        "largest difference from plain, in standard deviations: {}",
        e.worst_deviation.text()
    );
    if let Some(classes) = &e.classes {
        let _ = write!(text, "\n{}", classes.table());
    }
    if let Some(numbers) = &e.numbers {
        let _ = write!(text, "\n{}", numbers.table());
    }
    let memory = e.peak_memory_bytes.map_or_else(|| "not known".to_owned(), units::bytes);
    if let Some(costs) = &e.costs {
        let _ = write!(text, "\n{}", costs.text(e.bootstraps));
        let _ = writeln!(
            text,
            "\nevaluation key {}, made in {}, expanded in {}; peak memory {memory}",
            units::bytes(costs.evaluation_key_bytes as u64),
            units::seconds(costs.key_generation_seconds),
            units::seconds(costs.key_expansion_seconds),
        );
    }
    text
}

impl Costs {
    fn text(&self, bootstraps: usize) -> String {
        let mut costs = TextTable::new(["one inference", ""]);
        costs.push(["compute, median", &units::seconds(self.median_seconds)]);
        costs.push(["compute, 95th percentile", &units::seconds(self.p95_seconds)]);
        costs.push(["encrypt, median", &units::seconds(self.median_encrypt_seconds)]);
        costs.push(["decrypt, median", &units::seconds(self.median_decrypt_seconds)]);
        costs.push(["input", &units::bytes(self.input_bytes as u64)]);
        costs.push(["answer", &units::bytes(self.answer_bytes as u64)]);
        costs.push(["bootstraps", &bootstraps.to_string()]);
        let mut operators = TextTable::new(["operator", "thread-seconds in all"]);
        for (operator, seconds) in &self.seconds_by_operator {
            let seconds = format!("{:.3}", seconds.as_f64().unwrap_or_default());
            operators.push([operator, &seconds]);
        }
        format!("{costs}\n{operators}")
    }
}
