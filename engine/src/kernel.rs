//! The loop that computes integer combinations of torus vectors.
//!
//! Linear, keyswitch and packing keyswitch all compute `out[r] = Σ_c weight[r][c] · x[c]`, where the `x[c]` are
//! ciphertexts or rows of a key. Arithmetic is exact, modulo 2³². The loop is compiled for several instruction sets,
//! and the best one is selected at run time.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// One row of an integer matrix.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    /// A weight for each column.
    Dense(&'a [i32]),
    /// Column indices and their weights.
    Sparse(&'a [u32], &'a [i32]),
}

/// Elements of a vector that are processed together: their sums stay in registers.
const TILE: usize = 64;
/// Vectors of a tile that are processed before the next output row: they stay in the second-level cache.
pub(crate) const BLOCK: usize = 1024;

/// Dense rows that are processed together: as many as the registers can hold sums for.
const TOGETHER: usize = 4;

/// Elements that a vector of `width` takes in memory, padding included.
pub(crate) fn padded_width(width: usize) -> usize {
    width.next_multiple_of(TILE)
}

/// Torus vectors of one width, laid out for [`Vectors::combine`]: the first [`TILE`] elements of all vectors, then the
/// next [`TILE`] of all, and so on. The last tile is padded with zeros. Elements that are read together are adjacent,
/// which reduces memory traffic for keys of tens of megabytes.
pub(crate) struct Vectors {
    width: usize,
    count: usize,
    tiles: Vec<u32>,
}

impl Vectors {
    /// From vectors of `width` elements, stored consecutively.
    pub(crate) fn new(data: &[u32], width: usize) -> Self {
        let mut vectors = Self::zeros(data.len() / width, width);
        vectors.set(0, data);
        vectors
    }

    /// `count` vectors of `width` zeros.
    pub(crate) fn zeros(count: usize, width: usize) -> Self {
        Self { width, count, tiles: vec![0; width.div_ceil(TILE) * count * TILE] }
    }

    /// Replaces the vectors from index `first` on by those in `data`, stored consecutively.
    pub(crate) fn set(&mut self, first: usize, data: &[u32]) {
        let Self { width, count, tiles } = self;
        for (t, tile) in tiles.chunks_exact_mut(*count * TILE).enumerate() {
            let places = tile.chunks_exact_mut(TILE).skip(first);
            for (to, from) in places.zip(data.chunks_exact(*width)) {
                let from = &from[t * TILE..(*width).min((t + 1) * TILE)];
                to[..from.len()].copy_from_slice(from);
            }
        }
    }

    /// The weighted sum of all vectors for each of `rows`, stored consecutively. Runs on the current rayon pool.
    pub(crate) fn combine(&self, rows: &[Row<'_>]) -> Vec<u32> {
        let mut sums = Sums::zeros(rows.len(), self.width);
        sums.add(self, &Columns::Range { first: 0 }, rows);
        let mut out = Vec::with_capacity(rows.len() * self.width);
        sums.append_to(&mut out);
        out
    }

    /// Memory that the vectors take, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
    }
}

/// The columns of a matrix that a block of vectors represents.
#[derive(Clone, Copy)]
pub(crate) enum Columns<'a> {
    /// Consecutive columns, one for each vector.
    Range {
        /// The first column.
        first: usize,
    },
    /// At most [`BLOCK`] columns that need not be consecutive. Only for matrices whose rows are all sparse and that
    /// have no weights in the columns between.
    Some {
        /// The first column.
        first: usize,
        /// For each column from `first` to the last: the index of its vector.
        places: &'a [u16],
    },
}

/// Weighted sums of vectors that are not all in memory at once: columns are added block by block.
pub(crate) struct Sums {
    width: usize,
    /// Laid out as in [`Vectors`].
    tiles: Vec<u32>,
    rows: usize,
}

impl Sums {
    /// Sums of `rows` rows, all zero.
    pub(crate) fn zeros(rows: usize, width: usize) -> Self {
        Self { width, tiles: vec![0; width.div_ceil(TILE) * rows * TILE], rows }
    }

    /// Adds the contribution of these columns to each row. Runs on the current rayon pool.
    pub(crate) fn add(&mut self, vectors: &Vectors, columns: &Columns<'_>, rows: &[Row<'_>]) {
        let tiles = vectors.tiles.par_chunks(vectors.count * TILE);
        self.tiles.par_chunks_mut(self.rows * TILE).zip(tiles).for_each(|(sums, tile)| {
            Arch::new().dispatch(Combine { tile, columns, rows, sums });
        });
    }

    /// Appends the sums, row by row, without padding.
    pub(crate) fn append_to(&self, out: &mut Vec<u32>) {
        let start = out.len();
        out.resize(start + self.rows * self.width, 0);
        for (t, tile) in self.tiles.chunks_exact(self.rows * TILE).enumerate() {
            let rows = out[start..].chunks_exact_mut(self.width);
            for (to, from) in rows.zip(tile.chunks_exact(TILE)) {
                let to = &mut to[t * TILE..self.width.min((t + 1) * TILE)];
                to.copy_from_slice(&from[..to.len()]);
            }
        }
    }
}

/// The work on one tile. A type instead of a closure, because a closure is not always inlined into the code for an
/// instruction set and then runs on the baseline one.
struct Combine<'a> {
    tile: &'a [u32],
    columns: &'a Columns<'a>,
    rows: &'a [Row<'a>],
    sums: &'a mut [u32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (vectors, _) = self.tile.as_chunks::<TILE>();
        let (sums, _) = self.sums.as_chunks_mut::<TILE>();
        match *self.columns {
            Columns::Range { first } => combine_tile(vectors, first, self.rows, sums),
            Columns::Some { first, places } => {
                combine_some(vectors, first, places, self.rows, sums);
            }
        }
    }
}

#[inline(always)]
fn combine_tile(vectors: &[[u32; TILE]], first: usize, rows: &[Row<'_>], sums: &mut [[u32; TILE]]) {
    for (b, block) in vectors.chunks(BLOCK).enumerate() {
        let start = first + b * BLOCK;
        let end = start + block.len();
        for (sums, rows) in sums.chunks_mut(TOGETHER).zip(rows.chunks(TOGETHER)) {
            if let (
                [s0, s1, s2, s3],
                [Row::Dense(w0), Row::Dense(w1), Row::Dense(w2), Row::Dense(w3)],
            ) = (&mut *sums, rows)
            {
                let weights = [w0, w1, w2, w3].map(|w| &w[start..end]);
                accumulate_together([s0, s1, s2, s3], block, weights);
                continue;
            }
            for (sum, row) in sums.iter_mut().zip(rows) {
                match row {
                    Row::Dense(weights) => {
                        accumulate(sum, block.iter().zip(&weights[start..end]));
                    }
                    Row::Sparse(indices, weights) => {
                        let (indices, weights) = part(indices, weights, start..end);
                        let block = indices.iter().map(|&c| &block[c as usize - start]);
                        accumulate(sum, block.zip(weights));
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn combine_some(
    vectors: &[[u32; TILE]],
    first: usize,
    places: &[u16],
    rows: &[Row<'_>],
    sums: &mut [[u32; TILE]],
) {
    for (sum, row) in sums.iter_mut().zip(rows) {
        let Row::Sparse(indices, weights) = row else {
            unreachable!("the row is dense, but some columns are left out");
        };
        let (indices, weights) = part(indices, weights, first..first + places.len());
        let of = |&c: &u32| &vectors[usize::from(places[c as usize - first])];
        accumulate(sum, indices.iter().map(of).zip(weights));
    }
}

/// The entries of a sparse row that lie in `columns`. Indices ascend, so these entries are consecutive.
#[inline(always)]
fn part<'a>(
    indices: &'a [u32],
    weights: &'a [i32],
    columns: Range<usize>,
) -> (&'a [u32], &'a [i32]) {
    let from = indices.partition_point(|&c| (c as usize) < columns.start);
    let to = indices.partition_point(|&c| (c as usize) < columns.end);
    (&indices[from..to], &weights[from..to])
}

#[inline(always)]
fn accumulate<'a>(sum: &mut [u32; TILE], terms: impl Iterator<Item = (&'a [u32; TILE], &'a i32)>) {
    let mut local = *sum;
    for (vector, &weight) in terms {
        for (s, &x) in local.iter_mut().zip(vector) {
            *s = s.wrapping_add(x.wrapping_mul(weight as u32));
        }
    }
    *sum = local;
}

/// Processes [`TOGETHER`] rows in one pass, so that each vector is loaded once for all of them.
#[inline(always)]
fn accumulate_together(
    sums: [&mut [u32; TILE]; TOGETHER],
    block: &[[u32; TILE]],
    weights: [&[i32]; TOGETHER],
) {
    let [s0, s1, s2, s3] = sums;
    let (mut l0, mut l1, mut l2, mut l3) = (*s0, *s1, *s2, *s3);
    let [w0, w1, w2, w3] = weights;
    for ((((vector, &w0), &w1), &w2), &w3) in block.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
        for i in 0..TILE {
            let x = vector[i];
            l0[i] = l0[i].wrapping_add(x.wrapping_mul(w0 as u32));
            l1[i] = l1[i].wrapping_add(x.wrapping_mul(w1 as u32));
            l2[i] = l2[i].wrapping_add(x.wrapping_mul(w2 as u32));
            l3[i] = l3[i].wrapping_add(x.wrapping_mul(w3 as u32));
        }
    }
    (*s0, *s1, *s2, *s3) = (l0, l1, l2, l3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(x: &[u32], width: usize, rows: &[Vec<i32>]) -> Vec<u32> {
        let mut out = Vec::new();
        for row in rows {
            for i in 0..width {
                let term = |sum: u32, (c, &w): (usize, &i32)| {
                    sum.wrapping_add(x[c * width + i].wrapping_mul(w as u32))
                };
                out.push(row.iter().enumerate().fold(0, term));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn dense_and_sparse_agree_with_the_definition(
            width in 1usize..150,
            columns in 1usize..2100,
            count in 1usize..10,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                state >> 20
            };
            let x: Vec<u32> = (0..width * columns).map(|_| next() as u32).collect();
            let rows: Vec<Vec<i32>> = (0..count)
                .map(|_| (0..columns).map(|_| (next() % 511) as i32 - 255).collect())
                .collect();
            let dense: Vec<Row<'_>> = rows.iter().map(|row| Row::Dense(row)).collect();
            let indices: Vec<u32> = (0..columns as u32).collect();
            let sparse: Vec<Row<'_>> = rows.iter().map(|row| Row::Sparse(&indices, row)).collect();
            let expected = plain(&x, width, &rows);
            let narrow = Vectors::new(&x, width);
            prop_assert_eq!(&narrow.combine(&dense), &expected);
            prop_assert_eq!(&narrow.combine(&sparse), &expected);
            let mixed: Vec<Row<'_>> =
                (0..count).map(|i| if i == 5 { sparse[i] } else { dense[i] }).collect();
            prop_assert_eq!(&narrow.combine(&mixed), &expected);
        }
    }
}
