//! From a network to a model: tries parameter sets, measures what each loses, takes the cheapest
//! that keeps the accuracy.

use crate::Error;
use crate::calibration::Spans;
use crate::measure::{self, Measured};
use crate::model::{Client, Model, apply, interpret};
use crate::network::{Label, Layer, Network};
use crate::prune::{lookups, prune};
use crate::quantise::{Quantised, quantise};
use crate::report::{Candidate, Report, StageReport};
use crate::split::split;
use hermesh_engine::ParameterSet;
use hermesh_engine::parameters::CATALOGUE;

/// Most rows that ranges are calibrated on, and most that accuracy is measured on.
const MOST_ROWS: usize = 10_000;
const MOST_MEASURED: usize = 4_000;
/// From this many rows on, half are kept out of calibration and measured on.
const HOLD_OUT_FROM: usize = 200;
/// Points of agreement with the plain model that a dearer set must gain for each doubling of the time when
/// no budget is given. Agreement is stricter than accuracy: labels that change, though as many become
/// right as wrong, count as lost.
pub(crate) const DEFAULT_SLACK: f64 = 0.3;
/// Fewer bits of an `exact` output are of no use, so then accumulators get fewer.
const LEAST_OUTPUT_BITS: u32 = 5;

/// The precision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Fast; a Lookup returns f(x + e) with a small random e.
    Approximate,
    /// The answer of integer arithmetic, but for a failure probability.
    Exact,
}

/// What the compiler is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The precision; by default `approximate`, but for trees, which are computed exactly.
    pub precision: Option<Precision>,
    /// log₂ of the probability that noise may change anything in an `exact` answer.
    pub failure_log2: f64,
    /// How many points of accuracy (of agreement with the plain model, without labels) may be lost.
    pub accuracy_budget: Option<f64>,
}

impl Default for Options {
    /// The usual precision; a failure probability of 2⁻¹²⁸.
    fn default() -> Self {
        Self { precision: None, failure_log2: -128.0, accuracy_budget: None }
    }
}

/// Compiles a network, calibrated on rows of features and measured against their labels, if any.
/// `progress` hears of each parameter set that is tried.
///
/// # Errors
/// The rows do not fit the network, or no parameter set keeps the accuracy that was asked for.
pub fn compile(
    network: &Network,
    rows: &[&[f64]],
    labels: Option<&[Label]>,
    options: Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Model, Error> {
    network.validate()?;
    if let Some(labels) = labels
        && labels.len() != rows.len()
    {
        let reason = format!("{} labels for {} rows", labels.len(), rows.len());
        return Err(Error::Calibration { reason });
    }
    if rows.iter().any(|row| row.iter().any(|x| !x.is_finite())) {
        return Err(Error::NotFinite { what: "the calibration data".into() });
    }
    let held_out = rows.len() >= HOLD_OUT_FROM;
    let part = |odd: usize, most: usize| {
        let keep = move |i: &usize| !held_out || i % 2 == odd;
        (0..rows.len()).filter(keep).take(most).collect::<Vec<_>>()
    };
    let pick = |indices: &[usize]| indices.iter().map(|&i| rows[i]).collect::<Vec<_>>();
    let measured = part(1, MOST_MEASURED);
    let calibration = pick(&part(0, MOST_ROWS));
    for row in &calibration {
        network.check_row(row)?;
    }
    let (prefix, core) = split(network, &prune(network), &calibration)?;
    let trees = core.layers.len() > 1 && only_tables(&core);
    let usual = if trees { Precision::Exact } else { Precision::Approximate };
    let compilation = Compilation {
        network,
        prefix,
        core,
        precision: options.precision.unwrap_or(usual),
        options,
        rows: pick(&measured),
        labels: labels.map(|labels| measured.iter().map(|&i| &labels[i]).collect()),
        held_out,
    };
    compilation.run(&calibration, progress)
}

/// Whether no activation is anything but tables that the model brings: then their bits are not ours to choose.
fn only_tables(core: &Network) -> bool {
    let hidden = &core.layers[..core.layers.len() - 1];
    hidden.iter().all(|layer| layer.table_bits().is_some())
}

struct Compilation<'a> {
    network: &'a Network,
    prefix: Vec<Layer>,
    core: Network,
    precision: Precision,
    options: Options,
    rows: Vec<&'a [f64]>,
    labels: Option<Vec<&'a Label>>,
    held_out: bool,
}

struct Tried {
    set: &'static ParameterSet,
    model: Model,
    measured: Measured,
    accumulator_bits: Option<u32>,
}

impl Compilation<'_> {
    fn run(&self, calibration: &[&[f64]], progress: &mut dyn FnMut(&str)) -> Result<Model, Error> {
        let core = &self.core;
        let rows: Vec<Vec<f64>> = calibration.iter().map(|row| apply(&self.prefix, row)).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let switches = self.prefix.last().map_or_else(Vec::new, Layer::switches);
        let spans = Spans::measure(core, &rows, &switches)?;
        let plain = match &self.labels {
            Some(labels) => {
                let accuracy = measure::plain_accuracy(self.network, &self.rows, labels)?;
                if accuracy == 0.0 {
                    return Err(self.foreign_labels(labels)?);
                }
                Some(accuracy)
            }
            None => None,
        };
        let linear = core.layers.len() == 1;
        let mut tried = Vec::new();
        for set in CATALOGUE.iter().filter(|&set| set.bootstrap.is_none() == linear) {
            progress(set.name);
            tried.extend(self.attempt(core, &spans, set)?);
        }
        self.choose(tried, plain)
    }

    /// Labels of which the plain model gets none right are not its labels.
    fn foreign_labels(&self, labels: &[&Label]) -> Result<Error, Error> {
        let outputs = self.network.evaluate(self.rows[0])?;
        let reason = match interpret(self.network, &outputs).label {
            None => "the model predicts numbers, not labels: leave the labels out".into(),
            Some(label) => format!(
                "the plain model predicts none of its labels: they are like `{}`, the model's like `{label}`",
                labels[0]
            ),
        };
        Ok(Error::Calibration { reason })
    }

    /// `None` if the set cannot hold the network at the failure probability asked for.
    fn attempt(
        &self,
        core: &Network,
        spans: &Spans,
        set: &'static ParameterSet,
    ) -> Result<Option<Tried>, Error> {
        if self.precision == Precision::Approximate {
            let quantised = quantise(core, spans, set, None)?;
            return quantised.map(|q| self.measure(core, set, q, None)).transpose();
        }
        let tables = if only_tables(core) { 1..=1 } else { 2..=8 };
        for bits in tables.rev() {
            for output in (LEAST_OUTPUT_BITS..=16).rev() {
                let Some(quantised) = quantise(core, spans, set, Some((bits, output)))? else {
                    break;
                };
                if quantised.program.failure_log2().is_some_and(|p| p <= self.options.failure_log2)
                {
                    return self.measure(core, set, quantised, Some(bits)).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn measure(
        &self,
        core: &Network,
        set: &'static ParameterSet,
        quantised: Quantised,
        accumulator_bits: Option<u32>,
    ) -> Result<Tried, Error> {
        let report = self.report(core, &quantised);
        let client = Client {
            network: self.network.clone(),
            prefix: self.prefix.clone(),
            input: quantised.input,
            output: quantised.output,
            resolution: vec![0.0; core.outputs()],
            report,
        };
        let model = Model::new(quantised.program, client)?;
        let measured = measure::simulate(&model, &self.rows, self.labels.as_deref())?;
        // Those of tables that the model brings are its own.
        let given = core.layers.iter().filter_map(Layer::table_bits).max();
        let accumulator_bits = accumulator_bits.map(|bits| given.unwrap_or(bits));
        Ok(Tried { set, model, measured, accumulator_bits })
    }

    /// What is lost, in points: of accuracy if a budget was given and there are labels, else of
    /// agreement with the plain model.
    fn loss(&self, tried: &Tried, plain: Option<f64>) -> f64 {
        match (self.options.accuracy_budget, plain, tried.measured.accuracy) {
            (Some(_), Some(plain), Some(simulated)) => 100.0 * (plain - simulated),
            _ => 100.0 * (1.0 - tried.measured.agreement),
        }
    }

    fn choose(&self, tried: Vec<Tried>, plain: Option<f64>) -> Result<Model, Error> {
        let frontier: Vec<Candidate> = tried
            .iter()
            .map(|t| Candidate {
                parameter_set: t.set.name.into(),
                relative_cost: t.set.relative_cost * t.model.program().lookups_per_row() as f64,
                evaluation_key_bytes: t.set.evaluation_key_bytes(),
                simulated_accuracy: t.measured.accuracy,
                agreement: t.measured.agreement,
                accumulator_bits: t.accumulator_bits,
            })
            .collect();
        let losses: Vec<f64> = tried.iter().map(|t| self.loss(t, plain)).collect();
        let Some(best) = losses.iter().copied().min_by(f64::total_cmp) else {
            return Err(Error::NoParameterSet);
        };
        let asked = self.options.accuracy_budget;
        let good_enough = |&at: &usize| match asked {
            Some(budget) => losses[at] <= budget + 1e-9,
            None => (0..tried.len()).all(|other| {
                let times = frontier[other].relative_cost / frontier[at].relative_cost;
                // Less than twice the time counts as twice; so do sets without Lookups, whose
                // ratio is not a number.
                let doublings = times.log2().max(1.0);
                losses[at] - losses[other] <= doublings * DEFAULT_SLACK + 1e-9
            }),
        };
        let Some(chosen) = (0..tried.len()).find(good_enough) else {
            let at = losses.iter().position(|&loss| loss == best).unwrap_or_default();
            return Err(Error::Budget {
                budget: asked.unwrap_or_default(),
                best,
                set: tried[at].set.name,
            });
        };
        let loss = losses[chosen];
        let why = match asked {
            Some(budget) => format!("the cheapest that loses at most {budget} points ({loss:.2})"),
            None => format!(
                "loses {loss:.2} points of agreement with the plain model; more time gains less than {DEFAULT_SLACK} points for each doubling"
            ),
        };
        let Some(Tried { model, measured, .. }) = tried.into_iter().nth(chosen) else {
            return Err(Error::NoParameterSet);
        };
        let exact = self.precision == Precision::Exact;
        let resolution = measured.noise.iter().map(|std| if exact { 0.0 } else { 4.0 * std });
        let resolution: Vec<f64> = resolution.collect();
        let mut client = model.client().clone();
        client.resolution = resolution.clone();
        client.report = Report {
            why,
            resolution,
            rows_measured: self.rows.len(),
            held_out: self.held_out,
            plain_accuracy: plain,
            simulated_accuracy: measured.accuracy,
            agreement: measured.agreement,
            frontier,
            ..client.report
        };
        Model::new(model.program().clone(), client)
    }

    /// All that does not depend on measurements.
    fn report(&self, core: &Network, quantised: &Quantised) -> Report {
        let program = &quantised.program;
        let set = program.parameter_set();
        let encrypted = &self.network.layers[self.network.elementwise_prefix()..];
        let all = lookups(encrypted, self.precision == Precision::Exact);
        let stages = program.stages().iter().zip(program.noise()).enumerate();
        let stages = stages.map(|(i, (stage, noise))| StageReport {
            name: core.layers[i].name.clone(),
            inputs: stage.linear.matrix.columns(),
            outputs: stage.linear.matrix.rows(),
            weight_bits: quantised.weight_bits[i],
            lookups: program.lookups(i),
            tables: stage.lookup.as_ref().map_or(0, |lookup| lookup.tables.len()),
            noise_log2: (noise.input.iter().sum::<f64>() / noise.input.len() as f64).log2() / 2.0,
            table_noise_log2: stage.lookup.as_ref().map(|_| noise.output.log2() / 2.0),
        });
        Report {
            model: self.network.name.clone(),
            precision: match self.precision {
                Precision::Approximate => "approximate".into(),
                Precision::Exact => "exact".into(),
            },
            parameter_set: set.name.into(),
            security_bits: set.security_bits,
            why: String::new(),
            stages: stages.collect(),
            lookups: program.lookups_per_row(),
            pruned_lookups: all.saturating_sub(program.lookups_per_row()),
            failure_log2: program.failure_log2(),
            resolution: Vec::new(),
            rows_measured: 0,
            held_out: false,
            plain_accuracy: None,
            simulated_accuracy: None,
            agreement: 0.0,
            evaluation_key_bytes: set.evaluation_key_bytes(),
            input_bytes: program.input_bytes(1),
            answer_bytes: program.answer_bytes(1),
            frontier: Vec::new(),
        }
    }
}
