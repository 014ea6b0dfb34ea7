//! Cost of a job, computed from its program and its number of rows before the job starts.

use crate::Program;
use crate::input::expanded_bytes;
use crate::kernel::{BLOCK, Row, padded_width};
use crate::parameters::{ANSWER_DIMENSION, PACKING_SIZE};
use crate::program::{Linear, Matrix, Stage};

/// 32-bit multiply-adds that take about as long as one bootstrap. With AVX-512, one core does 1.3·10¹⁰ of them per
/// second, and a bootstrap takes 2 to 8 ms.
const MULTIPLY_ADDS_PER_LOOKUP: u64 = 1 << 25;

/// Multiply-adds that take as long as reading one coefficient of a ciphertext: extracting it from an input takes 3 ns,
/// reading it from a partial result less.
const READING: u64 = 32;

/// The cost of a job, summed over all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Number of bootstraps.
    pub lookups: u64,
    /// Time of everything else (expanding the input, Linears, packing the answer), in units of one bootstrap. At least
    /// 1.
    pub linear: u64,
    /// Bytes that are stored between services: the results of the widest stage of Lookups, or the outputs of a program
    /// without Lookups.
    pub results: u64,
    /// Peak bytes of memory of [`crate::begin`], [`crate::advance`] and [`crate::pack`], input and result included: the
    /// maximum of the three.
    pub memory: u64,
}

impl Program {
    /// The cost of a job of `rows` rows. Takes time linear in the number of stages.
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

    /// LWE dimension of the ciphertexts that the Linear of each stage combines.
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
        // The bodies as decoded (4 bytes each), and widened to 8 bytes before the masks are added.
        message + 4 * values + (8 * values + expanded).max(expanded + applying).max(cutting)
    }

    fn join_memory(&self, rows: u64) -> u64 {
        let ciphertext = bytes(self.parameter_set().output_dimension());
        let advancing = (1..self.stages().len()).map(|stage| {
            let columns = self.stages()[stage].linear.matrix.columns() as u64;
            let (applying, cutting) = self.linear_memory(stage, rows);
            rows * columns * ciphertext + applying.max(cutting)
        });
        // The outputs as bytes, and a decoded copy.
        advancing.fold(2 * rows * self.outputs() as u64 * ciphertext, u64::max)
    }

    /// Peak memory while the Linear of a stage is applied, and while its results are cut into shards.
    fn linear_memory(&self, stage: usize, rows: u64) -> (u64, u64) {
        let set = self.parameter_set();
        let Stage { linear, lookup } = &self.stages()[stage];
        let (dimension, coefficient) = match stage {
            // Modulus-switched to 2N after the first Linear: two bytes per coefficient.
            0 if lookup.is_some() => (set.lwe_dimension, 2),
            0 => (set.lwe_dimension, 4),
            _ => (set.output_dimension(), 4),
        };
        let (columns, results) = (linear.matrix.columns() as u64, linear.matrix.rows() as u64);
        let list = rows * results * bytes(dimension);
        let padded = 4 * padded_width(dimension + 1) as u64;
        // One block of columns, as read and in the kernel's layout; and the sums of one row.
        let block = columns.min(BLOCK as u64) * (bytes(dimension) + padded);
        let sums = results * (padded + size_of::<Row<'_>>() as u64);
        (block + sums + list, list + list / 4 * coefficient)
    }
}

/// Bytes of an LWE ciphertext with 32-bit coefficients.
fn bytes(dimension: usize) -> u64 {
    4 * (dimension as u64 + 1)
}

/// Multiply-adds of a Linear for each ciphertext coefficient.
fn per_coefficient(linear: &Linear) -> u64 {
    let matrix = &linear.matrix;
    let weights = match matrix {
        Matrix::Dense { weights, .. } | Matrix::Sparse { weights, .. } => weights.len() as u64,
    };
    let (rows, columns) = (matrix.rows() as u64, matrix.columns() as u64);
    // Columns without weights are not read. Each row is visited once for each block.
    weights + READING * columns.min(weights) + rows * columns.div_ceil(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{LINEAR, T3X512};
    use crate::{Lookup, Precision};

    fn dense(rows: u32, columns: u32) -> Linear {
        let weights = vec![1; (rows * columns) as usize];
        // All different, so that no two rows share a bootstrap.
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
        // Packing dominates the cost of many outputs: 2048 × 3 × 1600 multiply-adds each.
        assert!(without_lookups(1, 4096).cost(1).linear > 1000);
    }

    #[test]
    fn memory_grows_with_rows_and_results_but_not_with_the_width_of_a_row() {
        let memory = |inputs, outputs, rows| without_lookups(inputs, outputs).cost(rows).memory;
        // All ciphertexts of one row, 65,536 of 2049 coefficients of four bytes each, would take 537 MB.
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
