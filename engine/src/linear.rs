//! The operator Linear.

use crate::kernel::{BLOCK, Columns, Row, Sums, Vectors};
use crate::lwe::{LweList, round};
use crate::program::{Linear, Matrix};
use rayon::prelude::*;

impl Matrix {
    /// The rows in the kernel's form.
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

    /// The columns that have weights, ascending. For a thermometer code these are few.
    pub(crate) fn used_columns(&self) -> Vec<u32> {
        match self {
            Self::Dense { columns, .. } => (0..*columns).collect(),
            Self::Sparse { columns, indices, .. } => {
                let mut used = vec![false; *columns as usize];
                indices.iter().for_each(|&column| used[column as usize] = true);
                (0..*columns).filter(|&column| used[column as usize]).collect()
            }
        }
    }
}

impl Linear {
    /// Computes y = W·x + b on each of `groups` groups of `columns` LWE ciphertexts of `dimension` + 1 coefficients,
    /// modulo 2³². `read(group, column, to)` writes ciphertext `x[column]` of a group to `to`; it is called only for
    /// columns that have weights, on the current rayon pool. Result: `groups × rows` ciphertexts of the same dimension.
    /// At most [`BLOCK`] columns are in memory at a time, so memory does not grow with the width of `x`.
    ///
    /// Noise: the variance of y[r] is Σ_c W[r][c]² · Var(x[c]), for independent inputs. The bias adds none.
    pub(crate) fn apply(
        &self,
        dimension: usize,
        groups: usize,
        read: impl Fn(usize, usize, &mut [u32]) + Sync,
    ) -> LweList {
        let width = dimension + 1;
        let rows = self.matrix.kernel_rows();
        let used = self.matrix.used_columns();
        let mut places = Vec::new();
        let mut data = Vec::with_capacity(groups * rows.len() * width);
        for group in 0..groups {
            let mut sums = Sums::zeros(rows.len(), width);
            for columns in used.chunks(BLOCK) {
                let mut block = vec![0; columns.len() * width];
                block
                    .par_chunks_exact_mut(width)
                    .zip(columns)
                    .for_each(|(to, &column)| read(group, column as usize, to));
                let vectors = Vectors::new(&block, width);
                drop(block);
                sums.add(&vectors, &describe(columns, &mut places), &rows);
            }
            let start = data.len();
            sums.append_to(&mut data);
            for (lwe, &bias) in data[start..].chunks_exact_mut(width).zip(&self.bias) {
                lwe[width - 1] = lwe[width - 1].wrapping_add(round(bias));
            }
        }
        LweList { dimension, data }
    }
}

/// Describes ascending columns to the kernel, as a range if none is left out. `places` is a buffer that is reused.
fn describe<'a>(columns: &[u32], places: &'a mut Vec<u16>) -> Columns<'a> {
    let (first, last) = (columns[0] as usize, columns[columns.len() - 1] as usize);
    if last - first + 1 == columns.len() {
        return Columns::Range { first };
    }
    places.clear();
    places.resize(last - first + 1, 0);
    for (place, &column) in columns.iter().enumerate() {
        places[column as usize - first] = place as u16;
    }
    Columns::Some { first, places }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small weights; zero in columns for which `keep` returns false.
    fn weights(rows: usize, columns: usize, keep: impl Fn(usize) -> bool) -> Vec<Vec<i32>> {
        let weight = |r: usize, c: usize| ((r * 31 + c * 17) % 15) as i32 - 7;
        let row = |r: usize| (0..columns).map(|c| if keep(c) { weight(r, c) } else { 0 }).collect();
        (0..rows).map(row).collect()
    }

    fn sparse(all: &[Vec<i32>], columns: usize) -> Matrix {
        let mut offsets = vec![0];
        let (mut indices, mut weights) = (Vec::new(), Vec::new());
        for row in all {
            for (c, &w) in row.iter().enumerate().filter(|&(_, &w)| w != 0) {
                indices.push(c as u32);
                weights.push(w);
            }
            offsets.push(indices.len() as u32);
        }
        Matrix::Sparse { columns: columns as u32, offsets, indices, weights }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Columns with and without weights, below and above a block; dense and sparse.
        #[test]
        fn blocks_of_columns_add_up_to_the_definition(
            columns in 1usize..3 * BLOCK,
            every in 1usize..5,
            rows in 1usize..7,
            groups in 1usize..3,
        ) {
            const DIMENSION: usize = 70;
            let x = |group: usize, column: usize, i: usize| {
                ((group * 7 + column) * 1000 + i) as u32 * 0x9e37_79b9
            };
            let all = weights(rows, columns, |c| c % every == 0);
            let flat = Matrix::Dense {
                rows: rows as u32,
                columns: columns as u32,
                weights: all.concat(),
            };
            let bias: Vec<u64> = (0..rows as u64).map(|r| r << 40).collect();
            let expected: Vec<u32> = (0..groups)
                .flat_map(|g| (0..rows).flat_map(move |r| (0..=DIMENSION).map(move |i| (g, r, i))))
                .map(|(g, r, i)| {
                    let terms = all[r].iter().enumerate();
                    let sum = terms.fold(0u32, |sum, (c, &w)| {
                        sum.wrapping_add(x(g, c, i).wrapping_mul(w as u32))
                    });
                    if i == DIMENSION { sum.wrapping_add(round(bias[r])) } else { sum }
                })
                .collect();
            for matrix in [flat, sparse(&all, columns)] {
                let linear = Linear { matrix, bias: bias.clone() };
                let found = linear.apply(DIMENSION, groups, |group, column, to| {
                    to.iter_mut().enumerate().for_each(|(i, to)| *to = x(group, column, i));
                });
                prop_assert_eq!(&found.data, &expected);
            }
        }
    }
}
