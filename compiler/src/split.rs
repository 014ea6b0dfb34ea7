//! Splits a network into the layers that the client computes before it encrypts, and those that are computed encrypted.

use crate::Error;
use crate::compile::Grid;
use crate::grid::{self, Gridded};
use crate::neighbours;
use crate::network::{Affine, Layer, Matrix, Network, Sparse};
use crate::prune::prune;
use crate::report::GridReport;

/// A network in two parts.
pub(crate) struct Split {
    /// The client's layers.
    pub(crate) prefix: Vec<Layer>,
    /// The encrypted layers. They end in an affine layer.
    pub(crate) core: Network,
    /// For trees: the points that the client compares features with.
    pub(crate) grid: Option<GridReport>,
}

/// Splits the pruned network. The points that the client compares features of trees with are computed from the rows of
/// `calibration`; their effect is measured on those of `measured`.
pub(crate) fn split(
    network: &Network,
    pruned: &Network,
    calibration: &[&[f64]],
    measured: &[&[f64]],
    kind: Grid,
) -> Result<Split, Error> {
    let mut core = pruned.clone();
    let mut prefix: Vec<Layer> = core.layers.drain(..pruned.elementwise_prefix()).collect();
    // Layers after comparisons would reveal them to the client, so they are merged into the next affine function.
    if let Some(step) = prefix.iter().position(|layer| grid::compares(std::slice::from_ref(layer)))
    {
        let after = prefix.split_off(step + 1);
        if let Some(first) = core.layers.first_mut() {
            first.affine = of_bits(&after, &first.affine, prefix[step].affine.rows());
        }
    }
    core.inputs = core.layers.first().map_or(core.inputs, |first| first.affine.cols());
    core.input_shape = vec![core.inputs];
    core.indices.clear();
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
    let Gridded { prefix, core, report } =
        grid::grid(network, &prefix, &core, calibration, measured, kind)?;
    // Thresholds that moved to the same point of the grid, or beyond it, make more rows equal or constant.
    Ok(Split { prefix, core: prune(&core), grid: Some(report) })
}

/// Merges layers whose values each depend on one of `bits` bits into the affine function after them. Any function of a
/// bit is affine in it.
fn of_bits(layers: &[Layer], affine: &Affine, bits: usize) -> Affine {
    // For each value: the bit that it depends on, and its value where the bit is 0 and where it is 1.
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
