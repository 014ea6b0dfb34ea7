//! The operator Linear.

use crate::kernel::{Row, Vectors};
use crate::lwe::{LweList, round};
use crate::program::{Linear, Matrix};
use std::borrow::Cow;

impl Matrix {
    /// The rows, as the kernel takes them.
    pub(crate) fn kernel_rows(&self) -> Vec<Row<'_>> {
        match self {
            Self::Dense { columns, weights, .. } => {
                weights.chunks_exact(*columns as usize).map(Row::Dense).collect()
            }
            Self::Sparse { offsets, indices, weights, .. } => offsets
                .windows(2)
                .map(|w| {
                    let range = w[0] as usize..w[1] as usize;
                    Row::Sparse(&indices[range.clone()], &weights[range])
                })
                .collect(),
        }
    }
}

impl Linear {
    /// The same operator on those columns alone that have weights, and which they are; `None` for all.
    pub(crate) fn compact(&self) -> (Cow<'_, Self>, Option<Vec<usize>>) {
        let Matrix::Sparse { columns, offsets, indices, weights } = &self.matrix else {
            return (Cow::Borrowed(self), None);
        };
        let mut used = indices.clone();
        used.sort_unstable();
        used.dedup();
        if used.is_empty() || used.len() == *columns as usize {
            return (Cow::Borrowed(self), None);
        }
        let place = |column: &u32| used.partition_point(|other| other < column) as u32;
        let matrix = Matrix::Sparse {
            columns: used.len() as u32,
            offsets: offsets.clone(),
            indices: indices.iter().map(place).collect(),
            weights: weights.clone(),
        };
        let linear = Self { matrix, bias: self.bias.clone() };
        (Cow::Owned(linear), Some(used.into_iter().map(|column| column as usize).collect()))
    }

    /// `matrix · x + bias` on each group of `columns` ciphertexts; `x` holds any number of groups.
    /// The noise variance of row *r* is that of the inputs times the squared 2-norm of the row.
    pub(crate) fn apply(&self, x: &LweList) -> LweList {
        let (width, columns) = (x.width(), self.matrix.columns());
        let rows = self.matrix.kernel_rows();
        let mut data = Vec::with_capacity(x.len() / columns * rows.len() * width);
        for group in x.data.chunks_exact(columns * width) {
            let mut out = Vectors::new(group, width).combine(&rows);
            for (lwe, &bias) in out.chunks_exact_mut(width).zip(&self.bias) {
                lwe[width - 1] = lwe[width - 1].wrapping_add(round(bias));
            }
            data.append(&mut out);
        }
        LweList { dimension: x.dimension, data }
    }
}
