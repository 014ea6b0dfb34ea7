//! Removes rows of a network that do not affect its outputs: rows that no later row reads, constant rows, and
//! duplicates.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::network::{Activation, Affine, Layer, Matrix, Network, Sparse};

/// The same function with fewer rows. Inputs and outputs stay.
pub(crate) fn prune(network: &Network) -> Network {
    let mut pruned = network.clone();
    // Every pass except the last removes a row.
    while pass(&mut pruned.layers) {}
    pruned
}

/// Number of Lookups of the layers: one per row, except for rows that pass a layer unchanged. No row passes the first
/// layer or a layer of `exact` values.
pub(crate) fn lookups(layers: &[Layer], exact: bool) -> usize {
    let rows = layers.iter().enumerate().map(|(i, layer)| {
        let Some(activations) = &layer.activation else { return 0 };
        let passes = |&r: &usize| {
            let mut row = layer.affine.matrix.row(r).filter(|&(_, weight)| weight != 0.0);
            !exact
                && i > 0
                && *activations.at(r) == Activation::Identity
                && layer.affine.bias[r] == 0.0
                && matches!((row.next(), row.next()), (Some((_, 1.0)), None))
        };
        layer.affine.rows() - (0..layer.affine.rows()).filter(passes).count()
    });
    rows.sum()
}

/// Removes rows from all layers. Returns whether any was removed.
fn pass(layers: &mut [Layer]) -> bool {
    let mut changed = false;
    // Forwards finds rows that became equal or constant; backwards finds rows that only removed rows read.
    for i in (1..layers.len()).chain((1..layers.len()).rev()) {
        let (before, after) = layers.split_at_mut(i);
        let (Some(layer), Some(next)) = (before.last_mut(), after.first_mut()) else { continue };
        changed |= thin(layer, next);
    }
    changed
}

/// What happens to a row.
#[derive(Clone, Copy)]
enum Fate {
    Dead,
    Constant(f64),
    Same(usize),
    Stays,
}

/// Removes rows of `layer`, whose values `next` reads.
fn thin(layer: &mut Layer, next: &mut Layer) -> bool {
    let fates = fates(layer, &next.affine);
    if fates.iter().all(|fate| matches!(fate, Fate::Stays)) {
        return false;
    }
    let kept = (0..fates.len()).filter(|&r| matches!(fates[r], Fate::Stays)).collect::<Vec<_>>();
    let mut place = vec![None; fates.len()];
    kept.iter().enumerate().for_each(|(i, &r)| place[r] = Some(i));
    for (r, fate) in fates.iter().enumerate() {
        if let Fate::Same(other) = fate {
            place[r] = place[*other];
        }
    }
    layer.affine = layer.affine.select(&kept);
    layer.activation = layer.activation.as_ref().map(|activations| activations.select(&kept));
    layer.groups = layer.groups.as_ref().map(|groups| kept.iter().map(|&r| groups[r]).collect());
    layer.bounds = layer.bounds.as_ref().map(|bounds| kept.iter().map(|&r| bounds[r]).collect());
    let constants = fates.iter().enumerate().filter_map(|(r, fate)| match fate {
        Fate::Constant(value) => Some((r, *value)),
        _ => None,
    });
    let constants = constants.collect::<HashMap<_, _>>();
    let shifts = |r: usize| {
        let row = next.affine.matrix.row(r);
        row.filter_map(|(c, weight)| Some(weight * constants.get(&c)?)).sum::<f64>()
    };
    let shifts = (0..next.affine.rows()).map(shifts).collect::<Vec<_>>();
    next.affine.matrix = columns(&next.affine, &place, kept.len());
    next.affine.shift(&shifts);
    regroup(next);
    true
}

fn fates(layer: &Layer, next: &Affine) -> Vec<Fate> {
    let mut read = vec![false; layer.affine.rows()];
    for r in 0..next.rows() {
        let row = next.matrix.row(r).filter(|&(_, weight)| weight != 0.0);
        row.for_each(|(column, _)| read[column] = true);
    }
    let kinds = layer.activation.as_ref().map_or(Vec::new(), |activations| {
        let mut numbers = HashMap::new();
        let number = |kind: &Activation| {
            let next = numbers.len();
            *numbers.entry(kind.key()).or_insert(next)
        };
        activations.kinds().iter().map(number).collect()
    });
    let mut known = HashMap::new();
    let mut fates = Vec::with_capacity(read.len());
    for (r, &read) in read.iter().enumerate() {
        let row = layer.affine.matrix.row(r).filter(|&(_, weight)| weight != 0.0);
        let row = row.map(|(c, weight)| (c, weight.to_bits())).collect::<Vec<_>>();
        let bias = layer.affine.bias[r];
        let constant = Some(layer.activated(r, bias)).filter(|c| row.is_empty() && c.is_finite());
        fates.push(if !read {
            Fate::Dead
        } else if let Some(constant) = constant {
            Fate::Constant(constant)
        } else {
            let kind = layer.activation.as_ref().map(|activations| kinds[activations.index(r)]);
            match known.insert((row.clone(), bias.to_bits(), kind), r) {
                None => Fate::Stays,
                Some(first) => {
                    known.insert((row, bias.to_bits(), kind), first);
                    Fate::Same(first)
                }
            }
        });
    }
    // A layer keeps at least one row, even if it is not needed.
    if !fates.iter().any(|fate| matches!(fate, Fate::Stays))
        && let Some(first) = fates.first_mut()
    {
        *first = Fate::Stays;
    }
    fates
}

/// The matrix of an affine function after its inputs moved. Weights of inputs at one place are added.
fn columns(affine: &Affine, place: &[Option<usize>], count: usize) -> Matrix {
    if let Matrix::Dense { rows, cols, values } = &affine.matrix {
        let mut moved = vec![0.0; rows * count];
        for r in 0..*rows {
            for (column, place) in place.iter().enumerate() {
                if let Some(place) = place {
                    moved[r * count + place] += values[r * cols + column];
                }
            }
        }
        return Matrix::Dense { rows: *rows, cols: count, values: moved };
    }
    let mut matrix = Sparse::new(count);
    let mut row = Vec::new();
    for r in 0..affine.rows() {
        let entries = affine.matrix.row(r);
        row.extend(entries.filter_map(|(column, weight)| Some((place[column]?, weight))));
        row.sort_by_key(|&(place, _): &(usize, f64)| place);
        row.dedup_by(|from, to| {
            let same = from.0 == to.0;
            if same {
                to.1 += from.1;
            }
            same
        });
        row.drain(..).for_each(|(place, weight)| matrix.push(place, weight));
        matrix.end_row();
    }
    Matrix::Sparse(matrix)
}

/// Splits groups whose rows no longer have the same bias, because constants shifted them differently.
fn regroup(layer: &mut Layer) {
    let Some(groups) = &mut layer.groups else { return };
    let mut known = HashMap::new();
    for (group, bias) in groups.iter_mut().zip(&layer.affine.bias) {
        let next = known.len() as u32;
        *group = *known.entry((*group, bias.to_bits())).or_insert(next);
    }
}
