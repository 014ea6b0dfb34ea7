use anyhow::Result;
use hermesh_client::cli::Quote;
use hermesh_client::quote::measure;
use hermesh_client::terminal::progress;
use hermesh_client::{compute, model};
use serde::Serialize;

use super::{print, print_json, report};

/// The measured costs and the compiler's figures.
#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    precision: &'a str,
    parameter_set: &'a str,
    security_bits: u32,
    #[serde(flatten)]
    quote: hermesh_client::quote::Quote,
    plain_accuracy: Option<f64>,
    simulated_accuracy: Option<f64>,
    agreement: f64,
    failure_log2: Option<f64>,
    evaluation_key_bytes: usize,
    input_bytes: usize,
    answer_bytes: usize,
}

pub(crate) fn run(options: &Quote) -> Result<()> {
    let model = model::read_whole(&options.model)?;
    let spinner = progress::spinner("measuring");
    let quote = measure(model.program(), &compute::pool(options.compute.threads)?)?;
    spinner.finish_and_clear();
    let report = model.report();
    if !options.report.json {
        return print(&report::brief(report, Some(&quote)));
    }
    print_json(&Document {
        model: &report.model,
        precision: &report.precision,
        parameter_set: &report.parameter_set,
        security_bits: report.security_bits,
        quote,
        plain_accuracy: report.plain_accuracy,
        simulated_accuracy: report.simulated_accuracy,
        agreement: report.agreement,
        failure_log2: report.failure_log2,
        evaluation_key_bytes: report.evaluation_key_bytes,
        input_bytes: report.input_bytes,
        answer_bytes: report.answer_bytes,
    })
}
