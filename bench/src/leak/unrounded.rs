//! Recovers the answer key from unrounded outputs: each is a linear equation modulo 2²⁴ without noise.
//!
//! An answer is (a, b) modulo 2²⁴, and the client decrypts it to exactly b − ⟨a, s⟩. The observer has a and b, and sees
//! the result. The attack needs no knowledge of inputs.

use anyhow::{Context, Result, ensure};
use hermesh_client::compute::{self, Evaluator};
use hermesh_client::model;
use hermesh_compiler::Model;
use hermesh_engine::artifact::DIGEST_BYTES;
use hermesh_engine::parameters::{ANSWER_BITS, ANSWER_DIMENSION, PACKING_SIZE};
use hermesh_engine::{ClientKey, Precision, encrypt};
use serde::Serialize;

/// Header and two digests, then the number of rows.
const HEADER: usize = 10 + 64 + 4;
/// Equations beyond the number of key bits, because some depend on others modulo 2.
const SPARE: usize = 64;
const MASK: u32 = (1 << ANSWER_BITS) - 1;

/// Result of the attack.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    parameter_set: &'static str,
    key_bits: usize,
    pub(crate) inferences: usize,
    /// Number of shown unrounded outputs.
    pub(crate) shown: usize,
    /// Number of wrong bits of the answer key.
    pub(crate) wrong: usize,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}: {} unrounded outputs of {} inferences give {} of the {} bits of the answer key.",
            self.parameter_set,
            self.shown,
            self.inferences,
            self.key_bits - self.wrong,
            self.key_bits
        )
    }
}

/// Equations modulo 2²⁴, reduced to triangular form as they are added.
#[derive(Default)]
struct Triangle {
    /// Pivot column of a row, and the row: coefficients, then the right side. A row is zero in the pivot columns of
    /// earlier rows.
    rows: Vec<(usize, Vec<u32>)>,
}

impl Triangle {
    fn add(&mut self, mut row: Vec<u32>) {
        let subtract = |row: &mut [u32], times: u32, other: &[u32]| {
            for (x, y) in row.iter_mut().zip(other) {
                *x = x.wrapping_sub(times.wrapping_mul(*y));
            }
        };
        for (column, other) in &self.rows {
            let times = row[*column];
            if times & MASK != 0 {
                subtract(&mut row, times, other);
            }
        }
        // Odd numbers have an inverse modulo a power of two.
        let unknowns = row.len() - 1;
        if let Some(column) = row[..unknowns].iter().position(|c| c % 2 == 1) {
            let inverse = inverse(row[column]);
            row.iter_mut().for_each(|x| *x = x.wrapping_mul(inverse));
            self.rows.push((column, row));
        }
    }

    /// Solves for the unknowns, if there is a row for each.
    fn solve(&self, unknowns: usize) -> Option<Vec<u32>> {
        if self.rows.len() < unknowns {
            return None;
        }
        let mut found = vec![0u32; unknowns];
        for (column, row) in self.rows.iter().rev() {
            // Unknowns not solved yet have coefficient zero in this row.
            let known = row[..unknowns].iter().zip(&found).map(|(c, x)| c.wrapping_mul(*x));
            let sum = known.fold(0u32, u32::wrapping_add);
            found[*column] = row[unknowns].wrapping_sub(sum) & MASK;
        }
        Some(found)
    }
}

/// Newton's iteration: each step doubles the number of right bits, starting from three.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x))))
}

/// Encrypts, computes and shows outputs until the key is determined.
pub(crate) fn run(model: &Model, inputs: &[&[f64]]) -> Result<Found> {
    let program = model.program();
    let set = program.parameter_set();
    ensure!(
        program.precision() == Precision::Approximate && program.outputs() <= PACKING_SIZE,
        "expected an approximate model of at most {PACKING_SIZE} outputs"
    );
    let pool = compute::pool(None)?;
    let (key, evaluation) = ClientKey::generate(set);
    let server = Evaluator::new(program, &evaluation, &pool)?;
    let at = |x: u64| model.decode_outputs(&vec![x; program.outputs()]);
    let (zero, eighth) = (at(0), at(1 << 61));
    let (mut triangle, mut inferences, mut shown) = (Triangle::default(), 0, 0);
    let found = loop {
        let row = model.encode_row(inputs[inferences % inputs.len()])?;
        let answer = server.compute(&encrypt(&key, program, &[row])?, |_| {})?;
        let outputs = model::decrypt_outputs(model, &key, &answer)?.pop().context("no row")?;
        inferences += 1;
        let (coefficients, _) = answer[HEADER..].as_chunks::<{ ANSWER_BITS / 8 }>();
        let coefficients: Vec<u32> =
            coefficients.iter().map(|&[a, b, c]| u32::from_le_bytes([a, b, c, 0])).collect();
        for (slot, x) in outputs.iter().enumerate() {
            let turns = (x - zero[slot]) / (8.0 * (eighth[slot] - zero[slot]));
            let phase = (turns * f64::from(1u32 << ANSWER_BITS)).round() as i64 as u32;
            let mut row = slot_coefficients(&coefficients[..ANSWER_DIMENSION], slot);
            row.push(coefficients[ANSWER_DIMENSION + slot].wrapping_sub(phase));
            triangle.add(row);
            shown += 1;
        }
        if let Some(found) = triangle.solve(ANSWER_DIMENSION) {
            break found;
        }
        ensure!(shown < ANSWER_DIMENSION + SPARE, "{shown} equations do not determine the key");
    };
    let encoded = key.encode();
    let end = encoded.len() - DIGEST_BYTES;
    let bits = &encoded[end - ANSWER_DIMENSION..end];
    let wrong = found.iter().zip(bits).filter(|(found, bit)| **found != u32::from(**bit)).count();
    let key_bits = ANSWER_DIMENSION;
    Ok(Found { parameter_set: set.name, key_bits, inferences, shown, wrong })
}

/// Coefficient of each key bit in one slot, from products of polynomials modulo X⁶⁴ + 1.
fn slot_coefficients(mask: &[u32], slot: usize) -> Vec<u32> {
    let coefficient = |polynomial: &[u32], bit: usize| match bit <= slot {
        true => polynomial[slot - bit],
        false => polynomial[PACKING_SIZE + slot - bit].wrapping_neg(),
    };
    mask.chunks_exact(PACKING_SIZE)
        .flat_map(|polynomial| (0..PACKING_SIZE).map(move |bit| coefficient(polynomial, bit)))
        .collect()
}
