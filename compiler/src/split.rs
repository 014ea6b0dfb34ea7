//! Cuts a network in two: what the client computes before it encrypts, and what is computed encrypted.

use crate::Error;
use crate::calibration::Span;
use crate::client::apply;
use crate::compile::DEFAULT_SLACK;
use crate::grid::{self, Gridded};
use crate::measure;
use crate::neighbours;
use crate::network::{Affine, Layer, Network};
use crate::prune::prune;

/// Bits of the grid that trees' features are compared with: the fewest within [`DEFAULT_SLACK`] of more.
const GRID_BITS: std::ops::RangeInclusive<u32> = 4..=8;

/// What the client computes itself, and what is computed encrypted: the pruned network without the client's layers,
/// ending in an affine layer.
pub(crate) fn split(
    network: &Network,
    pruned: &Network,
    rows: &[&[f64]],
) -> Result<(Vec<Layer>, Network), Error> {
    let mut core = pruned.clone();
    let prefix: Vec<Layer> = core.layers.drain(..pruned.elementwise_prefix()).collect();
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
        return Ok((prefix, core));
    }
    let compared: Vec<Vec<f64>> =
        rows.iter().map(|row| apply(&prefix[..prefix.len() - 1], row)).collect();
    let spans = Span::of_columns(&compared);
    let mut best: Option<(f64, Gridded)> = None;
    for bits in GRID_BITS {
        let gridded = grid::grid(&prefix, &core, &spans, bits).ok_or(Error::NoParameterSet)?;
        if gridded.core.inputs > hermesh_engine::MAX_WIDTH {
            break;
        }
        let agreement = measure::same(network, &gridded.prefix, &gridded.core, rows)?;
        if best.as_ref().is_none_or(|(most, _)| agreement > most + DEFAULT_SLACK / 100.0) {
            best = Some((agreement, gridded));
        }
    }
    let (_, Gridded { prefix, core }) = best.ok_or(Error::NoParameterSet)?;
    // Thresholds that fell on one point of the grid, or beyond it, make more rows the same or constant.
    Ok((prefix, prune(&core)))
}
