//! Grids for trees: the client compares each feature with all points of a public grid and encrypts the resulting bits
//! (a thermometer code). Each comparison of a tree selects one of these bits. The points depend only on the calibration
//! rows and on the number of points, so the client's computation and its messages reveal nothing about the thresholds.
//! The assignment of points to thresholds is part of the program, which only the server has. A value between a
//! threshold and its point is answered as if it were on the other side of the threshold; the report states the effect
//! on agreement.

mod choose;
mod place;
mod profile;
mod smooth;
#[cfg(test)]
mod tests;

use hermesh_engine::MAX_WIDTH;

use crate::Error;
use crate::client::apply;
use crate::compile::Grid;
use crate::measure;
use crate::network::{Activation, Affine, Layer, Network};
use crate::report::GridReport;
use choose::Choice;
use place::Comparison;
use profile::Profile;

/// A network whose comparisons are those with a grid.
pub(crate) struct Gridded {
    /// The client's layers, up to the comparisons with the grid.
    pub(crate) prefix: Vec<Layer>,
    /// The rest of the network.
    pub(crate) core: Network,
    /// Size of the grid and its effect on agreement.
    pub(crate) report: GridReport,
}

/// Whether the client's last layer consists of comparisons.
pub(crate) fn compares(prefix: &[Layer]) -> bool {
    let step = |layer: &Layer| {
        layer.activation.as_ref().and_then(|a| a.uniform()) == Some(&Activation::Step)
    };
    prefix.last().is_some_and(step)
}

/// Replaces the comparisons by those with a grid, or keeps the model's own thresholds. `prefix` ends with the
/// comparisons, and `core` is the rest of `network`. The grid is computed from the rows of `calibration`; its effect is
/// measured on those of `measured`.
pub(crate) fn grid(
    network: &Network,
    prefix: &[Layer],
    core: &Network,
    calibration: &[&[f64]],
    measured: &[&[f64]],
    kind: Grid,
) -> Result<Gridded, Error> {
    let no_layer = || Error::Network { reason: "no layer compares".into() };
    let (last, before) = prefix.split_last().ok_or_else(no_layer)?;
    let columns = last.affine.matrix.cols();
    if kind == Grid::Thresholds {
        return thresholds(network, prefix, core, measured);
    }
    let mut profiles = vec![Vec::with_capacity(calibration.len()); columns];
    for row in calibration {
        profiles.iter_mut().zip(apply(before, row)).for_each(|(column, x)| column.push(x));
    }
    let profiles: Vec<Profile> = profiles.into_iter().map(Profile::of).collect();
    let comparisons: Vec<Comparison> =
        (0..last.affine.rows()).map(|r| Comparison::of(&last.affine, r, &profiles)).collect();
    let choice = Choice { network, before, last, core, profiles, comparisons };
    choice.choose(calibration, measured)
}

/// Keeps the comparisons of the model itself.
fn thresholds(
    network: &Network,
    prefix: &[Layer],
    core: &Network,
    measured: &[&[f64]],
) -> Result<Gridded, Error> {
    if core.inputs > MAX_WIDTH {
        return Err(too_many(core.inputs, "train fewer trees, or leave --grid thresholds out"));
    }
    let mut of = std::collections::HashMap::<usize, usize>::new();
    let affine = prefix.last().map(|layer| &layer.affine);
    for r in 0..affine.map_or(0, Affine::rows) {
        let feature = affine.and_then(|affine| affine.matrix.row(r).find(|&(_, w)| w != 0.0));
        feature.into_iter().for_each(|(feature, _)| *of.entry(feature).or_default() += 1);
    }
    let report = GridReport {
        kind: "thresholds".into(),
        reveals_thresholds: true,
        comparisons: core.inputs,
        most_cells: of.values().max().map_or(1, |points| points + 1),
        thresholds: core.inputs,
        moved: 0,
        folded: 0,
        agreement: measure::same(network, prefix, core, measured)?,
    };
    Ok(Gridded { prefix: prefix.to_vec(), core: core.clone(), report })
}

fn too_many(comparisons: usize, advice: &str) -> Error {
    Error::Model {
        reason: format!(
            "its trees take {comparisons} comparisons of features; expected at most {MAX_WIDTH}: {advice}"
        ),
    }
}
