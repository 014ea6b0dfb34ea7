//! Trees compare features with thresholds. The client compares each feature with all points of a uniform grid
//! instead, so that what it sends tells nothing of the thresholds (the model file that clients have does, today), and
//! encrypts the results: a thermometer code, in which each comparison of a tree is one of the values that it gets.

use crate::calibration::Span;
use crate::network::{Activation, Affine, Layer, Matrix, Network, Sparse};

/// A network of which the comparisons are those with a grid, and how many were not on it.
pub(crate) struct Gridded {
    /// The layers that the client computes: up to the comparisons with the grid.
    pub(crate) prefix: Vec<Layer>,
    /// The rest.
    pub(crate) core: Network,
}

/// Whether the client's last layer compares.
pub(crate) fn compares(prefix: &[Layer]) -> bool {
    let step = |layer: &Layer| {
        layer.activation.as_ref().and_then(|a| a.uniform()) == Some(&Activation::Step)
    };
    prefix.last().is_some_and(step)
}

/// Replaces the thresholds of the last layer of `prefix` by the nearest points of a grid of at most 2^`bits` cells
/// over each feature's span; features of few whole numbers get the points halfway between them. `spans` are those of
/// what that layer compares.
pub(crate) fn grid(prefix: &[Layer], core: &Network, spans: &[Span], bits: u32) -> Option<Gridded> {
    let (last, before) = prefix.split_last()?;
    let axes: Vec<Axis> = spans.iter().map(|span| Axis::new(span, bits)).collect();
    // Where the comparisons of each feature begin among all.
    let mut starts = vec![0];
    for axis in &axes {
        starts.push(starts[starts.len() - 1] + axis.points);
    }
    let all = starts[axes.len()];
    let mut affine = Affine {
        matrix: Matrix::Sparse(Sparse::one_per_row(
            axes.len(),
            axes.iter().enumerate().flat_map(|(f, axis)| (0..axis.points).map(move |_| (f, 1.0))),
        )),
        bias: axes.iter().flat_map(|axis| (0..axis.points).map(|i| -axis.point(i))).collect(),
    };
    // A feature that is constant has no grid, and a network needs an input.
    if all == 0 {
        affine = Affine {
            matrix: Matrix::Sparse(Sparse::one_per_row(axes.len(), [(0, 1.0)].into_iter())),
            bias: vec![0.0],
        };
    }
    let places: Vec<Place> = (0..last.affine.rows())
        .map(|r| {
            // w·x + b > 0, with one w that is not zero.
            let Some((feature, weight)) = last.affine.matrix.row(r).find(|&(_, w)| w != 0.0) else {
                return Place::Constant(last.affine.bias[r] > 0.0);
            };
            let place = axes[feature].place(-last.affine.bias[r] / weight, starts[feature]);
            if weight > 0.0 { place } else { place.negated() }
        })
        .collect();
    let first = core.layers.first()?;
    let mut layers = core.layers.clone();
    layers[0].affine = read_through(&first.affine, &places, all.max(1));
    let core =
        Network { inputs: all.max(1), input_shape: vec![all.max(1)], layers, ..core.clone() };
    let comparisons = Layer {
        name: last.name.clone(),
        affine,
        activation: Some(Activation::Step.into()),
        groups: None,
        bounds: None,
    };
    let prefix = before.iter().cloned().chain([comparisons]).collect();
    Some(Gridded { prefix, core })
}

/// The points that a feature is compared with: `low + step`, `low + 2·step`, …
struct Axis {
    /// The least and the greatest that the feature was.
    lowest: f64,
    highest: f64,
    low: f64,
    step: f64,
    points: usize,
}

/// Where a comparison is found.
#[derive(Clone, Copy)]
enum Place {
    Constant(bool),
    At { column: usize, negated: bool },
}

impl Place {
    fn negated(self) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(!value),
            Self::At { column, negated } => Self::At { column, negated: !negated },
        }
    }
}

impl Axis {
    fn new(span: &Span, bits: u32) -> Self {
        let cells = f64::from(1u32 << bits);
        let range = span.range();
        let (lowest, highest) = (span.low, span.high);
        if range <= 0.0 {
            return Self { lowest, highest, low: lowest, step: 0.0, points: 0 };
        }
        if span.whole && range < cells {
            return Self { lowest, highest, low: lowest - 0.5, step: 1.0, points: range as usize };
        }
        Self { lowest, highest, low: lowest, step: range / cells, points: cells as usize - 1 }
    }

    fn point(&self, index: usize) -> f64 {
        self.low + (index + 1) as f64 * self.step
    }

    /// The comparison with the point that is nearest to a threshold; beyond the grid it is known.
    fn place(&self, threshold: f64, start: usize) -> Place {
        if self.points == 0 || threshold < self.lowest {
            return Place::Constant(threshold < self.lowest);
        }
        if threshold >= self.highest {
            return Place::Constant(false);
        }
        // Within what the feature does, also what is nearest to an end tells values apart.
        let nearest = ((threshold - self.low) / self.step).round();
        let nearest = nearest.clamp(1.0, self.points as f64) as usize;
        Place::At { column: start + nearest - 1, negated: false }
    }
}

/// The affine function of comparisons that are found at `places` among `columns`.
fn read_through(affine: &Affine, places: &[Place], columns: usize) -> Affine {
    let mut matrix = Sparse::new(columns);
    let mut bias = affine.bias.clone();
    for (r, bias) in bias.iter_mut().enumerate() {
        let mut row = std::collections::BTreeMap::<usize, f64>::new();
        for (c, weight) in affine.matrix.row(r) {
            match places[c] {
                Place::Constant(value) => *bias += weight * f64::from(u8::from(value)),
                Place::At { column, negated } => {
                    let weight = if negated {
                        *bias += weight;
                        -weight
                    } else {
                        weight
                    };
                    *row.entry(column).or_default() += weight;
                }
            }
        }
        row.into_iter().for_each(|(column, weight)| matrix.push(column, weight));
        matrix.end_row();
    }
    Affine { matrix: Matrix::Sparse(matrix), bias }
}
