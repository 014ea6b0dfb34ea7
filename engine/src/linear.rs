//! The operator Linear.

use crate::kernel::{Row, Vectors};
use crate::lwe::{LweList, round};
use crate::program::{Linear, Matrix};

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
