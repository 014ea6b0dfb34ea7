//! Quantises dense networks to small integers, for `exact`.
//!
//! Layers are fitted in order ([`super::fit`]), on the integers that the layers before give for the calibration rows,
//! so each fit accounts for earlier errors. The number of steps of a layer's inputs and the bits of its sums are chosen
//! by the resulting error, among those that noise permits; for the network's inputs, by the error of the outputs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::fit::{Accumulator, Prepared, Row};
use super::scaled::Scaled;
use super::{Quantised, TURN, bits};
use crate::Error;
use crate::calibration::Spans;
use crate::frame::{Frames, Known};
use crate::network::{Layer, Matrix, Network};
use crate::scale::{Decoding, Encoding};
use hermesh_engine::parameters::PACKING_SIZE;
use hermesh_engine::{self as engine, Linear, ParameterSet, Precision, Program, Stage, noise};

/// Numbers of steps to try for the inputs of layers, from the smallest to the largest value.
const STEPS: [u32; 12] = [1, 2, 3, 4, 5, 7, 10, 15, 22, 31, 63, 127];
/// Bits of sums before tables, and of outputs.
const TABLE_BITS: std::ops::RangeInclusive<u32> = 3..=8;
const OUTPUT_BITS: std::ops::RangeInclusive<u32> = 5..=16;
/// No more steps are tried once the error is this many times the least.
const HOPELESS: f64 = 1.5;
/// For networks with several hidden layers: the number of best fits to refine, and the numbers of steps of the first
/// hidden layer's values to refit each with. Otherwise only the error of the next layer determines those steps.
const REFINED: (usize, usize) = (3, 7);
/// Fits with more than this many times the least error are dropped: measured on few rows, a worse fit may seem better.
const NEARLY_BEST: f64 = 1.1;
/// Maximum number of inputs of a layer, because their covariance is computed.
const MOST_INPUTS: usize = 2048;

/// A network in integers.
pub(crate) struct Integers {
    pub(crate) quantised: Quantised,
    /// Maximum bits of sums before tables; without tables, bits of the outputs.
    pub(crate) bits: u32,
    /// Mean square error of the outputs on the calibration rows.
    pub(crate) error: f64,
}

#[allow(clippy::type_complexity, reason = "two maps, each used in one place")]
/// Cached fits of the first layer, by steps of its inputs and bits of its sums. They do not depend on the parameter
/// set.
#[derive(Default)]
pub(crate) struct FirstLayer {
    prepared: Mutex<HashMap<u32, Arc<Prepared>>>,
    fitted: Mutex<HashMap<(u32, Accumulator), Arc<Vec<Row>>>>,
}

/// Whether a network can be fitted: dense, not too wide, and without tables of its own.
pub(crate) fn are_possible(network: &Network) -> bool {
    network.layers.iter().all(|layer| {
        matches!(layer.affine.matrix, Matrix::Dense { .. })
            && layer.affine.cols() <= MOST_INPUTS
            && layer.table_bits().is_none()
            && layer.groups.is_none()
    })
}

/// Fits the network for a set, with the numbers of input steps that give the least error or hardly more; best first.
/// Empty if noise permits none.
pub(crate) fn integers(
    network: &Network,
    spans: &Spans,
    set: &'static ParameterSet,
    failure_log2: f64,
) -> Result<Vec<Integers>, Error> {
    let fitting = Fitting::new(network, spans, set, failure_log2)?;
    let mut found: Vec<(u32, Integers)> = Vec::new();
    for steps in STEPS {
        let Some(integers) = fitting.with_steps(&[steps])? else {
            continue;
        };
        let least = found.iter().map(|(_, other)| other.error).fold(f64::INFINITY, f64::min);
        let hopeless = integers.error > HOPELESS * least;
        found.push((steps, integers));
        if hopeless {
            break;
        }
    }
    let by_error = |a: &(u32, Integers), b: &(u32, Integers)| a.1.error.total_cmp(&b.1.error);
    found.sort_by(by_error);
    if network.layers.len() > 2 {
        let (fits, steps) = REFINED;
        for (inputs, best) in found.iter_mut().take(fits) {
            for &hidden in &STEPS[..steps] {
                if let Some(integers) = fitting.with_steps(&[*inputs, hidden])?
                    && integers.error < best.error
                {
                    *best = integers;
                }
            }
        }
        found.sort_by(by_error);
    }
    let least = found.first().map_or(0.0, |(_, best)| best.error);
    let fits = found.into_iter().map(|(_, integers)| integers);
    Ok(fits.take_while(|fit| fit.error <= NEARLY_BEST * least).collect())
}

struct Fitting<'a> {
    network: &'a Network,
    spans: &'a Spans,
    set: &'static ParameterSet,
    failure_log2: f64,
    /// For each layer and calibration row: the values that the activation is applied to, in floating point.
    targets: Vec<Vec<Vec<f64>>>,
}

/// The chosen fit of a layer.
struct Chosen {
    encoding: Encoding,
    accumulator: Accumulator,
    rows: Arc<Vec<Row>>,
    error: f64,
}

impl<'a> Fitting<'a> {
    fn new(
        network: &'a Network,
        spans: &'a Spans,
        set: &'static ParameterSet,
        failure_log2: f64,
    ) -> Result<Self, Error> {
        let mut targets = vec![Vec::new(); network.layers.len()];
        for row in &spans.rows {
            let trace = network.trace(row)?;
            targets.iter_mut().zip(trace).for_each(|(targets, values)| targets.push(values));
        }
        Ok(Self { network, spans, set, failure_log2, targets })
    }

    /// Fits the network with given steps of the first layers' inputs; those of the others are chosen. `None` if some
    /// layer has too much noise for every choice.
    fn with_steps(&self, given: &[u32]) -> Result<Option<Integers>, Error> {
        let last = self.network.layers.len() - 1;
        let (low, high): (Vec<f64>, Vec<f64>) =
            self.spans.inputs.iter().map(|span| (span.low, span.high)).unzip();
        let mut values = self.spans.rows.clone();
        let mut ranges = (low, high);
        let mut stages: Vec<Stage> = Vec::new();
        let (mut weight_bits, mut most_bits, mut error) = (Vec::new(), 0, f64::INFINITY);
        let (mut input, mut output, mut turns) = (None, None, Vec::new());
        // The layer before, whose tables are not known yet.
        let mut incoming: Option<(Linear, Scaled)> = None;
        for (i, layer) in self.network.layers.iter().enumerate() {
            let steps = given.get(i).map_or(&STEPS[..], std::slice::from_ref);
            let mut best: Option<Chosen> = None;
            for &steps in steps {
                let Some(chosen) = self.choose_bits(i, &ranges, &values, steps) else {
                    continue;
                };
                let least = best.as_ref().map_or(f64::INFINITY, |best| best.error);
                if chosen.error < least {
                    best = Some(chosen);
                } else if chosen.error > HOPELESS * least {
                    break;
                }
            }
            let Some(chosen) = best else {
                return Ok(None);
            };
            let Chosen { encoding, accumulator, rows, .. } = &chosen;
            if let Some((linear, scaled)) = incoming.take() {
                let before = &self.network.layers[i - 1];
                let Some(lookup) = scaled.tables(before, encoding, self.set) else {
                    return Ok(None);
                };
                stages.push(Stage { linear, lookup: Some(lookup) });
            } else {
                input = Some(encoding.clone());
            }
            if i < last || last == 0 {
                most_bits = most_bits.max(accumulator.bits);
            }
            let integers = steps_of(encoding, &values, i == 0);
            values = apply(layer, rows, &integers);
            let range = |r: usize| {
                let column = values.iter().map(|row| row[r]);
                let (low, high) = column
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                        (low.min(x), high.max(x))
                    });
                (low, high)
            };
            ranges = (0..rows.len()).map(range).unzip();
            let (linear, scaled) = scaled(rows, encoding.unit, *accumulator);
            turns.push(scaled.turns.clone());
            weight_bits.push(bits(&linear));
            error = chosen.error;
            if i == last {
                let Scaled { centre, scale, .. } = scaled;
                output = Some(Decoding { centre, scale, bits: Some(accumulator.bits) });
                stages.push(Stage { linear, lookup: None });
            } else {
                incoming = Some((linear, scaled));
            }
        }
        let (Some(input), Some(output)) = (input, output) else {
            return Err(Error::Network { reason: "no layer".into() });
        };
        let precision = Precision::Exact { output_bits: output.bits.unwrap_or_default() };
        let program = Program::new(self.set, precision, stages)?;
        if program.failure_log2().is_none_or(|p| p > self.failure_log2) {
            return Ok(None);
        }
        let frames =
            Frames::new(&program, Known { input: &input, waves: &[], turns, bounded_sums: false });
        let quantised = Quantised { program, input, output, weight_bits, frames };
        Ok(Some(Integers { quantised, bits: most_bits, error }))
    }

    /// Fits layer `i` with inputs of `steps` steps, and sums of as many bits as noise permits.
    fn choose_bits(
        &self,
        i: usize,
        (low, high): &(Vec<f64>, Vec<f64>),
        values: &[Vec<f64>],
        steps: u32,
    ) -> Option<Chosen> {
        let layer = &self.network.layers[i];
        let output = i + 1 == self.network.layers.len();
        let mut encoding =
            Encoding { low: low.clone(), high: high.clone(), steps, rounded: true, unit: 0 };
        let mut prepared: Option<(Vec<Vec<f64>>, Arc<Prepared>)> = None;
        let bits = if output { OUTPUT_BITS } else { TABLE_BITS };
        for bits in bits.rev() {
            let accumulator = Accumulator { bits, output };
            let entries = self.set.bootstrap.map_or(0, |b| b.polynomial_size);
            if !output && 1 << bits > entries {
                continue;
            }
            let Some(room) = self.room(i, accumulator) else {
                continue;
            };
            encoding.unit = 1 << if output { 64 - bits } else { 63 - bits };
            // Table entries are read as less than half a turn, so that a trace of a row can follow them.
            if i > 0 && u128::from(steps) * u128::from(encoding.unit) >= 1 << 63 {
                continue;
            }
            let (integers, layer_prepared) = prepared.get_or_insert_with(|| {
                let integers = steps_of(&encoding, values, i == 0);
                let prepared = self.prepare(i, &encoding, &integers);
                (integers, prepared)
            });
            let rows = self.fit(i, steps, layer_prepared, integers, accumulator);
            if rows.iter().any(|row| row.squared_norm() > room) {
                continue;
            }
            let error = self.error(i, layer, &rows, integers);
            return Some(Chosen { encoding, accumulator, rows, error });
        }
        None
    }

    fn prepare(&self, i: usize, encoding: &Encoding, integers: &[Vec<f64>]) -> Arc<Prepared> {
        let new = || {
            let columns = 0..encoding.low.len();
            let step = |c: usize| encoding.range(c) / f64::from(encoding.steps);
            let steps: Vec<f64> = columns.map(step).collect();
            let layer = &self.network.layers[i];
            Arc::new(Prepared::new(layer, &steps, integers, &self.targets[i]))
        };
        if i > 0 {
            return new();
        }
        let mut known = self.spans.first.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(encoding.steps).or_insert_with(new))
    }

    fn fit(
        &self,
        i: usize,
        steps: u32,
        prepared: &Prepared,
        integers: &[Vec<f64>],
        accumulator: Accumulator,
    ) -> Arc<Vec<Row>> {
        let new =
            || Arc::new(prepared.fit(integers, &self.targets[i], f64::from(steps), accumulator));
        if i > 0 {
            return new();
        }
        let mut known = self.spans.first.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((steps, accumulator)).or_insert_with(new))
    }

    /// The largest squared 2-norm of a row of layer `i` for which noise changes a sum no more often than the row's
    /// share of the failure probability. `None` if there is none.
    fn room(&self, i: usize, Accumulator { bits, output }: Accumulator) -> Option<f64> {
        let set = self.set;
        let layers = &self.network.layers;
        let shares = (layers.len() * layers[i].affine.rows()) as f64;
        let wanted = self.failure_log2 - shares.log2();
        // The tail falls monotonically: bisection.
        let (mut low, mut high) = (0.0, 100.0);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if noise::two_sided_tail_log2(middle) > wanted { low = middle } else { high = middle }
        }
        let half_step = f64::from(if output { bits + 1 } else { bits + 2 }).exp2().recip();
        let added = match (output, i) {
            (true, _) => noise::packing(set, PACKING_SIZE),
            (false, 0) => noise::modulus_switch(set),
            (false, _) => noise::keyswitch(set) + noise::modulus_switch(set),
        };
        let each = if i == 0 { noise::fresh(set) } else { noise::bootstrap(set) };
        let left = (half_step / high).powi(2) - added;
        (left > 0.0).then(|| left / each)
    }

    /// Mean square error after layer `i` on the calibration rows: of the outputs, or of the contributions of the
    /// activated values to the next layer, as if their errors were independent.
    fn error(&self, i: usize, layer: &Layer, rows: &[Row], integers: &[Vec<f64>]) -> f64 {
        let importance = match self.network.layers.get(i + 1) {
            None => vec![1.0; rows.len()],
            Some(next) => {
                let mut importance = vec![0.0; rows.len()];
                let matrix = &next.affine.matrix;
                let weights = (0..matrix.rows()).flat_map(|r| matrix.row(r));
                weights.for_each(|(c, w)| importance[c] += w * w);
                importance
            }
        };
        let squared = |(input, targets): (&Vec<f64>, &Vec<f64>)| -> f64 {
            let each = rows.iter().zip(targets).zip(&importance).enumerate();
            each.map(|(r, ((row, &target), importance))| {
                let (found, wanted) = (row.value(input), target);
                importance * (activated(layer, r, found) - activated(layer, r, wanted)).powi(2)
            })
            .sum()
        };
        let sum: f64 = integers.iter().zip(&self.targets[i]).map(squared).sum();
        sum / integers.len() as f64
    }
}

fn activated(layer: &Layer, row: usize, value: f64) -> f64 {
    if layer.activation.is_some() { layer.activated(row, value) } else { value }
}

/// Applies the layer's rows and activations to rows of integers.
fn apply(layer: &Layer, rows: &[Row], integers: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let of = |input: &Vec<f64>| {
        let values = rows.iter().enumerate();
        values.map(|(r, row)| activated(layer, r, row.value(input))).collect()
    };
    integers.iter().map(of).collect()
}

/// Converts values to steps of an encoding. `clamped` moves values to the edge of their range, as the client does.
fn steps_of(encoding: &Encoding, values: &[Vec<f64>], clamped: bool) -> Vec<Vec<f64>> {
    let step = |(c, &x): (usize, &f64)| {
        let range = encoding.range(c);
        if range <= 0.0 {
            return 0.0;
        }
        let x = if clamped { x.clamp(encoding.low[c], encoding.high[c]) } else { x };
        ((x - encoding.low[c]) / range * f64::from(encoding.steps)).round()
    };
    values.iter().map(|row| row.iter().enumerate().map(step).collect()).collect()
}

/// Converts the rows to an operator of the engine; one cell is `unit` on the torus.
fn scaled(rows: &[Row], unit: u64, accumulator: Accumulator) -> (Linear, Scaled) {
    let Accumulator { bits, output } = accumulator;
    let cells = f64::from(bits).exp2();
    // Half a cell more before a table turns rounding down into rounding to nearest.
    let half = if output { 0 } else { unit / 2 };
    let bias = |row: &Row| (row.bias as u64).wrapping_mul(unit).wrapping_add(half);
    let turns = |row: &Row| {
        let unwrapped = i128::from(row.bias) * i128::from(unit) + i128::from(half);
        ((unwrapped - i128::from(bias(row) as i64)) >> 64) as i32
    };
    let turn = |row: &Row| row.cell * TURN / unit as f64;
    let centre = |row: &Row| if output { row.zero } else { row.zero + row.cell * cells / 2.0 };
    let matrix = engine::Matrix::Dense {
        rows: rows.len() as u32,
        columns: rows.first().map_or(0, |row| row.weights.len()) as u32,
        weights: rows.iter().flat_map(|row| row.weights.iter().copied()).collect(),
    };
    let scaled = Scaled {
        centre: rows.iter().map(centre).collect(),
        scale: rows.iter().map(turn).collect(),
        accumulator: super::Accumulator::Bits(bits),
        passes: vec![false; rows.len()],
        waves: vec![None; rows.len()],
        turns: rows.iter().map(turns).collect(),
    };
    (Linear { matrix, bias: rows.iter().map(bias).collect() }, scaled)
}
