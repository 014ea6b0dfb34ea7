//! Runs the pipelines in turns on the same inputs.

use std::num::NonZeroUsize;

use anyhow::{Result, ensure};
use hermesh_client::terminal::progress;
use hermesh_compiler::network::Label;
use hermesh_compiler::{Model, Options, compile};

use crate::data::Samples;
use crate::remote::{Kind, Remote};
use crate::report::{Measured, Report};
use crate::{conventional, hermesh, machine};

/// The client of a pipeline, which has the client key.
pub(crate) trait Client {
    /// Encrypts one row to the bytes of an input.
    fn encrypt(&mut self, row: &[f64]) -> Result<Vec<u8>>;
    /// The label in an answer; `None` if the model is not a classifier.
    fn label(&self, answer: &[u8]) -> Result<Option<Label>>;
}

/// A pipeline in the comparison.
struct Contender<'a> {
    client: Box<dyn Client + 'a>,
    server: Remote,
    measured: Measured,
}

/// Compares `kinds` on the first `repetitions` inputs.
pub(crate) fn run(
    samples: &Samples,
    options: Options,
    kinds: &[Kind],
    repetitions: usize,
    threads: NonZeroUsize,
) -> Result<Report> {
    let Samples { network, calibration, inputs } = samples;
    let found = inputs.table.rows;
    ensure!(repetitions <= found, "{repetitions} repetitions need as many inputs, found {found}");
    let spinner = progress::spinner("compiling");
    let rows = calibration.slices();
    let labels = calibration.labels.as_deref();
    let model = compile(network, &rows, labels, options, &mut |set| {
        spinner.set_message(format!("compiling for {set}"));
    })?;
    let mut contenders = Vec::new();
    for &kind in kinds {
        spinner.set_message(format!("making keys: {}", kind.name()));
        let mut contender = Contender::start(kind, &model, &rows, threads)?;
        // Not measured: during the first answer caches are cold and the Fourier transform is planned.
        let input = contender.client.encrypt(inputs.slices()[0])?;
        contender.server.answer(&input)?;
        contenders.push(contender);
    }
    spinner.finish_and_clear();
    let bar = progress::bar((repetitions * kinds.len()) as u64, "answering", "inputs");
    let mut plain_right = 0;
    for (i, row) in inputs.slices().into_iter().take(repetitions).enumerate() {
        let plain = model.plain(row)?.label;
        let truth = inputs.labels.as_ref().map(|labels| &labels[i]);
        plain_right += usize::from(truth.is_some() && plain.as_ref() == truth);
        for contender in &mut contenders {
            contender.answer(row, plain.as_ref(), truth)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let classifies = model.plain(inputs.slices()[0])?.label.is_some();
    Ok(Report {
        model: network.name.clone(),
        processor: machine::processor(),
        threads,
        repetitions,
        parameter_set: model.program().parameter_set().name.into(),
        why: model.report().why.clone(),
        frontier: model.report().frontier.clone(),
        classifies,
        plain_right: inputs.labels.as_ref().map(|_| plain_right),
        pipelines: contenders.into_iter().map(|contender| contender.measured).collect(),
    })
}

impl<'a> Contender<'a> {
    fn start(
        kind: Kind,
        model: &'a Model,
        calibration: &[&[f64]],
        threads: NonZeroUsize,
    ) -> Result<Self> {
        let (client, program, key, bootstraps): (Box<dyn Client>, _, _, _) = match kind {
            Kind::Hermesh => {
                let (client, key) = hermesh::Client::generate(model);
                let program = model.program();
                (Box::new(client), program.encode().to_vec(), key, program.lookups_per_row())
            }
            Kind::Conventional | Kind::Fused => {
                let fused = kind == Kind::Fused;
                let quantised = conventional::quantise(model.network(), calibration, fused)?;
                let program = serde_json::to_vec(&quantised.plan)?;
                let bootstraps = quantised.plan.bootstraps();
                let (client, key) = conventional::Client::generate(model, quantised);
                (Box::new(client), program, key, bootstraps)
            }
        };
        let server = Remote::start(kind, threads, &program, &key)?;
        Ok(Self { client, server, measured: Measured::new(kind, bootstraps, key.len()) })
    }

    fn answer(&mut self, row: &[f64], plain: Option<&Label>, truth: Option<&Label>) -> Result<()> {
        let input = self.client.encrypt(row)?;
        let reply = self.server.answer(&input)?;
        let label = self.client.label(&reply.answer)?;
        let measured = &mut self.measured;
        measured.seconds.push(reply.seconds);
        measured.loading_memory_bytes = reply.loading;
        measured.answering_memory_bytes = reply.answering;
        measured.input_bytes = input.len() as u64;
        measured.answer_bytes = reply.answer.len() as u64;
        measured.as_plain += usize::from(label.is_some() && label.as_ref() == plain);
        measured.right += usize::from(label.is_some() && label.as_ref() == truth);
        Ok(())
    }
}
