use std::time::Instant;

use anyhow::{Context, Result, bail};
use hermesh_client::cli::Eval;
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::data::{self, Table};
use hermesh_client::terminal::{TextTable, progress, units};
use hermesh_client::{Error, model};
use hermesh_compiler::Model;
use hermesh_compiler::network::Label;
use hermesh_engine::ClientKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{count, print, print_json, seconds_by_operator};

/// Shares are from 0 to 1.
#[derive(Serialize)]
struct Evaluation {
    samples: usize,
    plain_accuracy: f64,
    simulated_accuracy: f64,
    encrypted_accuracy: f64,
    /// Encrypted label equal to the simulated one.
    agreement: f64,
    /// Encrypted label equal to the plain one.
    agreement_plain: f64,
    /// Of one inference on the server: from encrypted input to encrypted answer.
    median_seconds: f64,
    p95_seconds: f64,
    median_encrypt_seconds: f64,
    median_decrypt_seconds: f64,
    evaluation_key_bytes: usize,
    input_bytes: usize,
    answer_bytes: usize,
    bootstraps: usize,
    precision: String,
    parameter_set: &'static str,
    security_bits: u32,
    failure_log2: Option<f64>,
    threads: usize,
    key_generation_seconds: f64,
    key_expansion_seconds: f64,
    /// Over all samples, summed over threads.
    seconds_by_operator: Map<String, Value>,
    /// Largest resident memory of the process, client included; none where it is not known.
    peak_memory_bytes: Option<u64>,
}

/// What happened to each sample.
#[derive(Default)]
struct Samples {
    plain: Vec<Option<Label>>,
    simulated: Vec<Option<Label>>,
    encrypted: Vec<Option<Label>>,
    encrypt_seconds: Vec<f64>,
    compute_seconds: Vec<f64>,
    decrypt_seconds: Vec<f64>,
    input_bytes: usize,
    answer_bytes: usize,
}

pub(crate) fn run(options: &Eval) -> Result<()> {
    let model = model::read(&options.model)?;
    let table = data::read_table(&options.inputs, options.data.limits())?;
    let labels = data::read_labels(&options.labels, options.data.limits())?;
    if labels.len() != table.rows {
        let error = Error::LabelCount { rows: table.rows, labels: labels.len() };
        return Err(error).with_context(|| format!("cannot use {}", options.labels.display()));
    }
    let labels = model::labels(model.network(), &labels);
    let evaluation = evaluate(&model, &table, &labels, options)?;
    match options.report.json {
        true => print_json(&evaluation),
        false => print(&text(&evaluation)),
    }
}

fn evaluate(model: &Model, table: &Table, labels: &[Label], options: &Eval) -> Result<Evaluation> {
    let program = model.program();
    let set = program.parameter_set();
    let mut samples = Samples::default();
    foresee(model, table, &mut samples)
        .with_context(|| format!("cannot use {}", options.inputs.display()))?;

    let pool = compute::pool(options.compute.threads)?;
    let lookups = program.lookups_per_row();
    let bar = progress::bar((lookups * table.rows) as u64, "evaluating", "bootstraps");
    let start = Instant::now();
    let (client, key) = pool.install(|| ClientKey::generate(set));
    let key_generation_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let evaluator = Evaluator::new(program, &key, &pool)?;
    let key_expansion_seconds = start.elapsed().as_secs_f64();
    for row in table.values.chunks_exact(table.columns) {
        infer(model, &client, &evaluator, row, &mut samples, |done| bar.inc(done))?;
    }
    bar.finish_and_clear();

    let mut seconds_by_operator = seconds_by_operator(evaluator.timings());
    for (name, all) in
        [("encrypt", &samples.encrypt_seconds), ("decrypt", &samples.decrypt_seconds)]
    {
        seconds_by_operator.insert(name.to_owned(), all.iter().sum::<f64>().into());
    }
    let truth: Vec<Option<Label>> = labels.iter().cloned().map(Some).collect();
    Ok(Evaluation {
        samples: table.rows,
        plain_accuracy: share(&samples.plain, &truth),
        simulated_accuracy: share(&samples.simulated, &truth),
        encrypted_accuracy: share(&samples.encrypted, &truth),
        agreement: share(&samples.encrypted, &samples.simulated),
        agreement_plain: share(&samples.encrypted, &samples.plain),
        median_seconds: quantile(&samples.compute_seconds, 0.5),
        p95_seconds: quantile(&samples.compute_seconds, 0.95),
        median_encrypt_seconds: quantile(&samples.encrypt_seconds, 0.5),
        median_decrypt_seconds: quantile(&samples.decrypt_seconds, 0.5),
        evaluation_key_bytes: key.encode().len(),
        input_bytes: samples.input_bytes,
        answer_bytes: samples.answer_bytes,
        bootstraps: lookups,
        precision: model.report().precision.clone(),
        parameter_set: set.name,
        security_bits: set.security_bits,
        failure_log2: program.failure_log2(),
        threads: evaluator.threads(),
        key_generation_seconds,
        key_expansion_seconds,
        seconds_by_operator,
        peak_memory_bytes: peak_memory(),
    })
}

/// The labels of the model in floating point, and those of the simulation with noise. Its seeds are
/// fixed, so that the same rows give the same labels every time.
fn foresee(model: &Model, table: &Table, samples: &mut Samples) -> Result<()> {
    let noise = model.program().noise();
    for (index, row) in table.values.chunks_exact(table.columns).enumerate() {
        let plain = model.plain(row)?.label;
        if plain.is_none() {
            bail!("the model gives numbers instead of labels, so there is no accuracy to measure");
        }
        samples.plain.push(plain);
        let mut rng = StdRng::seed_from_u64(index as u64);
        let mut normal = || hermesh_compiler::normal(&mut rng);
        samples.simulated.push(model.simulate(row, &noise, &mut normal)?.label);
    }
    Ok(())
}

fn infer(
    model: &Model,
    client: &ClientKey,
    evaluator: &Evaluator<'_>,
    row: &[f64],
    samples: &mut Samples,
    done: impl FnMut(u64) + Send,
) -> Result<()> {
    let table = Table { rows: 1, columns: row.len(), shape: vec![row.len()], values: row.to_vec() };
    let start = Instant::now();
    let input = model::encrypt(model, client, &table)?;
    samples.encrypt_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let answer = evaluator.compute(&input, done)?;
    samples.compute_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let predictions =
        model::decrypt(model, client, &answer, &vec![0.0; model.program().outputs()])?;
    samples.decrypt_seconds.push(start.elapsed().as_secs_f64());
    samples.encrypted.extend(predictions.into_iter().map(|prediction| prediction.label));
    (samples.input_bytes, samples.answer_bytes) = (input.len(), answer.len());
    Ok(())
}

fn share(a: &[Option<Label>], b: &[Option<Label>]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    same as f64 / a.len().max(1) as f64
}

/// The mean of the middle two for the median of an even number; the nearest rank above otherwise.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * sorted.len() as f64;
    let at = |rank: f64| {
        let index = (rank as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    };
    if q == 0.5 && rank.fract() == 0.0 {
        return (at(rank) + at(rank + 1.0)) / 2.0;
    }
    at(rank.ceil())
}

/// The kernel's count of the largest resident memory.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn text(e: &Evaluation) -> String {
    let mut accuracy = TextTable::new(["accuracy", "share"]);
    accuracy.push(["plain, floating point", &units::percent(e.plain_accuracy)]);
    accuracy.push(["simulated", &units::percent(e.simulated_accuracy)]);
    accuracy.push(["encrypted", &units::percent(e.encrypted_accuracy)]);
    accuracy.push(["encrypted agrees with simulated", &units::percent(e.agreement)]);
    accuracy.push(["encrypted agrees with plain", &units::percent(e.agreement_plain)]);
    let mut costs = TextTable::new(["one inference", ""]);
    costs.push(["compute, median", &units::seconds(e.median_seconds)]);
    costs.push(["compute, 95th percentile", &units::seconds(e.p95_seconds)]);
    costs.push(["encrypt, median", &units::seconds(e.median_encrypt_seconds)]);
    costs.push(["decrypt, median", &units::seconds(e.median_decrypt_seconds)]);
    costs.push(["input", &units::bytes(e.input_bytes as u64)]);
    costs.push(["answer", &units::bytes(e.answer_bytes as u64)]);
    costs.push(["bootstraps", &e.bootstraps.to_string()]);
    let mut operators = TextTable::new(["operator", "thread-seconds in all"]);
    for (operator, seconds) in &e.seconds_by_operator {
        operators.push([operator.clone(), format!("{:.3}", seconds.as_f64().unwrap_or_default())]);
    }
    let memory = e.peak_memory_bytes.map_or_else(|| "not known".to_owned(), units::bytes);
    format!(
        "{}, {} ({} bits of security), {}\n\n{accuracy}\n{costs}\n{operators}\n\
         evaluation key {}, made in {}, expanded in {}; peak memory {memory}\n",
        count(e.samples, "sample"),
        e.parameter_set,
        e.security_bits,
        count(e.threads, "thread"),
        units::bytes(e.evaluation_key_bytes as u64),
        units::seconds(e.key_generation_seconds),
        units::seconds(e.key_expansion_seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.95), 95.0);
        assert_eq!(quantile(&[7.0], 0.95), 7.0);
    }

    #[test]
    fn shares() {
        let labels = |all: &[i64]| all.iter().map(|&l| Some(Label::Int(l))).collect::<Vec<_>>();
        assert_eq!(share(&labels(&[1, 2, 3, 4]), &labels(&[1, 0, 3, 0])), 0.5);
    }
}
