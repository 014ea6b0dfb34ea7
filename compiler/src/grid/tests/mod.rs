#![allow(clippy::unwrap_used)]

mod train;

use proptest::prelude::*;

use super::choose::Choice;
use super::place::{Axis, Comparison};
use super::profile::{Counts, Profile};
use crate::compile::Grid;
use crate::measure;
use crate::network::{Affine, Matrix, Network, Sparse};
use crate::prune::prune;
use crate::split::{Split, split};
use crate::trees::{self, Ensemble, Tree};
use train::{Shape, boosted, data, network};

fn refs(rows: &[Vec<f64>]) -> Vec<&[f64]> {
    rows.iter().map(Vec::as_slice).collect()
}

/// With many rows, half are left out of calibration, as in [`crate::compile()`].
fn cut(network: &Network, rows: &[Vec<f64>], kind: Grid) -> Split {
    let rows = refs(rows);
    let every_other = |odd: usize| rows.iter().skip(odd).step_by(2).copied().collect();
    let (calibration, measured) =
        if rows.len() < 200 { (rows.clone(), rows) } else { (every_other(0), every_other(1)) };
    split(network, &prune(network), &calibration, &measured, kind).unwrap()
}

/// Fraction of rows that are answered as by the network.
fn same(network: &Network, split: &Split, rows: &[Vec<f64>]) -> f64 {
    measure::same(network, &split.prefix, &split.core, &refs(rows)).unwrap()
}

/// One tree with one comparison for each threshold of a single feature: the labels change at each.
fn stump(feature: usize, features: usize, threshold: f64) -> Network {
    let leaf = |value| Tree::Leaf(vec![(0, value)]);
    let comparison = trees::Comparison { feature, threshold };
    let tree = Tree::Split(comparison, Box::new([leaf(-1.0), leaf(1.0)]));
    network(&Ensemble { features, trees: vec![tree], base: vec![0.0] })
}

#[test]
fn skewed_features_lose_less_than_a_point() {
    let shapes = [
        Shape::Normal,
        Shape::Lognormal(2.0),
        Shape::Lognormal(4.0),
        Shape::Pareto,
        Shape::Exponential,
        Shape::ZeroInflated,
        Shape::Huge,
        Shape::Offset,
        Shape::TwoScales,
        Shape::Counts,
        Shape::Signed,
        Shape::Wide,
    ];
    for shape in shapes {
        for (seed, calibrated) in [(1, 1000), (2, 100)] {
            let (rows, labels) = data(shape, 1000, seed);
            let network = network(&boosted(&rows, &labels, seed));
            let (calibration, _) = data(shape, calibrated, seed + 100);
            let split = cut(&network, &calibration, Grid::Quantiles);
            let (test, _) = data(shape, 3000, seed + 200);
            let same = same(&network, &split, &test);
            let grid = split.grid.unwrap();
            println!(
                "{shape:?}, {calibrated} rows: {:.2} points lost, {:.2} said; {} comparisons, {} cells, {} of {} moved, {} folded",
                100.0 * (1.0 - same),
                100.0 * (1.0 - grid.agreement),
                grid.comparisons,
                grid.most_cells,
                grid.moved,
                grid.thresholds,
                grid.folded
            );
            assert!(same >= 0.99, "{shape:?}, {calibrated} rows: {same}");
        }
    }
}

/// The rows do not show the feature that decides; a grid beyond them separates its values anyway.
#[test]
fn a_feature_that_is_constant_in_calibration_counts_later() {
    let cases: [(f64, f64, &[f64]); 12] = [
        // Constant, threshold, and values that are queried later.
        (0.0, 0.5, &[0.0, 1.0]),
        (0.0, 12.5, &[0.0, 1.0, 7.0, 12.0, 13.0, 40.0]),
        (0.0, 900.0, &[0.0, 5.0, 850.0, 950.0, 1e6]),
        (0.0, 0.03, &[0.0, 0.01, 0.028, 0.032, 0.5]),
        (0.0, -3.5, &[0.0, -1.0, -3.0, -4.0, -100.0]),
        (0.0, 2.5e5, &[0.0, 2e5, 3e5]),
        (1.0, 0.5, &[0.0, 1.0]),
        (1.0, 2.5, &[1.0, 2.0, 3.0]),
        (4.7, 4.9, &[4.7, 4.8, 5.0, 6.0]),
        (4.7, -2.0, &[4.7, 0.0, -1.5, -2.5]),
        (1e9, 1.2e9, &[1e9, 1.18e9, 1.22e9, 3e9]),
        (-1.0, 0.0, &[-1.0, 1.0]),
    ];
    for (constant, threshold, values) in cases {
        let network = stump(1, 3, threshold);
        let row = |x: f64, i: usize| vec![i as f64 / 7.0, x, -(i as f64)];
        let calibration: Vec<Vec<f64>> = (0..300).map(|i| row(constant, i)).collect();
        let split = cut(&network, &calibration, Grid::Quantiles);
        let later: Vec<Vec<f64>> = values.iter().map(|&x| row(x, 3)).collect();
        let same = same(&network, &split, &later);
        assert_eq!(same, 1.0, "{constant}, x > {threshold}: {:?}", split.grid);
    }
}

/// Rare values, values beyond all calibrated ones, and thresholds there.
#[test]
fn values_beyond_the_span_are_told_apart() {
    let tail = |i: usize| (i as f64 / 40.0).exp();
    let rare = |i: usize| if i == 200 { 120.0 } else { 0.0 };
    /// The value of a feature in each calibration row, a threshold, and values that are queried later.
    type Case<'a> = (&'a dyn Fn(usize) -> f64, f64, &'a [f64]);
    let columns: [Case<'_>; 7] = [
        (&tail, 3e3, &[1500.0, 1800.0, 2800.0, 3300.0, 1e5]),
        (&tail, 5e4, &[1800.0, 4e4, 6e4, 1e9]),
        (&tail, -20.0, &[1.0, -15.0, -30.0]),
        (&tail, 0.1, &[1.0, 0.07, 0.13, 0.0]),
        (&rare, 7.5, &[0.0, 6.0, 9.0, 120.0]),
        (&rare, 200.0, &[0.0, 120.0, 180.0, 220.0]),
        (&|i| i as f64, -60.5, &[0.0, -30.0, -90.0]),
    ];
    for (column, threshold, values) in columns {
        let network = stump(0, 2, threshold);
        let row = |x: f64, i: usize| vec![x, i as f64];
        let calibration: Vec<Vec<f64>> = (0..300).map(|i| row(column(i), i)).collect();
        let split = cut(&network, &calibration, Grid::Quantiles);
        let later: Vec<Vec<f64>> = values.iter().map(|&x| row(x, 3)).collect();
        let same = same(&network, &split, &later);
        assert_eq!(same, 1.0, "x > {threshold}: {:?}", split.grid);
    }
}

#[test]
fn the_models_own_thresholds_are_exact_and_said_to_be_revealed() {
    let (rows, labels) = data(Shape::Lognormal(3.0), 500, 5);
    let ensemble = boosted(&rows, &labels, 5);
    let network = network(&ensemble);
    let split = cut(&network, &rows[..50], Grid::Thresholds);
    let (mut test, _) = data(Shape::Lognormal(3.0), 1000, 6);
    // Values that are thresholds themselves.
    let first = &network.layers[0].affine;
    for (r, (row, bias)) in test.iter_mut().zip(&first.bias).enumerate() {
        let (feature, _) = first.matrix.row(r).next().unwrap();
        row[feature] = -bias;
    }
    assert_eq!(same(&network, &split, &test), 1.0);
    let grid = split.grid.unwrap();
    assert!(grid.reveals_thresholds && grid.kind == "thresholds");
    assert_eq!((grid.moved, grid.folded, grid.agreement), (0, 0, 1.0));
    assert_eq!(grid.comparisons, grid.thresholds);
}

/// The client model does not depend on the thresholds, as long as their number of points is the same.
#[test]
fn the_grid_does_not_depend_on_the_thresholds() {
    let (rows, _) = data(Shape::Lognormal(2.0), 300, 8);
    let column = |f: usize| Profile::of(rows.iter().map(|row| row[f]).collect());
    let counts = Counts { inside: 63, beyond: [4, 8], constant: 16 };
    let [one, other] = [0.3, 5.0].map(|threshold| {
        let network = stump(2, 5, threshold);
        let Network { layers, .. } = &network;
        let profiles: Vec<Profile> = (0..5).map(column).collect();
        let comparisons = vec![Comparison::of(&layers[0].affine, 0, &profiles)];
        let core = Network {
            inputs: 1,
            input_shape: vec![1],
            layers: layers[1..].to_vec(),
            ..network.clone()
        };
        let (network, last) = (&network, &layers[0]);
        let choice = Choice { network, before: &[], last, core: &core, profiles, comparisons };
        choice.build(counts)
    });
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

#[test]
fn odd_calibration_rows_are_no_trouble() {
    let columns: [&[f64]; 9] = [
        &[3.25],
        &[0.0, 0.0, -0.0],
        &[1e300, -1e300, 3.0],
        &[f64::MAX, f64::MIN, 0.0],
        &[5e-324, 0.0, 1e-310],
        &[1.0, 1.0f64.next_up(), 1.0f64.next_up().next_up()],
        &[9e15, 9e15 + 2.0, -9e15],
        &[1e9, 1e9, 1e9 + 1e-7],
        &[0.0, 1.0],
    ];
    for values in columns {
        for threshold in [-1e308, 0.0, 0.5, 3.25, 1e10] {
            let network = stump(0, 1, threshold);
            let rows: Vec<Vec<f64>> = values.iter().map(|&x| vec![x]).collect();
            let split = cut(&network, &rows, Grid::Quantiles);
            let points = &split.prefix[0].affine.bias;
            assert!(points.iter().all(|x| x.is_finite()) && points.len() <= 3 * 1024);
            // All calibrated values are distinguished.
            assert_eq!(same(&network, &split, &rows), 1.0, "{values:?}, x > {threshold}");
            let infinite = [vec![f64::INFINITY], vec![f64::NEG_INFINITY]];
            if threshold.abs() < 10.0 && values.len() < 3 {
                assert_eq!(same(&network, &split, &infinite), 1.0, "{values:?}, x > {threshold}");
            }
        }
    }
}

/// Many features get fewer cells; too many are an error.
#[test]
fn many_features_get_fewer_cells() {
    let rows = |features: usize, rows: usize| -> Vec<Vec<f64>> {
        (0..rows)
            .map(|i| (0..features).map(|f| ((i * 7 + f * 3) % 19) as f64 / 3.0).collect())
            .collect()
    };
    let fits = cut(&stump(1, 5000, 1.5), &rows(5000, 10), Grid::Quantiles);
    let comparisons = fits.grid.unwrap().comparisons;
    assert!((30_000..=65_536).contains(&comparisons), "{comparisons}");
    let network = stump(1, 66_000, 1.5);
    let rows = rows(66_000, 3);
    let refused = split(&network, &network, &refs(&rows), &refs(&rows), Grid::Quantiles);
    assert!(matches!(refused, Err(crate::Error::Model { .. })), "{:?}", refused.map(|_| ()));
}

fn counts() -> impl Strategy<Value = Counts> {
    (1usize..300, 0usize..40, 0usize..40, 0usize..40).prop_map(
        |(inside, below, above, constant)| Counts { inside, beyond: [below, above], constant },
    )
}

fn column() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        -1e3..1e3f64,
        (-20i32..20).prop_map(f64::from),
        (-30.0..30.0f64).prop_map(f64::exp),
        Just(0.0),
        any::<f64>().prop_filter("finite", |x| x.is_finite()),
    ];
    prop::collection::vec(value, 1..200)
}

proptest! {
    /// Points increase, are at most as many as requested, and separate neighbouring values if there are enough.
    #[test]
    fn points_are_as_promised(column in column(), counts in counts()) {
        let profile = Profile::of(column.clone());
        let points = profile.points(counts);
        prop_assert!(points.is_sorted_by(|a, b| a < b) && points.iter().all(|x| x.is_finite()));
        let most = counts.inside + counts.beyond[0] + counts.beyond[1] + 2 * counts.constant;
        prop_assert!(points.len() <= most);
        let mut values = column;
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        if values.len() - 1 <= counts.inside {
            for pair in values.windows(2) {
                prop_assert!(points.iter().any(|&x| pair[0] <= x && x < pair[1]), "{pair:?}");
            }
        }
    }

    /// A comparison is placed where it has its own result on all calibrated values, if a point has. Equal values count
    /// as in the model, whether it compares by > or <, and whatever the weight. A greater threshold never gets a
    /// smaller point.
    #[test]
    fn comparisons_keep_their_results(
        column in column(),
        counts in counts(),
        weight in prop_oneof![Just(1.0), Just(-1.0), -5.0..-0.1f64, 0.1..5.0f64],
        picked in prop::collection::vec((any::<prop::sample::Index>(), -1.0..1.0f64), 1..20),
    ) {
        let profile = Profile::of(column.clone());
        let axis = Axis::new(&profile, counts);
        let mut chosen = Vec::new();
        for (index, off) in picked {
            // At a value, or near one.
            let value = *index.get(&column);
            let at = if off < 0.0 { value } else { value * (1.0 + off / 100.0) };
            let bias = -weight * at;
            if !bias.is_finite() {
                continue;
            }
            let matrix = Matrix::Sparse(Sparse::one_per_row(1, [(0, weight)].into_iter()));
            let affine = Affine { matrix, bias: vec![bias] };
            let Comparison::With(threshold) = Comparison::of(&affine, 0, std::slice::from_ref(&profile)) else {
                continue;
            };
            let holds = |x: f64| weight * x + bias > 0.0;
            let place = axis.nearest(&threshold);
            let gridded = |point: f64, x: f64| (x > point) != (weight < 0.0);
            let agrees = |point: f64| column.iter().all(|&x| gridded(point, x) == holds(x));
            if axis.points.iter().any(|&point| agrees(point)) && let Some(i) = place {
                prop_assert!(agrees(axis.points[i]));
            }
            chosen.push((threshold.at, place, threshold.side(&profile)));
        }
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let of = chosen.iter().map(|&(_, place, side)| match (place, side) {
            (Some(i), _) => i as f64,
            (None, Some(0)) => f64::NEG_INFINITY,
            (None, _) => f64::INFINITY,
        });
        prop_assert!(of.clone().is_sorted(), "{chosen:?}");
    }
}
