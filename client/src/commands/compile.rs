use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::{self, Compile, FailureProbability, Grid, Precision};
use hermesh_client::data::Table;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::quote::{self, Quote};
use hermesh_client::terminal::progress;
use hermesh_client::{Error, compute, data, model};
use hermesh_compiler::{Domain, Guarantee, Options, Report, Source, onnx};
use serde::Serialize;

use super::{hex, print, print_json, report, warn};

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    program: String,
    compile_seconds: f64,
    quote: Option<Quote>,
}

pub(crate) fn run(options: &Compile) -> Result<()> {
    let start = Instant::now();
    let pool = compute::pool(options.compute.threads)?;
    let spinner = progress::spinner("reading");
    let network = onnx::read(&options.model)?;
    let table = data::read_table(&options.calibration, options.data.limits())?;
    let labels = match &options.labels {
        Some(path) => {
            let labels = data::read_labels(path, options.data.limits())?;
            if labels.len() != table.rows {
                let error = Error::LabelCount { rows: table.rows, labels: labels.len() };
                return Err(error).with_context(|| format!("cannot use {}", path.display()));
            }
            Some(model::labels(&network.head, &labels))
        }
        None => None,
    };
    let rows: Vec<&[f64]> = table.values.chunks_exact(table.columns).collect();
    let asked = asked(options, &table, network.inputs)?;
    // The callback draws on its own handle, which may cross to the pool's threads.
    let drawn = spinner.clone();
    let compiled = pool.install(move || {
        let mut tell = |set: &str| drawn.set_message(format!("trying parameter set {set}"));
        hermesh_compiler::compile(&network, &rows, labels.as_deref(), asked, &mut tell)
    })?;
    files::write(&options.output, &compiled.encode()?, Audience::Public, Existing::Replace)?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let quote = match options.no_measure {
        true => None,
        false => {
            spinner.set_message("measuring the rate of bootstraps");
            Some(quote::measure(compiled.program(), &pool)?)
        }
    };
    spinner.finish_and_clear();
    compiled.report().warnings.iter().for_each(|warning| warn(warning));
    if options.report.json {
        let program = hex(&compiled.program().digest());
        return print_json(&Document {
            report: compiled.report(),
            program,
            compile_seconds,
            quote,
        });
    }
    print(&report::full(compiled.report(), quote.as_ref()))
}

/// The declared domain: from the command line, else from the ONNX file, else 0..255 if the calibration data are bytes.
fn domain(command: &Compile, table: &Table, features: usize) -> Result<Option<Domain>> {
    let declared = match &command.domain {
        Some(text) => Some(text.clone()),
        None => onnx::declared_domain(&command.model)?,
    };
    Ok(match declared {
        Some(text) => Some(Domain::parse(&text, features)?),
        None => table.bytes.then(|| Domain::same(features, 0.0, 255.0, Source::Bytes)),
    })
}

fn asked(command: &Compile, table: &Table, features: usize) -> Result<Options> {
    let precision = command.precision.map(|precision| match precision {
        Precision::Approximate => hermesh_compiler::Precision::Approximate,
        Precision::Exact => hermesh_compiler::Precision::Exact,
    });
    let failure_log2 = match command.failure_probability {
        FailureProbability::TwoToMinus128 => -128.0,
        FailureProbability::TwoToMinus64 => -64.0,
    };
    let grid = match command.grid {
        Grid::Quantiles => hermesh_compiler::Grid::Quantiles,
        Grid::Thresholds => hermesh_compiler::Grid::Thresholds,
    };
    let guarantee = command.guarantee.map(|guarantee| match guarantee {
        cli::Guarantee::Bounded => Guarantee::Bounded,
        cli::Guarantee::Checked => Guarantee::Checked,
    });
    Ok(Options {
        precision,
        failure_log2,
        accuracy_budget: command.accuracy_budget,
        domain: domain(command, table, features)?,
        guarantee,
        grid,
    })
}
