//! Affine functions and how they compose.

use serde::{Deserialize, Serialize};

use super::matrix::{Matrix, Sparse};

/// y = W x + b.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// W: one row per output, one column per input.
    pub matrix: Matrix,
    /// b: one value per row.
    pub bias: Vec<f64>,
}

impl Affine {
    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.matrix.cols()
    }

    /// W x + b.
    ///
    /// # Panics
    /// If `x` does not have one value per column.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(x.len(), self.cols(), "an affine function of {} values", self.cols());
        self.bias.iter().enumerate().map(|(r, bias)| self.matrix.dot(r, x) + bias).collect()
    }

    /// Multiplies input `i` by `scale[i]`.
    pub(crate) fn diagonal(scale: &[f64]) -> Affine {
        let matrix = Sparse::one_per_row(scale.len(), scale.iter().copied().enumerate());
        Affine { matrix: Matrix::Sparse(matrix), bias: vec![0.0; scale.len()] }
    }

    /// Output `i` is input `inputs[i]` of `cols`.
    pub(crate) fn selection(inputs: &[usize], cols: usize) -> Affine {
        let matrix = Sparse::one_per_row(cols, inputs.iter().map(|&input| (input, 1.0)));
        Affine { matrix: Matrix::Sparse(matrix), bias: vec![0.0; inputs.len()] }
    }

    /// Whether each output depends on at most one input. The client can apply such a function before it encrypts.
    pub fn is_unary(&self) -> bool {
        (0..self.rows())
            .all(|r| self.matrix.row(r).filter(|&(_, value)| value != 0.0).take(2).count() <= 1)
    }

    /// Number of inputs that at least one output depends on.
    pub(crate) fn used_columns(&self) -> usize {
        let mut used = vec![false; self.cols()];
        let rows = (0..self.rows()).flat_map(|r| self.matrix.row(r));
        rows.filter(|&(_, value)| value != 0.0).for_each(|(column, _)| used[column] = true);
        used.into_iter().filter(|&used| used).count()
    }

    pub(crate) fn is_identity(&self) -> bool {
        self.rows() == self.cols()
            && self.is_unary()
            && self.bias.iter().all(|&b| b == 0.0)
            && (0..self.rows())
                .all(|r| self.matrix.row(r).any(|(column, value)| column == r && value == 1.0))
    }

    /// Multiplies output `r` by `scale[r]`.
    pub(crate) fn scale(&mut self, scale: &[f64]) {
        for (r, &factor) in scale.iter().enumerate() {
            self.matrix.row_values_mut(r).iter_mut().for_each(|value| *value *= factor);
            self.bias[r] *= factor;
        }
    }

    /// Adds `shift[r]` to output `r`.
    pub(crate) fn shift(&mut self, shift: &[f64]) {
        self.bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
    }

    /// The outputs `rows`, in this order.
    pub(crate) fn select(&self, rows: &[usize]) -> Affine {
        let bias = rows.iter().map(|&r| self.bias[r]).collect();
        let matrix = match &self.matrix {
            Matrix::Dense { cols, values, .. } => Matrix::Dense {
                rows: rows.len(),
                cols: *cols,
                values: rows
                    .iter()
                    .flat_map(|r| &values[r * cols..(r + 1) * cols])
                    .copied()
                    .collect(),
            },
            Matrix::Sparse(sparse) => {
                let mut selected = Sparse::new(sparse.cols);
                for &r in rows {
                    self.matrix.row(r).for_each(|(column, value)| selected.push(column, value));
                    selected.end_row();
                }
                Matrix::Sparse(selected)
            }
        };
        Affine { matrix, bias }
    }

    /// The outputs of all `parts`, which take the same inputs, one after another.
    pub(crate) fn stack(parts: &[&Affine], cols: usize) -> Affine {
        let bias = parts.iter().flat_map(|part| &part.bias).copied().collect::<Vec<_>>();
        let dense = parts.iter().any(|part| matches!(part.matrix, Matrix::Dense { .. }));
        let rows = parts.iter().flat_map(|part| (0..part.rows()).map(|r| part.matrix.row(r)));
        let matrix = if dense {
            let mut values = vec![0.0; bias.len() * cols];
            for (r, row) in rows.enumerate() {
                row.for_each(|(column, value)| values[r * cols + column] = value);
            }
            Matrix::Dense { rows: bias.len(), cols, values }
        } else {
            let mut stacked = Sparse::new(cols);
            for row in rows {
                row.for_each(|(column, value)| stacked.push(column, value));
                stacked.end_row();
            }
            Matrix::Sparse(stacked)
        };
        Affine { matrix, bias }
    }

    /// Like [`Affine::stack`], but sparse unless more than half of the entries are stored.
    pub(crate) fn stack_sparse(parts: &[&Affine], cols: usize) -> Affine {
        let entries = parts.iter().map(|part| part.matrix.entries()).fold(0, usize::saturating_add);
        let rows = parts.iter().map(|part| part.rows()).sum::<usize>();
        if entries > rows.saturating_mul(cols) / 2 {
            return Affine::stack(parts, cols);
        }
        let mut matrix = Sparse::new(cols);
        for part in parts {
            for r in 0..part.rows() {
                part.matrix.row(r).for_each(|(column, value)| matrix.push(column, value));
                matrix.end_row();
            }
        }
        let bias = parts.iter().flat_map(|part| &part.bias).copied().collect();
        Affine { matrix: Matrix::Sparse(matrix), bias }
    }

    /// The same function with its inputs moved: input `i` is at `places[i]` of `cols`. Inputs without weight need no
    /// place.
    pub(crate) fn read_from(&self, places: &[usize], cols: usize) -> Affine {
        let mut matrix = Sparse::new(cols);
        let mut row = Vec::new();
        for r in 0..self.rows() {
            let entries = self.matrix.row(r).filter(|&(_, value)| value != 0.0);
            row.extend(entries.map(|(column, value)| (places[column], value)));
            row.sort_unstable_by_key(|&(place, _)| place);
            row.drain(..).for_each(|(place, value)| matrix.push(place, value));
            matrix.end_row();
        }
        Affine { matrix: Matrix::Sparse(matrix), bias: self.bias.clone() }
    }

    /// The composition of `self` after `inner`, as one affine function. Sparse if both are sparse.
    pub(crate) fn after(&self, inner: &Affine) -> Affine {
        let bias = self
            .bias
            .iter()
            .enumerate()
            .map(|(r, bias)| self.matrix.dot(r, &inner.bias) + bias)
            .collect();
        let (rows, cols) = (self.rows(), inner.cols());
        let matrix = match (&self.matrix, &inner.matrix) {
            (Matrix::Sparse(_), Matrix::Sparse(_)) => Matrix::Sparse(self.sparse_after(inner)),
            _ => {
                let mut values = vec![0.0; rows * cols];
                for (r, row) in values.chunks_exact_mut(cols.max(1)).enumerate() {
                    for (middle, outer) in self.matrix.row(r).filter(|&(_, outer)| outer != 0.0) {
                        inner
                            .matrix
                            .row(middle)
                            .for_each(|(column, value)| row[column] += outer * value);
                    }
                }
                Matrix::Dense { rows, cols, values }
            }
        };
        Affine { matrix, bias }
    }

    fn sparse_after(&self, inner: &Affine) -> Sparse {
        let mut product = Sparse::new(inner.cols());
        let mut sums = vec![0.0; inner.cols()];
        let mut touched = Vec::new();
        for r in 0..self.rows() {
            for (middle, outer) in self.matrix.row(r) {
                for (column, value) in inner.matrix.row(middle) {
                    // An entry that cancelled to zero is recorded again; duplicates are removed below.
                    if sums[column] == 0.0 {
                        touched.push(column);
                    }
                    sums[column] += outer * value;
                }
            }
            touched.sort_unstable();
            touched.dedup();
            for column in touched.drain(..) {
                product.push(column, std::mem::take(&mut sums[column]));
            }
            product.end_row();
        }
        product
    }

    /// Multiplications of [`Affine::after`], an upper bound on the entries of a sparse result.
    pub(crate) fn cost_after(&self, inner: &Affine) -> u64 {
        match (&self.matrix, &inner.matrix) {
            (_, Matrix::Dense { cols, .. }) => {
                (self.matrix.entries() as u64).saturating_mul(*cols as u64)
            }
            (Matrix::Dense { rows, .. }, Matrix::Sparse(_)) => {
                (*rows as u64).saturating_mul(inner.matrix.entries() as u64)
            }
            (Matrix::Sparse(outer), Matrix::Sparse(inner)) => outer
                .columns
                .iter()
                .map(|&c| (inner.offsets[c as usize + 1] - inner.offsets[c as usize]) as u64)
                .fold(0, u64::saturating_add),
        }
    }
}
