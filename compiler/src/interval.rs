//! Interval arithmetic: bounds on the rows of layers over a whole domain of the inputs.
//!
//! A frame that covers the whole domain is never left. It is wider than one for the calibration rows, often several
//! times, and the effect of noise grows by the same factor.

use crate::calibration::Spans;
use crate::network::{Activation, Layer, Network};

/// Number of samples of an activation that is not monotone.
const SAMPLES: usize = 4096;

/// Bounds the rows of the first `depth` layers, and returns the spans of their values. `rows` are the calibration rows.
pub(crate) fn bound(
    network: &Network,
    spans: &Spans,
    rows: &[&[f64]],
    depth: usize,
) -> (Network, Spans) {
    let (mut network, mut spans) = (network.clone(), spans.clone());
    let mut values: Vec<(f64, f64)> = spans.inputs.iter().map(|s| (s.low, s.high)).collect();
    for (i, layer) in network.layers.iter_mut().enumerate().take(depth) {
        let mut sums: Vec<(f64, f64)> =
            (0..layer.affine.rows()).map(|r| reach(layer, r, &values)).collect();
        if let Some(groups) = &layer.groups {
            share(&mut sums, groups);
        }
        values = sums.iter().enumerate().map(|(r, &sum)| image(layer, r, sum)).collect();
        for (span, &(low, high)) in spans.after[i].iter_mut().zip(&values) {
            (span.low, span.high) = (low, high);
        }
        // Tables over integers have their own frame, and trees provide the bounds of their sums.
        if layer.table_bits().is_none() && layer.bounds.is_none() {
            layer.bounds = Some(sums);
        }
    }
    spans.correlations = spans.correlate(&network, rows);
    (network, spans)
}

/// The intervals after a layer whose values each depend on one input.
pub(crate) fn elementwise(values: Vec<(f64, f64)>, layer: &Layer) -> Vec<(f64, f64)> {
    (0..layer.affine.rows()).map(|r| image(layer, r, reach(layer, r, &values))).collect()
}

fn reach(layer: &Layer, row: usize, values: &[(f64, f64)]) -> (f64, f64) {
    let bias = layer.affine.bias[row];
    layer.affine.matrix.row(row).fold((bias, bias), |(low, high), (c, w)| {
        let ends = [w * values[c].0, w * values[c].1];
        (low + ends[0].min(ends[1]), high + ends[0].max(ends[1]))
    })
}

/// Gives all rows of a group the group's interval.
fn share(intervals: &mut [(f64, f64)], groups: &[u32]) {
    let count = groups.iter().max().map_or(0, |&last| last as usize + 1);
    let mut merged = vec![(f64::INFINITY, f64::NEG_INFINITY); count];
    for (&(low, high), &group) in intervals.iter().zip(groups) {
        let all = &mut merged[group as usize];
        *all = (all.0.min(low), all.1.max(high));
    }
    intervals.iter_mut().zip(groups).for_each(|(one, &group)| *one = merged[group as usize]);
}

/// The image of an interval under the activation of a row.
pub(crate) fn image(layer: &Layer, row: usize, (low, high): (f64, f64)) -> (f64, f64) {
    let ends = [low, high].map(|x| layer.activated(row, x));
    let (least, most) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    let kind = layer.activation.as_ref().map(|activations| activations.at(row));
    match kind {
        None | Some(Activation::Identity | Activation::Step) => (least, most),
        Some(kind) if kind.is_monotone() => (least, most),
        Some(Activation::Table(values)) => values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x))),
        Some(kind) => {
            let step = (high - low) / (SAMPLES - 1) as f64;
            // Between samples the function goes only slightly further: smooth functions are flat at their extremes, and
            // those with corners usually have them at 0.
            let samples = (0..SAMPLES).map(|i| low + step * i as f64);
            let zero = (low < 0.0 && high > 0.0).then_some(0.0);
            samples
                .chain(zero)
                .map(|x| kind.apply(x))
                .fold((least, most), |(l, h), x| (l.min(x), h.max(x)))
        }
    }
}

/// For each input: an upper bound on how far any output moves if the input moves by one, in units of the output's
/// limit. Rounded up to a power of two, to reveal as little as possible about the weights. `None` if a step lies in
/// between.
pub(crate) fn sensitivity(network: &Network, limits: &[f64]) -> Option<Vec<f64>> {
    let mut most = vec![0.0f64; network.inputs];
    for (output, limit) in limits.iter().enumerate() {
        let mut slopes = vec![0.0; network.outputs()];
        slopes[output] = 1.0 / limit.max(f64::MIN_POSITIVE);
        for layer in network.layers.iter().rev() {
            let mut before = vec![0.0; layer.affine.cols()];
            for (r, &slope) in slopes.iter().enumerate().filter(|(_, slope)| **slope > 0.0) {
                let slope = slope * steepest(layer, r)?;
                layer.affine.matrix.row(r).for_each(|(c, w)| before[c] += slope * w.abs());
            }
            slopes = before;
        }
        most.iter_mut().zip(&slopes).for_each(|(most, &slope)| *most = most.max(slope));
    }
    let power = |x: f64| if x > 0.0 { x.log2().ceil().clamp(-1000.0, 1000.0).exp2() } else { 0.0 };
    Some(most.into_iter().map(power).collect())
}

/// The steepest slope of a row's activation, if known.
fn steepest(layer: &Layer, row: usize) -> Option<f64> {
    match layer.activation.as_ref().map(|activations| activations.at(row)) {
        None | Some(Activation::Identity | Activation::Relu | Activation::Tanh) => Some(1.0),
        Some(Activation::Clip { .. }) => Some(1.0),
        Some(Activation::Sigmoid) => Some(0.25),
        Some(Activation::LeakyRelu { alpha }) => Some(alpha.abs().max(1.0)),
        Some(
            Activation::Step | Activation::Equal | Activation::Table(_) | Activation::Formula(_),
        ) => None,
    }
}
