//! The operator Lookup: keyswitch, modulus switch, programmable bootstrap.

use crate::kernel::Row;
use crate::keys::BootstrapKey;
use crate::lwe::{LweList, round};
use crate::parameters::Bootstrap;
use crate::timings::{Operator, Timings};
use crate::transform::Aligned;
use aligned_vec::avec;
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;

/// Number of values that one thread bootstraps in one pass over the key.
pub const BATCH: usize = 32;

/// An LWE ciphertext modulo 2*N*, the input of blind rotation. The body comes last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) coefficients: Vec<u16>,
}

impl Switched {
    fn body(&self) -> usize {
        self.coefficients[self.coefficients.len() - 1].into()
    }
}

/// log₂ of the modulus 2*N* of a set's Lookup inputs.
pub(crate) fn log_modulus(bootstrap: &Bootstrap) -> usize {
    bootstrap.polynomial_size.ilog2() as usize + 1
}

/// Modulus switch: an LWE ciphertext modulo 2³² becomes one modulo 2^`log_modulus` = 2*N*, with the noise of
/// [`crate::noise::modulus_switch`]. Half the sum of the mask's rounding errors is added to the body. This cancels
/// their mean effect under a binary key and halves their variance. `tfhe`'s function also subtracts half a step from
/// the body, which turns rounding to nearest into rounding down, as [`crate::Lookup`] defines it.
pub(crate) fn switch(lwe: &[u32], log_modulus: usize) -> Switched {
    let lwe = LweCiphertext::from_container(lwe, CiphertextModulus::new_native());
    let modulus = CiphertextModulusLog(log_modulus);
    let switched = lwe_ciphertext_centered_binary_modulus_switch::<u32, u32, _>(lwe, modulus);
    let coefficients = switched.mask().chain([switched.body()]).map(|c| c as u16).collect();
    Switched { coefficients }
}

/// Keyswitches LWE ciphertexts from the accumulator's key (dimension *kN*) to the input key (dimension *n*): (0, b) −
/// Σᵢⱼ dᵢⱼ · KSKᵢⱼ, where dᵢⱼ are the digits of mask coefficient i. The message stays the same;
/// [`crate::noise::keyswitch`] gives the noise that is added. Chillotti et al. 2020, section 4.1.
pub(crate) fn keyswitch(key: &BootstrapKey, list: &LweList) -> LweList {
    let width = key.set.lwe_dimension + 1;
    let digits: Vec<Vec<i32>> = list
        .data
        .par_chunks_exact(list.width())
        .map(|lwe| {
            let mask = lwe[..list.dimension].iter().map(|&c| u64::from(c) << 32);
            crate::decompose::digits(key.bootstrap.keyswitch, mask)
        })
        .collect();
    let rows: Vec<Row<'_>> = digits.iter().map(|row| Row::Dense(row)).collect();
    let mut data = key.keyswitch.combine(&rows);
    for (out, lwe) in data.chunks_exact_mut(width).zip(list.iter()) {
        for coefficient in out.iter_mut() {
            *coefficient = coefficient.wrapping_neg();
        }
        out[width - 1] = out[width - 1].wrapping_add(lwe[list.dimension]);
    }
    LweList { dimension: key.set.lwe_dimension, data }
}

/// Bootstraps each input x (modulo 2*N*) with its own table T, on the current rayon pool. For each offset d in the
/// input's list, one result: an LWE ciphertext of *kN* + 1 coefficients of 32 bits that decrypts to the entry d places
/// after that of x, with the noise of [`crate::noise::bootstrap`]. All offsets share one blind rotation. Chillotti,
/// Joye and Paillier, *Programmable Bootstrapping Enables Efficient Homomorphic Inference* (2021).
pub(crate) fn bootstrap(
    key: &BootstrapKey,
    inputs: &[Switched],
    tables: &[(&[u64], &[usize])],
    timings: &Timings,
) -> LweList {
    let threads = rayon::current_num_threads();
    // The fewest rounds with batches of at most `BATCH`, all of about the same size.
    let rounds = inputs.len().div_ceil(threads * BATCH).max(1);
    let batch = inputs.len().div_ceil(threads * rounds).max(1);
    let outputs: Vec<Vec<u32>> = inputs
        .par_chunks(batch)
        .zip(tables.par_chunks(batch))
        .map(|(inputs, tables)| {
            timings
                .count(Operator::Bootstrap, inputs.len(), || batch_bootstrap(key, inputs, tables))
        })
        .collect();
    LweList { dimension: key.set.output_dimension(), data: outputs.concat() }
}

fn batch_bootstrap(
    key: &BootstrapKey,
    inputs: &[Switched],
    tables: &[(&[u64], &[usize])],
) -> Vec<u32> {
    let size = key.bootstrap.polynomial_size;
    let width = key.set.output_dimension() + size;
    let mut accumulators: Aligned<u32> = avec![[64]| 0; inputs.len() * width];
    let each = accumulators.chunks_exact_mut(width).zip(inputs).zip(tables);
    for ((accumulator, input), (table, _)) in each {
        fill(&mut accumulator[width - size..], table, input.body());
    }
    key.rotation.rotate(&mut accumulators, inputs);

    let modulus = CiphertextModulus::<u32>::new_native();
    let mut lwe = LweCiphertext::new(0, LweSize(key.set.output_dimension() + 1), modulus);
    let mut data = Vec::with_capacity(inputs.len() * lwe.as_ref().len());
    for (accumulator, (table, ahead)) in accumulators.chunks_exact(width).zip(tables) {
        let accumulator =
            GlweCiphertext::from_container(accumulator, PolynomialSize(size), modulus);
        for &entries in *ahead {
            let degree = entries * (size / table.len());
            let coefficient = MonomialDegree(degree % size);
            extract_lwe_sample_from_glwe_ciphertext(&accumulator, &mut lwe, coefficient);
            // X^N = -1.
            let sign = if degree < size { 1 } else { u32::MAX };
            data.extend(lwe.as_ref().iter().map(|&c| c.wrapping_mul(sign)));
        }
    }
    data
}

/// Fills the accumulator's body polynomial: each table entry repeated *N* / length times, divided by *X*^body modulo
/// *X*^N + 1.
fn fill(polynomial: &mut [u32], table: &[u64], body: usize) {
    let size = polynomial.len();
    let repeat = size / table.len();
    for (j, coefficient) in polynomial.iter_mut().enumerate() {
        let from = (j + body) % (2 * size);
        let entry = round(table[from % size / repeat]);
        *coefficient = if from < size { entry } else { entry.wrapping_neg() };
    }
}
