//! Post-training quantisation: from a network in floating point to integers and lookup tables.

use anyhow::{Result, ensure};
use hermesh_compiler::network::{Activation, Layer, Network};
use serde::{Deserialize, Serialize};

use super::parameters::POLYNOMIAL_SIZE;
use super::torus;

const WEIGHT_BITS: i32 = 6;
const INPUT_BITS: i32 = 8;
const ACTIVATION_BITS: i32 = 6;
/// Factor by which sums may exceed those seen in calibration.
const HEADROOM: f64 = 1.25;
/// Values lie around ¼, so that the padding bit stays clear, and reach this far. The remaining sixteenth absorbs the
/// noise, whose standard deviation is estimated as at most a hundredth of ¼.
const REACH: f64 = 0.25 * 15.0 / 16.0;

/// The model for the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(super) inputs: usize,
    pub(super) layers: Vec<Step>,
}

/// A layer in integers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    /// For each output the columns and values of the nonzero weights.
    pub(super) rows: Vec<Vec<(u32, i32)>>,
    pub(super) bias: Vec<u64>,
    /// Lookup tables applied to each value in turn, one bootstrap each.
    pub(super) tables: Vec<Vec<u64>>,
}

impl Plan {
    pub(crate) fn bootstraps(&self) -> usize {
        self.layers.iter().map(|layer| layer.rows.len() * layer.tables.len()).sum()
    }

    pub(super) fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.rows.len())
    }
}

/// A plan, and the data for the client.
#[derive(Debug)]
pub(crate) struct Quantised {
    pub(crate) plan: Plan,
    /// Leading layers that act on each feature separately: the client applies them before encryption, as hermesh's
    /// does.
    prefix: Vec<Layer>,
    input: Levels,
    /// Size of one unit of the network's outputs, in fractions of the torus.
    output_scale: f64,
}

impl Quantised {
    /// Encodes a row as plaintexts.
    pub(super) fn encode(&self, row: &[f64]) -> Vec<u64> {
        let row = apply(&self.prefix, row);
        row.iter().map(|&x| torus(self.input.level(x) * self.input.torus)).collect()
    }

    /// Decodes decrypted plaintexts to the network's outputs.
    pub(super) fn decode(&self, plaintexts: &[u64]) -> Vec<f64> {
        let fraction = |&p: &u64| p as i64 as f64 / 2f64.powi(64);
        plaintexts.iter().map(|p| fraction(p) / self.output_scale).collect()
    }
}

/// Evenly spaced levels of a real value.
#[derive(Clone, Copy, Debug)]
struct Levels {
    low: f64,
    step: f64,
    last: f64,
    /// Size of one level, in fractions of the torus.
    torus: f64,
}

impl Levels {
    fn new(span: Span, bits: i32) -> Self {
        let last = 2f64.powi(bits) - 1.0;
        Self { low: span.low, step: span.width() / last, last, torus: 0.0 }
    }

    fn level(&self, x: f64) -> f64 {
        ((x - self.low) / self.step).round().clamp(0.0, self.last)
    }
}

/// The range of some values in calibration.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    const EMPTY: Self = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };

    fn add(&mut self, values: &[f64]) {
        self.low = values.iter().copied().fold(self.low, f64::min);
        self.high = values.iter().copied().fold(self.high, f64::max);
    }

    /// Positive even if the values are all the same.
    fn width(self) -> f64 {
        (self.high - self.low).max(1e-9)
    }

    fn largest(self) -> f64 {
        self.low.abs().max(self.high.abs()).max(1e-9)
    }
}

/// Quantises a network, with ranges from the rows of `calibration`.
pub(crate) fn quantise(
    network: &Network,
    calibration: &[&[f64]],
    fused: bool,
) -> Result<Quantised> {
    ensure!(!calibration.is_empty(), "expected rows to calibrate on, found none");
    let uniform =
        |layer: &Layer| layer.activation.as_ref().is_none_or(|all| all.uniform().is_some());
    ensure!(
        network.layers.iter().all(uniform),
        "the conventional pipeline has one activation for each layer; take a model without trees and max pooling"
    );
    let (prefix, layers) = network.layers.split_at(network.elementwise_prefix());
    let last = layers.len() - 1;
    // The inputs of each layer and the outputs of the last; and the sums of each layer.
    let mut values = vec![Span::EMPTY; layers.len() + 1];
    let mut sums = vec![Span::EMPTY; layers.len()];
    for row in calibration {
        let mut row = apply(prefix, row);
        values[0].add(&row);
        for (i, layer) in layers.iter().enumerate() {
            row = layer.affine.apply(&row);
            sums[i].add(&row);
            activate(layer, &mut row);
            values[i + 1].add(&row);
        }
    }
    let weight_steps: Vec<f64> = layers
        .iter()
        .map(|layer| {
            let largest =
                layer.affine.matrix.values().iter().fold(1e-9, |m: f64, w| m.max(w.abs()));
            largest / (2f64.powi(WEIGHT_BITS - 1) - 1.0)
        })
        .collect();
    // Size of one unit of a layer's sums, in fractions of the torus.
    let scales: Vec<f64> = sums.iter().map(|sums| REACH / (HEADROOM * sums.largest())).collect();
    let levels: Vec<Levels> = (0..layers.len())
        .map(|i| {
            let levels = Levels::new(values[i], if i == 0 { INPUT_BITS } else { ACTIVATION_BITS });
            Levels { torus: scales[i] * weight_steps[i] * levels.step, ..levels }
        })
        .collect();
    // The last layer's activation, if it has one, is not requantised.
    let output_scale = match &layers[last].activation {
        None => scales[last],
        Some(_) => REACH / values[last + 1].largest(),
    };
    let steps = layers.iter().enumerate().map(|(i, layer)| {
        let activation = layer.activation.as_ref().and_then(|all| all.uniform());
        let tables = match (activation, levels.get(i + 1)) {
            (None, _) => Vec::new(),
            (Some(f), Some(next)) => tables(f, scales[i], values[i + 1], next, fused),
            (Some(f), None) => vec![table(|t| output_scale * f.apply((t - 0.25) / scales[i]))],
        };
        step(layer, weight_steps[i], scales[i], &levels[i], tables)
    });
    let plan = Plan { inputs: layers[0].affine.cols(), layers: steps.collect() };
    Ok(Quantised { plan, prefix: prefix.to_vec(), input: levels[0], output_scale })
}

fn step(
    layer: &Layer,
    weight_step: f64,
    scale: f64,
    levels: &Levels,
    tables: Vec<Vec<u64>>,
) -> Step {
    let matrix = &layer.affine.matrix;
    let rows: Vec<Vec<(u32, i32)>> = (0..matrix.rows())
        .map(|r| {
            let quantised = |(c, w): (usize, f64)| (c as u32, (w / weight_step).round() as i32);
            matrix.row(r).map(quantised).filter(|&(_, w)| w != 0).collect()
        })
        .collect();
    // Inputs of lookup tables lie around ¼.
    let centre = if tables.is_empty() { 0.0 } else { 0.25 };
    let bias = rows.iter().zip(&layer.affine.bias).map(|(row, bias)| {
        // Level 0 stands for `low`.
        let weights: i64 = row.iter().map(|&(_, w)| i64::from(w)).sum();
        torus(centre + scale * (bias + weight_step * weights as f64 * levels.low))
    });
    let bias = bias.collect();
    Step { rows, bias, tables }
}

/// The lookup tables from a sum to the levels of the next layer's inputs: two, or one if fused.
fn tables(
    activation: &Activation,
    scale: f64,
    span: Span,
    next: &Levels,
    fused: bool,
) -> Vec<Vec<u64>> {
    let activated = |t: f64| activation.apply((t - 0.25) / scale).clamp(span.low, span.high);
    if fused {
        return vec![table(|t| next.level(activated(t)) * next.torus)];
    }
    let middle = (span.low + span.high) / 2.0;
    let between = 2.0 * REACH / span.width();
    vec![
        table(|t| 0.25 + between * (activated(t) - middle)),
        table(|t| next.level(middle + (t - 0.25) / between) * next.torus),
    ]
}

/// Tabulates a function of [0, ½).
fn table(f: impl Fn(f64) -> f64) -> Vec<u64> {
    let size = POLYNOMIAL_SIZE.0;
    (0..size).map(|i| torus(f(i as f64 / (2 * size) as f64))).collect()
}

fn apply(layers: &[Layer], row: &[f64]) -> Vec<f64> {
    layers.iter().fold(row.to_vec(), |values, layer| {
        let mut values = layer.affine.apply(&values);
        activate(layer, &mut values);
        values
    })
}

fn activate(layer: &Layer, values: &mut [f64]) {
    for (row, value) in values.iter_mut().enumerate() {
        *value = layer.activated(row, *value);
    }
}
