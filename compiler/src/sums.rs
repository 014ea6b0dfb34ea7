//! Scales exact sums of many tables so that they do not wrap around. Each table's values are rounded to the output's
//! step separately, and the rounding errors together must not carry a sum beyond one turn, where the largest value
//! would become the smallest.

use crate::network::{Activation, Layer, Network};

/// The value of one turn with which no output of `bits` bits wraps around for any input, if the last layer adds table
/// values and has bounds. `Some(None)` if rounding errors alone fill the turn.
pub(crate) fn turn(network: &Network, bits: u32) -> Option<Option<f64>> {
    let [.., tables, sums] = network.layers.as_slice() else {
        return None;
    };
    tables.table_bits()?;
    let bounds = sums.bounds.as_ref()?;
    let counts = |r: usize| {
        sums.affine.matrix.row(r).all(|(_, weight)| weight > 0.0 && weight.fract() == 0.0)
    };
    if !(0..sums.affine.rows()).all(counts) {
        return None;
    }
    let most = f64::from((1u32 << (bits - 1)) - 1);
    let width = bounds.iter().map(|(low, high)| high - low).fold(1e-9, f64::max);
    let mut turn = width * (most + 1.0) / most;
    for _ in 0..16 {
        let step = turn / f64::from(1u32 << bits);
        let reach = |(r, (low, high)): (usize, &(f64, f64))| {
            (high - low) / 2.0 / step + rounding(tables, sums, r, step)
        };
        let worst = bounds.iter().enumerate().map(reach).fold(0.0, f64::max);
        if worst <= most {
            return Some(Some(turn));
        }
        turn *= 1.02 * worst / most;
        if turn > 4.0 * width {
            break;
        }
    }
    Some(None)
}

/// Steps that rounding moves sum `r` by at most.
pub(crate) fn rounding(tables: &Layer, sums: &Layer, r: usize, step: f64) -> f64 {
    let (mut up, mut down) = (0.0, 0.0);
    for (column, weight) in sums.affine.matrix.row(r) {
        let Some(Activation::Table(values)) = tables.activation.as_ref().map(|a| a.at(column))
        else {
            continue;
        };
        let off = |value: &f64| (value / step + dither(column)).round() - value / step;
        up += weight * values.iter().map(off).fold(f64::NEG_INFINITY, f64::max);
        down += weight * values.iter().map(off).fold(f64::INFINITY, f64::min);
    }
    up.max(-down)
}

/// An offset in steps that is added before rounding and differs between tables, so that values that are equal in many
/// tables are not all rounded in the same direction. Zero stays zero.
pub(crate) fn dither(table: usize) -> f64 {
    // Multiples of the golden ratio are evenly distributed, for any number of tables.
    ((table + 1) as f64 * 0.618_033_988_749_895).fract() - 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activations, Affine, Decision, Head, Matrix};

    /// Each of `n` trees gives 1/n or 0.
    fn forest(n: usize) -> Network {
        let layer = |rows: usize, cols: usize, activation: Option<Activations>, bounds| Layer {
            name: String::new(),
            affine: Affine {
                matrix: Matrix::Dense { rows, cols, values: vec![1.0; rows * cols] },
                bias: vec![0.0; rows],
            },
            activation,
            groups: None,
            bounds,
        };
        let table = Activation::Table(vec![0.0, 1.0 / n as f64]);
        Network {
            name: String::new(),
            inputs: 1,
            input_shape: vec![1],
            layers: vec![
                layer(n, 1, Some(table.into()), None),
                layer(1, n, None, Some(vec![(0.0, 1.0)])),
            ],
            head: Head { transforms: vec![], decision: Decision::Scores },
            indices: vec![],
        }
    }

    #[test]
    fn no_forest_goes_around() {
        for bits in [7, 8, 9, 12] {
            for n in 1..200 {
                let Some(Some(turn)) = turn(&forest(n), bits) else {
                    assert!(n > 30, "{n} trees have no room in {bits} bits");
                    continue;
                };
                let step = turn / f64::from(1u32 << bits);
                let value = 1.0 / n as f64 / step;
                let sum: f64 = (0..n).map(|t| (value + dither(t)).round()).sum();
                let highest = sum - (0.5 / step).floor();
                assert!(highest < f64::from(1u32 << (bits - 1)), "{n} trees, {bits} bits");
                assert!((sum - 1.0 / step).abs() < 4.0, "{n} trees: {sum} for {}", 1.0 / step);
            }
        }
    }
}
