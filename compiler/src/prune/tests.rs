use proptest::prelude::*;

use super::*;
use crate::network::{Activations, Decision, Head};

fn layer(rows: &[&[f64]], bias: &[f64], activation: Option<Activations>) -> Layer {
    let (count, cols) = (rows.len(), rows[0].len());
    let matrix = Matrix::Dense { rows: count, cols, values: rows.concat() };
    let affine = Affine { matrix, bias: bias.into() };
    Layer { name: "layer".into(), affine, activation, groups: None, bounds: None }
}

fn network(layers: Vec<Layer>) -> Network {
    let inputs = layers[0].affine.cols();
    let head = Head { transforms: vec![], decision: Decision::Scores };
    Network {
        name: "test".into(),
        inputs,
        input_shape: vec![inputs],
        layers,
        head,
        indices: vec![],
    }
}

#[test]
fn dead_constant_and_equal_rows_are_taken_out() {
    let relu = || Some(Activation::Relu.into());
    let mut first = layer(
        &[&[1.0, 2.0], &[0.0, 0.0], &[1.0, 2.0], &[3.0, 1.0], &[1.0, -1.0]],
        &[0.5, 2.0, 0.5, 0.0, 0.0],
        relu(),
    );
    first.groups = Some(vec![0, 1, 0, 2, 3]);
    // Only the third row reads the last row of the first layer, and no row reads the third.
    let second = layer(
        &[&[1.0, 1.0, 1.0, 0.0, 0.0], &[0.0, 1.0, 0.0, 2.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 1.0]],
        &[0.0, -1.0, 0.0],
        relu(),
    );
    let last = layer(&[&[1.0, -1.0, 0.0]], &[0.0], None);
    let network = network(vec![first, second, last]);
    let pruned = prune(&network);
    pruned.validate().unwrap();
    let rows = pruned.layers.iter().map(|layer| layer.affine.rows()).collect::<Vec<_>>();
    assert_eq!(rows, [2, 2, 1]);
    assert_eq!(pruned.layers[0].groups, Some(vec![0, 2]));
    assert_eq!(pruned.layers[1].affine.bias, [2.0, 1.0]);
    assert_eq!((lookups(&network.layers, false), lookups(&pruned.layers, false)), (8, 4));
    for row in [[1.0, 1.0], [-2.0, 0.5]] {
        assert_eq!(pruned.evaluate(&row).unwrap(), network.evaluate(&row).unwrap());
    }
}

#[test]
fn rows_with_different_activations_are_different() {
    let both = Activations::each(vec![Activation::Relu, Activation::Tanh], vec![0, 1]);
    let network = network(vec![
        layer(&[&[1.0], &[1.0]], &[0.0, 0.0], Some(both)),
        layer(&[&[1.0, 1.0]], &[0.0], None),
    ]);
    assert_eq!(prune(&network), network);
}

#[test]
fn a_layer_keeps_a_row() {
    let network = network(vec![
        layer(&[&[0.0], &[0.0]], &[3.0, 1.0], Some(Activation::Relu.into())),
        layer(&[&[1.0, 1.0]], &[0.0], None),
    ]);
    let pruned = prune(&network);
    pruned.validate().unwrap();
    assert_eq!(pruned.layers[0].affine.rows(), 1);
    assert_eq!(pruned.evaluate(&[9.0]).unwrap(), [4.0]);
}

#[test]
fn values_that_are_carried_take_no_lookup_but_in_the_first_layer() {
    let carried = Activations::each(vec![Activation::Relu, Activation::Identity], vec![0, 1]);
    let same = layer(&[&[2.0, 0.0], &[0.0, 1.0]], &[0.0, 0.0], Some(carried));
    let last = layer(&[&[1.0, 1.0]], &[0.0], None);
    let layers = [same.clone(), same, last];
    assert_eq!(lookups(&layers, false), 3);
    assert_eq!(lookups(&layers, true), 4);
}

proptest! {
    #[test]
    fn pruning_changes_no_output(
        values in prop::collection::vec(prop_oneof![3 => Just(0.0), 1 => Just(1.0), 1 => Just(-1.0)], 60),
        bias in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0)], 13),
        x in prop::collection::vec(-3i8..3, 3),
    ) {
        let relu = || Some(Activation::Relu.into());
        let rows = |range: std::ops::Range<usize>, cols| values[range].chunks(cols).collect::<Vec<_>>();
        let network = network(vec![
            layer(&rows(0..18, 3), &bias[..6], relu()),
            layer(&rows(18..48, 6), &bias[6..11], relu()),
            layer(&rows(48..58, 5), &bias[11..], None),
        ]);
        let pruned = prune(&network);
        prop_assert!(pruned.validate().is_ok());
        prop_assert_eq!(prune(&pruned), pruned.clone());
        let x = x.into_iter().map(f64::from).collect::<Vec<_>>();
        prop_assert_eq!(pruned.evaluate(&x).unwrap(), network.evaluate(&x).unwrap());
    }
}
