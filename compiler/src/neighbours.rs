//! Reorders the rows of layers so that equal rows are adjacent. Their Lookups (for example sine and cosine of one
//! value) can then share a bootstrap.

use std::collections::HashMap;

use crate::network::{Activations, Affine, Layer, Matrix, Network, Sparse};

/// Groups the equal rows of each layer, and permutes the columns of the next layer accordingly. The function stays the
/// same.
pub(crate) fn gather(network: &mut Network) {
    for i in 1..network.layers.len() {
        let (before, after) = network.layers.split_at_mut(i);
        let (layer, next) = (&mut before[i - 1], &mut after[0]);
        let order = order(&layer.affine);
        if !order.is_sorted() {
            reorder(layer, &order);
            next.affine.matrix = columns(&next.affine.matrix, &order);
        }
    }
}

/// An order of the rows in which equal rows are adjacent.
fn order(affine: &Affine) -> Vec<usize> {
    let mut first = HashMap::new();
    let mut order: Vec<(usize, usize)> = (0..affine.rows())
        .map(|r| {
            let row = affine.matrix.row(r).filter(|&(_, w)| w != 0.0);
            let weights: Vec<(usize, u64)> = row.map(|(c, w)| (c, w.to_bits())).collect();
            (*first.entry((weights, affine.bias[r].to_bits())).or_insert(r), r)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, r)| r).collect()
}

fn reorder(layer: &mut Layer, order: &[usize]) {
    layer.affine = layer.affine.select(order);
    layer.activation = layer
        .activation
        .as_ref()
        .map(|activations| Activations::of_rows(order.iter().map(|&r| activations.at(r).clone())));
    if let Some(groups) = &mut layer.groups {
        *groups = order.iter().map(|&r| groups[r]).collect();
    }
    if let Some(bounds) = &mut layer.bounds {
        *bounds = order.iter().map(|&r| bounds[r]).collect();
    }
}

fn columns(matrix: &Matrix, order: &[usize]) -> Matrix {
    match matrix {
        Matrix::Dense { rows, cols, values } => {
            let row = |row: &[f64]| order.iter().map(|&c| row[c]).collect::<Vec<_>>();
            let values = values.chunks_exact(*cols).flat_map(row).collect();
            Matrix::Dense { rows: *rows, cols: *cols, values }
        }
        Matrix::Sparse(sparse) => {
            let mut place = vec![0; order.len()];
            order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
            let mut permuted = Sparse::new(sparse.cols);
            for r in 0..matrix.rows() {
                let mut row: Vec<(usize, f64)> =
                    matrix.row(r).map(|(c, w)| (place[c], w)).collect();
                row.sort_unstable_by_key(|&(c, _)| c);
                row.into_iter().for_each(|(c, w)| permuted.push(c, w));
                permuted.end_row();
            }
            Matrix::Sparse(permuted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Decision, Head};

    #[test]
    fn equal_rows_come_together_and_the_function_stays() {
        let dense = |rows: usize, cols: usize, values: &[f64]| Affine {
            matrix: Matrix::Dense { rows, cols, values: values.to_vec() },
            bias: vec![0.5; rows],
        };
        let layer = |affine: Affine, activation: Option<Activations>| Layer {
            name: String::new(),
            affine,
            activation,
            groups: None,
            bounds: None,
        };
        let kinds = [Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Identity];
        let first = dense(4, 2, &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let sparse = Matrix::Sparse(Sparse {
            cols: 4,
            offsets: vec![0, 3, 4],
            columns: vec![0, 1, 3, 2],
            values: vec![1.0, -2.0, 3.0, 4.0],
        });
        let mut network = Network {
            name: String::new(),
            inputs: 2,
            input_shape: vec![2],
            layers: vec![
                layer(first, Some(Activations::of_rows(kinds.into_iter()))),
                layer(Affine { matrix: sparse, bias: vec![0.0; 2] }, Some(Activation::Relu.into())),
                layer(dense(1, 2, &[1.0, -1.0]), None),
            ],
            head: Head { transforms: vec![], decision: Decision::Scores },
            indices: vec![],
        };
        let before = network.evaluate(&[0.3, -0.4]).unwrap();
        gather(&mut network);
        network.validate().unwrap();
        assert_eq!(network.evaluate(&[0.3, -0.4]).unwrap(), before);
        let rows: Vec<Vec<(usize, f64)>> =
            (0..4).map(|r| network.layers[0].affine.matrix.row(r).collect()).collect();
        assert!(rows[0] == rows[1] && rows[2] == rows[3] && rows[1] != rows[2]);
    }
}
