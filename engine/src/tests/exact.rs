//! `exact` programs agree bit for bit with integer arithmetic.

use super::*;
use crate::parameters::T2X1024;

/// A program over small integers, and its layers for plain integer arithmetic.
struct Integers {
    program: Program,
    input_bits: u32,
    layers: Vec<Layer>,
    output_bits: u32,
}

struct Layer {
    weights: Vec<Vec<i32>>,
    biases: Vec<i64>,
    tables: Vec<Vec<i64>>,
}

/// Bits of an accumulator: the set supports 3 with a failure probability below 2⁻¹²⁸.
const BITS: u32 = 3;

impl Integers {
    /// Random shapes, weights and tables, such that no accumulator leaves its range.
    fn random(rng: &mut StdRng) -> Self {
        let depth = rng.random_range(1..=2);
        let output_bits = 6;
        let mut width = rng.random_range(1..=6);
        let input_bits = 1;
        let mut layers = Vec::new();
        let mut stages = Vec::new();
        // Values that enter a layer lie in 0..=top.
        let mut top = (1i64 << input_bits) - 1;
        for layer in 0..=depth {
            let last = layer == depth;
            let bits = if last { output_bits } else { BITS };
            let room = (1i64 << bits) - 1;
            let rows = rng.random_range(1..=3);
            let mut weights = Vec::new();
            let mut biases = Vec::new();
            for _ in 0..rows {
                let mut left = room;
                let mut row = vec![0; width];
                for w in &mut row {
                    let bound = (left / top).min(2) as i32;
                    *w = rng.random_range(-bound..=bound);
                    left -= i64::from(w.abs()) * top;
                }
                let lowest: i64 = row.iter().filter(|&&w| w < 0).map(|&w| i64::from(w) * top).sum();
                weights.push(row);
                // Shifts the row's range to start at 0, plus a random part of the remaining range.
                biases.push(rng.random_range(0..=left) - lowest);
            }
            let next_top = if layer + 1 == depth { 3 } else { 1 };
            let tables: Vec<Vec<i64>> = if last {
                Vec::new()
            } else {
                (0..rows)
                    .map(|_| (0..1 << bits).map(|_| rng.random_range(0..=next_top)).collect())
                    .collect()
            };
            let next_bits = if layer + 1 == depth { output_bits } else { BITS };
            stages.push(stage(
                &weights,
                &biases,
                &tables,
                bits,
                next_bits,
                layer + 1 == depth,
                last,
            ));
            layers.push(Layer { weights, biases, tables });
            (width, top) = (rows, next_top);
        }
        let precision = Precision::Exact { output_bits };
        let program = Program::new(&T2X1024, precision, stages).unwrap();
        Self { program, input_bits, layers, output_bits }
    }

    fn reference(&self, row: &[i64]) -> Vec<i64> {
        let mut values = row.to_vec();
        for Layer { weights, biases, tables } in &self.layers {
            values = weights
                .iter()
                .zip(biases)
                .map(|(w, b)| {
                    w.iter().zip(&values).map(|(&w, v)| i64::from(w) * v).sum::<i64>() + b
                })
                .collect();
            for (value, table) in values.iter_mut().zip(tables) {
                *value = table[*value as usize];
            }
        }
        values
    }
}

/// One step of an accumulator of `bits` bits: 2^bits steps are half the torus before a Lookup, the whole torus for
/// outputs.
fn unit(bits: u32, output: bool) -> u64 {
    1 << (if output { 64 - bits } else { 63 - bits })
}

fn stage(
    weights: &[Vec<i32>],
    biases: &[i64],
    tables: &[Vec<i64>],
    bits: u32,
    next_bits: u32,
    next_is_output: bool,
    last: bool,
) -> Stage {
    let step = unit(bits, last);
    let matrix = Matrix::Dense {
        rows: weights.len() as u32,
        columns: weights[0].len() as u32,
        weights: weights.concat(),
    };
    // Half a step more before a Lookup turns rounding down into rounding to nearest.
    let half = if last { 0 } else { step / 2 };
    let bias = biases.iter().map(|&b| (b as u64).wrapping_mul(step).wrapping_add(half)).collect();
    let next = unit(next_bits, next_is_output);
    let lookup = (!last).then(|| Lookup {
        tables: tables
            .iter()
            .map(|t| t.iter().map(|&v| (v as u64).wrapping_mul(next)).collect())
            .collect(),
        table_of: (0..tables.len() as u32).collect(),
    });
    Stage { linear: Linear { matrix, bias }, lookup }
}

#[test]
fn a_thousand_random_programs_agree_with_integer_arithmetic() {
    let keys = Keys::generate(&T2X1024);
    for seed in 0..1000 {
        let mut rng = random(seed);
        let integers = Integers::random(&mut rng);
        let failure = integers.program.failure_log2().unwrap();
        assert!(failure < -128.0, "seed {seed}: failure probability 2^{failure}");
        let row: Vec<i64> = (0..integers.program.inputs())
            .map(|_| rng.random_range(0..1 << integers.input_bits))
            .collect();
        let encoded = row.iter().map(|&v| v as u64 * unit(BITS, false)).collect();
        let answer = keys.infer(&integers.program, &[encoded]);
        let step = unit(integers.output_bits, true);
        let decoded: Vec<i64> =
            answer[0].iter().map(|&v| (v.wrapping_add(step / 2) / step) as i64).collect();
        assert_eq!(decoded, integers.reference(&row), "seed {seed}");
    }
}
