//! Compiles a network to a model: tries the parameter sets, measures the loss of each, and takes the cheapest that
//! keeps the accuracy.

mod choose;
mod options;
mod stated;

use crate::Error;
use crate::calibration::{Inputs, Spans};
use crate::client::{Client, Guarantee, apply, interpret};
use crate::domain::Domain;
use crate::interval;
use crate::measure::{self, MOST_SIMULATIONS, Measured};
use crate::model::Model;
use crate::network::{Label, Layer, Network};
use crate::prune::{lookups, prune};
use crate::quantise::{self, Quantised, quantise};
use crate::report::{Candidate, GridReport, Report, StageReport};
use crate::split::{Split, split};
use crate::warnings;
use hermesh_engine::ParameterSet;
use hermesh_engine::parameters::CATALOGUE;

pub(crate) use choose::DEFAULT_SLACK;
pub use options::{Grid, Options, Precision};

/// Maximum number of rows for calibrating ranges, and for measuring accuracy.
const MOST_ROWS: usize = 10_000;
const MOST_MEASURED: usize = 4_000;
/// From this number of rows on, half of them are left out of calibration and used for measuring.
const HOLD_OUT_FROM: usize = 200;
/// Fewest useful bits of an `exact` output. If they do not fit, accumulators get fewer bits.
const LEAST_OUTPUT_BITS: u32 = 5;
/// Number of fits of an `exact` network that are measured for a set.
const MOST_FITS: usize = 3;

/// Compiles a network: calibrates it on rows of features and measures it against their labels, if given. `progress` is
/// called with the name of each parameter set that is tried.
///
/// # Errors
/// The rows do not fit the network, or no parameter set keeps the requested accuracy.
pub fn compile(
    network: &Network,
    rows: &[&[f64]],
    labels: Option<&[Label]>,
    options: Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Model, Error> {
    network.validate()?;
    if rows.is_empty() {
        return Err(Error::Calibration { reason: "it holds no rows".into() });
    }
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
    for row in rows {
        network.check_row(row)?;
    }
    let domain = domain(&options, &calibration, rows, network)?;
    let kept = pick(&measured);
    let Split { prefix, core, grid } =
        split(network, &prune(network), &calibration, &kept, options.grid)?;
    let trees = core.layers.len() > 1 && only_tables(&core);
    let usual = if trees { Precision::Exact } else { Precision::Approximate };
    let compilation = Compilation {
        network,
        prefix,
        core,
        domain,
        grid,
        precision: options.precision.unwrap_or(usual),
        warnings: warnings::of(network, rows, labels, held_out)?,
        whole: (0..network.inputs).map(|i| rows.iter().all(|row| row[i].fract() == 0.0)).collect(),
        options,
        rows: kept,
        labels: labels.map(|labels| measured.iter().map(|&i| &labels[i]).collect()),
        held_out,
    };
    compilation.run(&calibration, progress)
}

/// The declared domain, which must contain all rows; otherwise the observed one. Indices are those of the model.
fn domain(
    options: &Options,
    calibration: &[&[f64]],
    rows: &[&[f64]],
    network: &Network,
) -> Result<Domain, Error> {
    let mut domain = options.domain.clone().unwrap_or_else(|| Domain::observed(calibration));
    domain.validate(network.inputs)?;
    domain.restrict(&network.indices)?;
    for (row, values) in rows.iter().enumerate() {
        if let Err(refusal) = domain.check(values) {
            return Err(Error::Domain { reason: format!("in calibration row {row}, {refusal}") });
        }
    }
    Ok(domain)
}

/// Whether every activation is a lookup table defined by the model itself. The compiler then cannot choose the tables'
/// bits.
fn only_tables(core: &Network) -> bool {
    let hidden = &core.layers[..core.layers.len() - 1];
    hidden.iter().all(|layer| layer.table_bits().is_some())
}

struct Compilation<'a> {
    network: &'a Network,
    prefix: Vec<Layer>,
    core: Network,
    domain: Domain,
    grid: Option<GridReport>,
    precision: Precision,
    options: Options,
    /// The rows for measuring.
    rows: Vec<&'a [f64]>,
    labels: Option<Vec<&'a Label>>,
    held_out: bool,
    /// For each feature: whether it is a whole number in all rows.
    whole: Vec<bool>,
    warnings: Vec<String>,
}

/// A network to quantise, with bounded or calibrated frames.
struct Framed {
    core: Network,
    spans: Spans,
}

struct Tried {
    set: &'static ParameterSet,
    model: Model,
    measured: Measured,
    accumulator_bits: Option<u32>,
}

impl Tried {
    fn is_bounded(&self) -> bool {
        self.model.client().guarantee == Guarantee::Bounded
    }

    fn cost(&self) -> f64 {
        self.set.relative_cost * self.model.program().lookups_per_row() as f64
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            parameter_set: self.set.name.into(),
            relative_cost: self.cost(),
            evaluation_key_bytes: self.set.evaluation_key_bytes(),
            simulated_accuracy: self.measured.accuracy,
            agreement: self.measured.agreement,
            accumulator_bits: self.accumulator_bits,
        }
    }
}

impl Compilation<'_> {
    fn run(&self, calibration: &[&[f64]], progress: &mut dyn FnMut(&str)) -> Result<Model, Error> {
        let rows: Vec<Vec<f64>> = calibration.iter().map(|row| apply(&self.prefix, row)).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let spans = self.spans(&rows)?;
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
        let all = self.core.layers.len();
        let bound = |depth: usize| {
            let (core, spans) = interval::bound(&self.core, &spans, &rows, depth);
            Framed { core, spans }
        };
        let usual = Framed { core: self.core.clone(), spans: spans.clone() };
        let must = self.options.guarantee == Some(Guarantee::Bounded);
        let first = if must { bound(all) } else { usual };
        let mut tried = Vec::new();
        for set in self.sets() {
            progress(set.name);
            tried.extend(self.attempt(&first, set, MOST_SIMULATIONS)?);
        }
        if must {
            tried.retain(Tried::is_bounded);
            if tried.is_empty() {
                return Err(Error::NotBounded);
            }
        }
        let frontier: Vec<Candidate> = tried.iter().map(Tried::candidate).collect();
        let (chosen, why) = self.choose(&tried, &frontier, plain)?;
        let mut chosen = tried.swap_remove(chosen);
        let mut unbounded = None;
        if !chosen.is_bounded() && self.may_be_bounded() {
            progress("bounded sums");
            for depth in [all, 1] {
                let more = self.attempt(&bound(depth), chosen.set, MOST_SIMULATIONS)?;
                if let Some(more) = more.filter(|more| self.is_as_good(more, &chosen, plain))
                    && (depth < all || more.is_bounded())
                {
                    chosen = more;
                    break;
                }
            }
            if !chosen.is_bounded() {
                unbounded = Some(self.price_of_bounds(&bound(all), &chosen, plain)?);
            }
        }
        self.finish(chosen, frontier, why, plain, unbounded, calibration)
    }

    fn sets(&self) -> impl Iterator<Item = &'static ParameterSet> {
        let linear = self.core.layers.len() == 1;
        CATALOGUE.iter().filter(move |&set| set.bootstrap.is_none() == linear)
    }

    /// Whether bounding all sums is worth trying. `exact` accumulators are too small for sums bounded over a whole
    /// domain, except in linear models.
    fn may_be_bounded(&self) -> bool {
        self.options.guarantee != Some(Guarantee::Checked)
            && (self.precision == Precision::Approximate || self.core.layers.len() == 1)
    }

    fn spans(&self, rows: &[&[f64]]) -> Result<Spans, Error> {
        let switches = self.prefix.last().map_or_else(Vec::new, Layer::switches);
        if self.domain.is_strict() {
            let ends = self.domain.low.iter().copied().zip(self.domain.high.iter().copied());
            let ends = self.prefix.iter().fold(ends.collect::<Vec<_>>(), interval::elementwise);
            return Spans::measure(&self.core, rows, &switches, &Inputs::Declared(&ends));
        }
        Spans::measure(&self.core, rows, &switches, &Inputs::Observed)
    }

    /// The error for labels that the plain model never predicts.
    fn foreign_labels(&self, labels: &[&Label]) -> Result<Error, Error> {
        let outputs = self.network.evaluate(self.rows[0])?;
        let reason = match interpret(&self.network.head, &outputs).label {
            None => "the model predicts numbers, not labels: leave the labels out".into(),
            Some(label) => format!(
                "the plain model predicts none of its labels: they are like `{}`, the model's like `{label}`",
                labels[0]
            ),
        };
        Ok(Error::Calibration { reason })
    }

    /// Quantises and measures the network under a set. `None` if the set cannot hold it at the requested failure
    /// probability.
    fn attempt(
        &self,
        framed: &Framed,
        set: &'static ParameterSet,
        simulations: usize,
    ) -> Result<Option<Tried>, Error> {
        let Framed { core, spans } = framed;
        if self.precision == Precision::Approximate {
            let quantised = quantise(core, spans, set, None)?;
            return quantised.map(|q| self.measure(framed, set, q, None, simulations)).transpose();
        }
        if quantise::are_possible(core) {
            return self.attempt_integers(framed, set, simulations);
        }
        let tables = if only_tables(core) { 1..=1 } else { 2..=8 };
        let mut best = None;
        for bits in tables.rev() {
            for output in (LEAST_OUTPUT_BITS..=16).rev() {
                let Some(quantised) = quantise(core, spans, set, Some((bits, output)))? else {
                    break;
                };
                if quantised.program.failure_log2().is_some_and(|p| p <= self.options.failure_log2)
                {
                    let tried = self.measure(framed, set, quantised, Some(bits), simulations)?;
                    self.keep_better(&mut best, tried);
                    break;
                }
            }
        }
        Ok(best)
    }

    /// Fits a dense network to integers, and measures the fits with the smallest errors on the calibration rows.
    fn attempt_integers(
        &self,
        framed: &Framed,
        set: &'static ParameterSet,
        simulations: usize,
    ) -> Result<Option<Tried>, Error> {
        let Framed { core, spans } = framed;
        let fits = quantise::integers(core, spans, set, self.options.failure_log2)?;
        let mut best = None;
        for fit in fits.into_iter().take(MOST_FITS) {
            let tried = self.measure(framed, set, fit.quantised, Some(fit.bits), simulations)?;
            self.keep_better(&mut best, tried);
        }
        Ok(best)
    }

    fn keep_better(&self, best: &mut Option<Tried>, tried: Tried) {
        // The accuracy of the plain model does not affect the comparison.
        let loss = |tried: &Tried| self.loss(tried, Some(1.0));
        if best.as_ref().is_none_or(|best| loss(&tried) < loss(best)) {
            *best = Some(tried);
        }
    }

    fn measure(
        &self,
        framed: &Framed,
        set: &'static ParameterSet,
        quantised: Quantised,
        accumulator_bits: Option<u32>,
        simulations: usize,
    ) -> Result<Tried, Error> {
        let core = &framed.core;
        let report = self.report(core, &quantised);
        let Quantised { program, input, output, frames, .. } = quantised;
        let client = Client {
            outline: program.outline().clone(),
            features: self.network.inputs,
            domain: self.domain.clone(),
            guarantee: report.guarantee,
            prefix: self.prefix.clone(),
            input,
            output,
            head: self.network.head.clone(),
            resolution: vec![0.0; core.outputs()],
            sensitivity: None,
            report,
        };
        let model = Model::new(program, self.network.clone(), frames, client)?;
        let measured = measure::simulate(&model, &self.rows, self.labels.as_deref(), simulations)?;
        // For tables defined by the model, the bits are the model's.
        let given = core.layers.iter().filter_map(Layer::table_bits).max();
        let accumulator_bits = accumulator_bits.map(|bits| given.unwrap_or(bits));
        Ok(Tried { set, model, measured, accumulator_bits })
    }

    /// The part of the report that does not depend on measurements.
    fn report(&self, core: &Network, quantised: &Quantised) -> Report {
        let program = &quantised.program;
        let set = program.parameter_set();
        let encrypted = &self.network.layers[self.network.elementwise_prefix()..];
        let all = lookups(encrypted, self.precision == Precision::Exact);
        let bounded: Vec<bool> = quantised.frames.bounded_stages().collect();
        let guarantee = match bounded.iter().all(|&bounded| bounded) {
            true => Guarantee::Bounded,
            false => Guarantee::Checked,
        };
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
            bounded: bounded[i],
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
            guarantee,
            domain: self.domain.source,
            deviation: vec![0.0; core.outputs()],
            unbounded: None,
            warnings: Vec::new(),
            grid: self.grid.clone(),
        }
    }
}
