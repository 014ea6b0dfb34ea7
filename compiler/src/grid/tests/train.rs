//! Boosted trees for tests, trained on skewed data.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::measure::normal;
use crate::network::{Activation, Affine, Decision, Head, Label, Layer, Network};
use crate::trees::{Comparison, Ensemble, Tree};

/// How features are distributed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Normal,
    Lognormal(f64),
    Pareto,
    Exponential,
    /// Two thirds zeros, and a tail.
    ZeroInflated,
    /// Amounts of about 10⁹.
    Huge,
    /// Close to 10⁹.
    Offset,
    /// Some of the order of 1, some of 10⁶.
    TwoScales,
    Counts,
    /// Tails on both sides.
    Signed,
    /// In single precision, over many orders of magnitude.
    Wide,
}

const FEATURES: usize = 5;

/// Rows of such features and their labels. The rule for the labels is the same for every shape. The last feature is a
/// flag that is seldom set.
pub(super) fn data(shape: Shape, rows: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<bool>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draw = || {
        let z: Vec<f64> = (0..FEATURES).map(|_| normal(&mut rng)).collect();
        let flag = rng.random_bool(0.02);
        let y = z[0]
            + 0.7 * z[1] * z[2].signum()
            + 0.5 * f64::from(u8::from(z[3] > 1.0))
            + 2.0 * f64::from(u8::from(flag))
            + 0.3 * z[4];
        let mut row: Vec<f64> = z.iter().map(|&z| shaped(shape, z)).collect();
        row[FEATURES - 1] = f64::from(u8::from(flag));
        (row, y > 0.2)
    };
    (0..rows).map(|_| draw()).unzip()
}

fn shaped(shape: Shape, z: f64) -> f64 {
    // A logistic approximation of the normal distribution.
    let upper = 1.0 / (1.0 + (1.7 * z).exp());
    match shape {
        Shape::Normal => z,
        Shape::Lognormal(sigma) => (sigma * z).exp(),
        Shape::Pareto => upper.powf(-1.5),
        Shape::Exponential => -upper.ln(),
        Shape::ZeroInflated => {
            if z > 0.4 {
                (4.0 * (z - 0.4)).exp()
            } else {
                0.0
            }
        }
        Shape::Huge => 1e9 * (2.0 * z).exp(),
        Shape::Offset => 1e9 + z,
        Shape::TwoScales => {
            if z > 0.0 {
                1e6 * z.exp()
            } else {
                z.exp()
            }
        }
        Shape::Counts => (1.5 * z + 1.0).exp().floor(),
        Shape::Signed => z.signum() * (3.0 * z.abs()).exp(),
        Shape::Wide => f64::from((8.0 * z).exp() as f32),
    }
}

/// Trees of depth 3 that each fit the residuals of those before (Friedman, "Greedy function approximation", 2001).
pub(super) fn boosted(rows: &[Vec<f64>], labels: &[bool], seed: u64) -> Ensemble {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut rest: Vec<f64> = labels.iter().map(|&y| if y { 1.0 } else { -1.0 }).collect();
    let mut trees = Vec::new();
    for _ in 0..40 {
        let all: Vec<usize> = (0..rows.len()).collect();
        let tree = grow(rows, &rest, &all, 3, &mut rng);
        rest.iter_mut().zip(rows).for_each(|(rest, row)| *rest -= value(&tree, row));
        trees.push(tree);
    }
    Ensemble { features: rows[0].len(), trees, base: vec![0.0] }
}

fn value(tree: &Tree, row: &[f64]) -> f64 {
    match tree {
        Tree::Leaf(values) => values[0].1,
        Tree::Split(c, children) => {
            value(&children[usize::from(row[c.feature] > c.threshold)], row)
        }
    }
}

fn grow(rows: &[Vec<f64>], rest: &[f64], of: &[usize], depth: usize, rng: &mut StdRng) -> Tree {
    let sum = |of: &[usize]| of.iter().map(|&i| rest[i]).sum::<f64>();
    let leaf = || Tree::Leaf(vec![(0, 0.3 * sum(of) / of.len().max(1) as f64)]);
    if depth == 0 || of.len() < 20 {
        return leaf();
    }
    let mut best: Option<(f64, Comparison)> = None;
    for draw in 0..16 * rows[0].len() {
        let feature = draw / 16;
        let drawn = [0; 2].map(|_| rows[of[rng.random_range(0..of.len())]][feature]);
        let low = drawn[0].min(drawn[1]);
        // Halfway between two neighbouring values, as trees are trained.
        let next = of.iter().map(|&i| rows[i][feature]).filter(|&x| x > low);
        let next = next.fold(f64::INFINITY, f64::min);
        if !next.is_finite() {
            continue;
        }
        let threshold = low / 2.0 + next / 2.0;
        let (above, below): (Vec<usize>, Vec<usize>) =
            of.iter().partition(|&&i| rows[i][feature] > threshold);
        let gain = |of: &[usize]| sum(of).powi(2) / of.len().max(1) as f64;
        let gain = gain(&above) + gain(&below);
        if best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, Comparison { feature, threshold }));
        }
    }
    let Some((_, comparison)) = best else { return leaf() };
    let (above, below): (Vec<usize>, Vec<usize>) =
        of.iter().partition(|&&i| rows[i][comparison.feature] > comparison.threshold);
    let mut grow = |of: &[usize]| grow(rows, rest, of, depth - 1, rng);
    Tree::Split(comparison, Box::new([grow(&below), grow(&above)]))
}

/// The ensemble as a network whose label is whether the sum is above zero.
pub(super) fn network(ensemble: &Ensemble) -> Network {
    let lowered = ensemble.lower();
    let layer = |affine: Affine, activation| Layer {
        name: String::new(),
        affine,
        activation,
        groups: None,
        bounds: None,
    };
    let layers = vec![
        layer(lowered.comparisons, Some(Activation::Step.into())),
        layer(lowered.codes, Some(lowered.tables)),
        Layer { bounds: Some(lowered.bounds), ..layer(lowered.sums, None) },
    ];
    let decision = Decision::Threshold { above: 0.0, labels: [Label::Int(0), Label::Int(1)] };
    let features = ensemble.features;
    Network {
        name: "trees".into(),
        inputs: features,
        input_shape: vec![features],
        layers,
        head: Head { transforms: vec![], decision },
        indices: vec![],
    }
}
