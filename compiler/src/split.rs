//! Cuts a network in two: what the client computes before it encrypts, and what is computed encrypted.

use crate::Error;
use crate::compile::Grid;
use crate::grid::{self, Gridded};
use crate::neighbours;
use crate::network::{Affine, Layer, Matrix, Network, Sparse};
use crate::prune::prune;
use crate::report::GridReport;

/// A network in two parts.
pub(crate) struct Split {
    /// What the client computes itself.
    pub(crate) prefix: Vec<Layer>,
    /// What is computed encrypted: ends in an affine layer.
    pub(crate) core: Network,
    /// Of trees: what the client compares features with.
    pub(crate) grid: Option<GridReport>,
}

/// Splits the pruned network. What the client compares features of trees with follows from the rows of `calibration`;
/// what that costs is measured on those of `measured`.
pub(crate) fn split(
    network: &Network,
    pruned: &Network,
    calibration: &[&[f64]],
    measured: &[&[f64]],
    kind: Grid,
) -> Result<Split, Error> {
    let mut core = pruned.clone();
    let mut prefix: Vec<Layer> = core.layers.drain(..pruned.elementwise_prefix()).collect();
    // What follows comparisons would show them to the client, so it becomes part of the next affine function.
    if let Some(step) = prefix.iter().position(|layer| grid::compares(std::slice::from_ref(layer)))
    {
        let after = prefix.split_off(step + 1);
        if let Some(first) = core.layers.first_mut() {
            first.affine = of_bits(&after, &first.affine, prefix[step].affine.rows());
        }
    }
    core.inputs = core.layers.first().map_or(core.inputs, |first| first.affine.cols());
    core.input_shape = vec![core.inputs];
    if core.layers.last().is_some_and(|last| last.activation.is_some()) {
        core.layers.push(Layer {
            name: "output".into(),
            affine: Affine::diagonal(&vec![1.0; core.outputs()]),
            activation: None,
            groups: None,
            bounds: None,
        });
    }
    neighbours::gather(&mut core);
    if !grid::compares(&prefix) {
        return Ok(Split { prefix, core, grid: None });
    }
    if calibration.is_empty() {
        return Err(Error::Calibration { reason: "it holds no rows".into() });
    }
    let Gridded { prefix, core, report } =
        grid::grid(network, &prefix, &core, calibration, measured, kind)?;
    // Thresholds that fell on one point of the grid, or beyond it, make more rows the same or constant.
    Ok(Split { prefix, core: prune(&core), grid: Some(report) })
}

/// The affine function of what layers, each of which looks at one value at a time, make of `bits` bits: whatever a
/// function does, it is linear in a bit.
fn of_bits(layers: &[Layer], affine: &Affine, bits: usize) -> Affine {
    // Of each value: the bit that it depends on, and what it is where that is 0 and where it is 1.
    let mut values: Vec<(usize, [f64; 2])> = (0..bits).map(|bit| (bit, [0.0, 1.0])).collect();
    for layer in layers {
        let value = |r: usize| {
            let bias = layer.affine.bias[r];
            let of = |x: f64| layer.activated(r, x);
            match layer.affine.matrix.row(r).find(|&(_, weight)| weight != 0.0) {
                None => (0, [of(bias); 2]),
                Some((column, weight)) => {
                    let (bit, states) = values[column];
                    (bit, states.map(|x| of(weight * x + bias)))
                }
            }
        };
        values = (0..layer.affine.rows()).map(value).collect();
    }
    let mut matrix = Sparse::new(bits);
    let mut bias = affine.bias.clone();
    for (r, bias) in bias.iter_mut().enumerate() {
        let mut row = std::collections::BTreeMap::<usize, f64>::new();
        for (column, weight) in affine.matrix.row(r) {
            let (bit, [off, on]) = values[column];
            *bias += weight * off;
            *row.entry(bit).or_default() += weight * (on - off);
        }
        row.into_iter().for_each(|(bit, weight)| matrix.push(bit, weight));
        matrix.end_row();
    }
    Affine { matrix: Matrix::Sparse(matrix), bias }
}
