use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::Evaluate;
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys;
use hermesh_client::model::{self, MAX_CIPHERTEXT};
use hermesh_client::terminal::{progress, units};
use hermesh_engine::{Digest, Error, Input};
use serde_json::json;

use super::statistics::{peak_memory, quantile};
use super::{count, hex, note, print_json, seconds_by_operator};

pub(crate) fn run(options: &Evaluate) -> Result<()> {
    let model = model::read_whole(&options.model)?;
    let program = model.program();
    let job = files::read(&options.input, MAX_CIPHERTEXT)?;
    let in_job = || format!("cannot use {}", options.input.display());
    let input = Input::decode(&job, program).with_context(in_job)?;
    let key = keys::read_evaluation_key(&options.evaluation_key)?;
    // Checked before the key is expanded, which takes time.
    if input.evaluation_key() != key.digest() {
        let short = |digest: &Digest| hex(digest)[..8].to_owned();
        let expected = short(&key.digest());
        let found = short(&input.evaluation_key());
        return Err(Error::WrongKey { what: "the job", expected, found }).with_context(in_job);
    }
    let lookups = program.lookups_per_row() * input.rows();
    let repetitions = options.repetitions.get();
    let bar = progress::bar((lookups * repetitions) as u64, "evaluating", "bootstraps");
    let pool = compute::pool(options.compute.threads)?;
    let start = Instant::now();
    let evaluator = Evaluator::new(program, &key, &pool)
        .with_context(|| format!("cannot use {}", options.evaluation_key.display()))?;
    let expand_seconds = start.elapsed().as_secs_f64();
    let mut answer = Vec::new();
    let mut all = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        answer = evaluator.compute(&job, |done| bar.inc(done))?;
        all.push(start.elapsed().as_secs_f64());
    }
    let seconds = quantile(&all, 0.5);
    bar.finish_and_clear();
    files::write(&options.output, &answer, Audience::Public, Existing::Replace)?;
    if options.report.json {
        return print_json(&json!({
            "rows": input.rows(),
            "bootstraps": lookups,
            "seconds": seconds,
            "repetitions": all,
            "key_expansion_seconds": expand_seconds,
            // Sum over all repetitions.
            "seconds_by_operator": seconds_by_operator(evaluator.timings()),
            "threads": evaluator.threads(),
            "input_bytes": job.len(),
            "answer_bytes": answer.len(),
            "peak_memory_bytes": peak_memory(),
        }));
    }
    note(&format!(
        "{}: {} answered in {} with {}, {}",
        options.output.display(),
        count(input.rows(), "row"),
        units::seconds(seconds),
        count(lookups, "bootstrap"),
        units::bytes(answer.len() as u64)
    ));
    Ok(())
}
