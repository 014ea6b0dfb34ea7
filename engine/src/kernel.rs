//! The one loop that everything linear runs in: integer combinations of torus vectors.
//!
//! A Linear, a keyswitch and a packing keyswitch are all `out[r] = Σ_c weight[r][c] · x[c]`, where
//! the `x[c]` are ciphertexts or rows of a key. Arithmetic is exact, modulo 2³² or 2⁶⁴. The loop is
//! compiled for several instruction sets and the best is chosen at run time.

use pulp::Arch;
use rayon::prelude::*;

/// The torus, discretised.
pub(crate) trait Torus: Copy + Send + Sync + Default {
    fn add_product(self, x: Self, weight: i32) -> Self;
}

impl Torus for u32 {
    #[inline(always)]
    fn add_product(self, x: Self, weight: i32) -> Self {
        self.wrapping_add(x.wrapping_mul(weight as Self))
    }
}

impl Torus for u64 {
    #[inline(always)]
    fn add_product(self, x: Self, weight: i32) -> Self {
        self.wrapping_add(x.wrapping_mul(i64::from(weight) as Self))
    }
}

/// One row of an integer matrix.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    /// A weight for each column.
    Dense(&'a [i32]),
    /// Column indices and their weights.
    Sparse(&'a [u32], &'a [i32]),
}

/// Columns worked on at once: the sums stay in registers.
const TILE: usize = 64;
/// Rows of `x` worked on before the next output: a tile of them stays in the second-level cache.
const BLOCK: usize = 1024;

/// `rows` times `x`, where `x` holds vectors of `width` elements one after another. Runs on the
/// current rayon pool.
pub(crate) fn combine<T: Torus>(x: &[T], width: usize, rows: &[Row<'_>]) -> Vec<T> {
    let tiles: Vec<(usize, Vec<T>)> = (0..width)
        .into_par_iter()
        .step_by(TILE)
        .map(|start| {
            let length = TILE.min(width - start);
            (start, Arch::new().dispatch(|| tile(x, width, start, length, rows)))
        })
        .collect();
    let mut out = vec![T::default(); rows.len() * width];
    for (start, tile) in tiles {
        let length = TILE.min(width - start);
        for (to, from) in out.chunks_exact_mut(width).zip(tile.chunks_exact(TILE)) {
            to[start..start + length].copy_from_slice(&from[..length]);
        }
    }
    out
}

#[inline(always)]
fn tile<T: Torus>(x: &[T], width: usize, start: usize, length: usize, rows: &[Row<'_>]) -> Vec<T> {
    let mut out = vec![T::default(); rows.len() * TILE];
    let count = x.len() / width;
    for block in (0..count).step_by(BLOCK) {
        let end = (block + BLOCK).min(count);
        for (sum, row) in out.chunks_exact_mut(TILE).zip(rows) {
            let sum: &mut [T; TILE] = sum.try_into().expect("chunks of TILE");
            match row {
                Row::Dense(weights) => {
                    let terms = (block..end).map(|c| (c, weights[c]));
                    accumulate(sum, x, width, start, length, terms);
                }
                Row::Sparse(indices, weights) => {
                    // Indices ascend, so a block is a contiguous part of the row.
                    let from = indices.partition_point(|&c| (c as usize) < block);
                    let to = indices.partition_point(|&c| (c as usize) < end);
                    let terms = (from..to).map(|i| (indices[i] as usize, weights[i]));
                    accumulate(sum, x, width, start, length, terms);
                }
            }
        }
    }
    out
}

#[inline(always)]
fn accumulate<T: Torus>(
    sum: &mut [T; TILE],
    x: &[T],
    width: usize,
    start: usize,
    length: usize,
    terms: impl Iterator<Item = (usize, i32)>,
) {
    if length == TILE {
        let mut local = *sum;
        for (c, weight) in terms {
            let at = c * width + start;
            let from: &[T; TILE] = x[at..at + TILE].try_into().expect("TILE elements");
            for (s, &value) in local.iter_mut().zip(from) {
                *s = s.add_product(value, weight);
            }
        }
        *sum = local;
    } else {
        for (c, weight) in terms {
            let at = c * width + start;
            for (s, &value) in sum.iter_mut().zip(&x[at..at + length]) {
                *s = s.add_product(value, weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain<T: Torus>(x: &[T], width: usize, rows: &[Vec<i32>]) -> Vec<T> {
        let mut out = Vec::new();
        for row in rows {
            for i in 0..width {
                let term = |sum: T, (c, &w): (usize, &i32)| sum.add_product(x[c * width + i], w);
                out.push(row.iter().enumerate().fold(T::default(), term));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn dense_and_sparse_agree_with_the_definition(
            width in 1usize..150,
            columns in 1usize..2100,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                state >> 20
            };
            let x: Vec<u32> = (0..width * columns).map(|_| next() as u32).collect();
            let wide: Vec<u64> = x.iter().map(|&v| u64::from(v) << 31).collect();
            let rows: Vec<Vec<i32>> = (0..3)
                .map(|_| (0..columns).map(|_| (next() % 511) as i32 - 255).collect())
                .collect();
            let dense: Vec<Row<'_>> = rows.iter().map(|row| Row::Dense(row)).collect();
            let indices: Vec<u32> = (0..columns as u32).collect();
            let sparse: Vec<Row<'_>> = rows.iter().map(|row| Row::Sparse(&indices, row)).collect();
            let expected = plain(&x, width, &rows);
            prop_assert_eq!(&combine(&x, width, &dense), &expected);
            prop_assert_eq!(&combine(&x, width, &sparse), &expected);
            prop_assert_eq!(combine(&wide, width, &dense), plain(&wide, width, &rows));
        }
    }
}
