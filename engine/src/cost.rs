//! What a job takes, by its program and its number of rows: known before anything is computed for it.

use crate::Program;
use crate::input::expanded_bytes;
use crate::kernel::{BLOCK, Row, padded_width};
use crate::parameters::{ANSWER_DIMENSION, PACKING_SIZE};
use crate::program::{Linear, Matrix, Stage};

/// Multiplications and additions of 32 bits that take about as long as one bootstrap: with AVX-512, on one core, the
/// kernel does 1.3·10¹⁰ of them a second, and a bootstrap takes 2 to 8 ms.
const MULTIPLY_ADDS_PER_LOOKUP: u64 = 1 << 25;

/// Extracting one coefficient of a ciphertext from an input takes 3 ns, which is as long as some of them; reading it from
/// a partial takes less.
const READING: u64 = 32;

/// The cost of a job, on all services together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bootstraps.
    pub lookups: u64,
    /// The time that everything else takes (expanding the input, Linears, packing the answer), in bootstraps that take
    /// as long. At least one.
    pub linear: u64,
    /// Bytes of the results of the widest stage of Lookups, or of the outputs of a program without Lookups: what waits
    /// between services.
    pub results: u64,
    /// Bytes of memory that [`crate::begin`], [`crate::advance`] or [`crate::pack`] takes, its input and its result
    /// included: the most of the three.
    pub memory: u64,
}

impl Program {
    /// What a job of `rows` rows takes. Linear in the number of stages.
    #[must_use]
    pub fn cost(&self, rows: usize) -> Cost {
        let set = self.parameter_set();
        let rows = rows as u64;
        let outputs = self.outputs() as u64;
        let stored = if self.stages().len() == 1 { outputs } else { self.widest_lookup() as u64 };
        Cost {
            lookups: rows * self.lookups_per_row() as u64,
            linear: self.multiply_adds(rows).div_ceil(MULTIPLY_ADDS_PER_LOOKUP).max(1),
            results: rows * stored * bytes(set.output_dimension()),
            memory: self.begin_memory(rows).max(self.join_memory(rows)),
        }
    }

    fn multiply_adds(&self, rows: u64) -> u64 {
        let set = self.parameter_set();
        let linears = self.stages().iter().zip(self.dimensions());
        let linears = linears
            .map(|(stage, dimension)| per_coefficient(&stage.linear) * (dimension as u64 + 1));
        let packed =
            (ANSWER_DIMENSION + PACKING_SIZE) * set.output_dimension() * set.packing.levels;
        rows.saturating_mul(linears.sum::<u64>() + self.outputs() as u64 * packed as u64)
    }

    /// LWE dimensions of what the Linear of each stage takes and gives.
    fn dimensions(&self) -> impl Iterator<Item = usize> {
        let set = self.parameter_set();
        let later = std::iter::repeat(set.output_dimension());
        std::iter::once(set.lwe_dimension).chain(later)
    }

    fn begin_memory(&self, rows: u64) -> u64 {
        let (set, columns) = (self.parameter_set(), self.inputs());
        let values = rows * columns as u64;
        let message = self.input_bytes(rows as usize) as u64;
        let expanded = expanded_bytes(set, rows as usize, columns) as u64;
        let (applying, cutting) = self.linear_memory(0, rows);
        // The bodies as they are decoded, and widened for the masks to be added.
        message + 4 * values + (8 * values + expanded).max(expanded + applying).max(cutting)
    }

    fn join_memory(&self, rows: u64) -> u64 {
        let ciphertext = bytes(self.parameter_set().output_dimension());
        let advancing = (1..self.stages().len()).map(|stage| {
            let columns = self.stages()[stage].linear.matrix.columns() as u64;
            let (applying, cutting) = self.linear_memory(stage, rows);
            rows * columns * ciphertext + applying.max(cutting)
        });
        // The outputs, and once more as they are packed.
        advancing.fold(2 * rows * self.outputs() as u64 * ciphertext, u64::max)
    }

    /// Memory while the Linear of a stage is applied, and while its results are cut into shards.
    fn linear_memory(&self, stage: usize, rows: u64) -> (u64, u64) {
        let set = self.parameter_set();
        let Stage { linear, lookup } = &self.stages()[stage];
        let (dimension, coefficient) = match stage {
            // After the first Linear they go modulo 2N at once: two bytes a coefficient.
            0 if lookup.is_some() => (set.lwe_dimension, 2),
            0 => (set.lwe_dimension, 4),
            _ => (set.output_dimension(), 4),
        };
        let (columns, results) = (linear.matrix.columns() as u64, linear.matrix.rows() as u64);
        let list = rows * results * bytes(dimension);
        let padded = 4 * padded_width(dimension + 1) as u64;
        // One block, as it is read and as the kernel takes it; and the sums of one row.
        let block = columns.min(BLOCK as u64) * (bytes(dimension) + padded);
        let sums = results * (padded + size_of::<Row<'_>>() as u64);
        (block + sums + list, list + list / 4 * coefficient)
    }
}

/// Of a ciphertext of 32 bits a coefficient.
fn bytes(dimension: usize) -> u64 {
    4 * (dimension as u64 + 1)
}

/// Multiplications and additions that a Linear takes for each coefficient of a ciphertext.
fn per_coefficient(linear: &Linear) -> u64 {
    let matrix = &linear.matrix;
    let weights = match matrix {
        Matrix::Dense { weights, .. } | Matrix::Sparse { weights, .. } => weights.len() as u64,
    };
    let (rows, columns) = (matrix.rows() as u64, matrix.columns() as u64);
    // Columns without weights are not read, and in each block each row is looked at.
    weights + READING * columns.min(weights) + rows * columns.div_ceil(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{LINEAR, T3X512};
    use crate::{Lookup, Precision};

    fn dense(rows: u32, columns: u32) -> Linear {
        let weights = vec![1; (rows * columns) as usize];
        // Each its own, so that no two rows share a bootstrap.
        let bias = (0..u64::from(rows)).collect();
        Linear { matrix: Matrix::Dense { rows, columns, weights }, bias }
    }

    fn without_lookups(inputs: u32, outputs: u32) -> Program {
        let stage = Stage { linear: dense(outputs, inputs), lookup: None };
        Program::new(&LINEAR, Precision::Approximate, vec![stage]).unwrap()
    }

    #[test]
    fn a_program_without_lookups_is_not_free() {
        let (small, wide) = (without_lookups(64, 10), without_lookups(1 << 16, 10));
        let (few, many) = (small.cost(1), wide.cost(2));
        assert_eq!((few.lookups, many.lookups), (0, 0));
        // 2 × 65,536 × 10 weights for 2049 coefficients are 2.7·10⁹ multiply-adds, and reading is three times that.
        assert!(few.linear <= 16 && (160..1000).contains(&many.linear), "{few:?} {many:?}");
        assert_eq!(few.results, 10 * 4 * 2049);
        // Packing is what many outputs cost: 2048 × 3 × 1600 multiply-adds each.
        assert!(without_lookups(1, 4096).cost(1).linear > 1000);
    }

    #[test]
    fn memory_grows_with_rows_and_results_but_not_with_the_width_of_a_row() {
        let memory = |inputs, outputs, rows| without_lookups(inputs, outputs).cost(rows).memory;
        // All ciphertexts of a row are 2049 coefficients of four bytes each: 537 MB.
        assert!(memory(1 << 16, 1, 2) < 64 << 20, "{}", memory(1 << 16, 1, 2));
        assert!(memory(1, 1 << 14, 2) > 2 * (1 << 14) * 2049 * 4);
    }

    #[test]
    fn the_join_counts_what_it_reads_and_what_it_writes() {
        let lookup = Lookup { tables: vec![vec![0; 16]], table_of: vec![0; 100] };
        let stages = vec![
            Stage { linear: dense(100, 8), lookup: Some(lookup.clone()) },
            Stage { linear: dense(100, 100), lookup: Some(lookup) },
            Stage { linear: dense(10, 100), lookup: None },
        ];
        let program = Program::new(&T3X512, Precision::Approximate, stages).unwrap();
        let cost = program.cost(100);
        assert_eq!((cost.lookups, cost.results), (100 * 200, 100 * 100 * 1537 * 4));
        assert!(cost.memory >= 3 * cost.results && cost.memory < 4 * cost.results, "{cost:?}");
    }
}
