//! Matrices, dense or sparse.

use serde::{Deserialize, Serialize};

use hermesh_engine::MAX_WIDTH;

use crate::{Error, bounded};

/// A matrix of floating-point weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Matrix {
    /// All entries, row after row.
    Dense {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
        /// `rows × cols` entries, row-major.
        values: Vec<f64>,
    },
    /// Only the entries that are not zero. Convolutions and poolings have this form.
    Sparse(Sparse),
}

/// A matrix in compressed sparse row form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sparse {
    /// Number of columns.
    pub cols: usize,
    /// Row `r` holds entries `offsets[r] .. offsets[r + 1]`; one more than there are rows.
    #[serde(deserialize_with = "bounded::list::<_, _, { MAX_WIDTH + 1 }>")]
    pub offsets: Vec<usize>,
    /// The column of each entry, increasing within a row.
    pub columns: Vec<u32>,
    /// The value of each entry.
    pub values: Vec<f64>,
}

impl Sparse {
    /// A matrix without rows.
    pub(crate) fn new(cols: usize) -> Sparse {
        Sparse { cols, offsets: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Appends one entry to the row that [`Sparse::end_row`] will close; zeros are left out.
    pub(crate) fn push(&mut self, column: usize, value: f64) {
        if value != 0.0 {
            self.columns.push(column as u32);
            self.values.push(value);
        }
    }

    pub(crate) fn end_row(&mut self) {
        self.offsets.push(self.values.len());
    }

    /// One entry per row: `value` at `column`.
    pub(crate) fn one_per_row(cols: usize, entries: impl Iterator<Item = (usize, f64)>) -> Sparse {
        let mut sparse = Sparse::new(cols);
        for (column, value) in entries {
            sparse.push(column, value);
            sparse.end_row();
        }
        sparse
    }
}

impl Matrix {
    /// Number of rows: the values it yields.
    pub fn rows(&self) -> usize {
        match self {
            Matrix::Dense { rows, .. } => *rows,
            Matrix::Sparse(sparse) => sparse.offsets.len().saturating_sub(1),
        }
    }

    /// Number of columns: the values it takes.
    pub fn cols(&self) -> usize {
        match self {
            Matrix::Dense { cols, .. } => *cols,
            Matrix::Sparse(sparse) => sparse.cols,
        }
    }

    /// Stored entries, all of them for a dense matrix.
    pub fn entries(&self) -> usize {
        self.values().len()
    }

    /// The stored entries' values, row after row.
    pub fn values(&self) -> &[f64] {
        match self {
            Matrix::Dense { values, .. } => values,
            Matrix::Sparse(sparse) => &sparse.values,
        }
    }

    /// The stored entries of row `r` as (column, value), columns increasing.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, r: usize) -> impl ExactSizeIterator<Item = (usize, f64)> + '_ {
        let (columns, values) = match self {
            Matrix::Dense { cols, values, .. } => (None, &values[r * cols..(r + 1) * cols]),
            Matrix::Sparse(sparse) => {
                let range = sparse.offsets[r]..sparse.offsets[r + 1];
                (Some(&sparse.columns[range.clone()]), &sparse.values[range])
            }
        };
        let column = move |i: usize| columns.map_or(i, |columns| columns[i] as usize);
        values.iter().enumerate().map(move |(i, &value)| (column(i), value))
    }

    /// The stored values of row `r`, mutable.
    pub(crate) fn row_values_mut(&mut self, r: usize) -> &mut [f64] {
        match self {
            Matrix::Dense { cols, values, .. } => &mut values[r * *cols..(r + 1) * *cols],
            Matrix::Sparse(sparse) => &mut sparse.values[sparse.offsets[r]..sparse.offsets[r + 1]],
        }
    }

    /// Row `r` times `x`.
    pub(crate) fn dot(&self, r: usize, x: &[f64]) -> f64 {
        match self {
            Matrix::Dense { cols, values, .. } => dot(&values[r * cols..(r + 1) * cols], x),
            Matrix::Sparse(_) => self.row(r).map(|(column, value)| value * x[column]).sum(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let malformed = |reason: String| Err(Error::Network { reason });
        match self {
            Matrix::Dense { rows, cols, values } => {
                if rows.checked_mul(*cols) != Some(values.len()) {
                    return malformed(format!(
                        "a {rows} × {cols} matrix holds {} values",
                        values.len()
                    ));
                }
            }
            Matrix::Sparse(Sparse { cols, offsets, columns, values }) => {
                if offsets.first() != Some(&0)
                    || offsets.last() != Some(&values.len())
                    || columns.len() != values.len()
                    || !offsets.is_sorted()
                {
                    return malformed(
                        "row offsets of a sparse matrix do not match its entries".into(),
                    );
                }
                for row in offsets.windows(2) {
                    let row = &columns[row[0]..row[1]];
                    if !row.is_sorted_by(|a, b| a < b)
                        || row.last().is_some_and(|&last| last as usize >= *cols)
                    {
                        return malformed(format!(
                            "columns of a sparse row are not increasing below {cols}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The dot product with eight running sums, which the compiler can vectorise; it may not reorder a single one.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}
