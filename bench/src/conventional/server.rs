//! The server: runs the operators one after the other.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;

use super::client::{words, write};
use super::parameters::*;
use super::plan::{Plan, Step};

type Lwe = LweCiphertextOwned<u64>;
type Table = GlweCiphertextOwned<u64>;

/// A server with a client's evaluation key.
pub(crate) struct Server {
    plan: Plan,
    /// Accumulators of each layer's lookup tables, ready to be rotated.
    tables: Vec<Vec<Table>>,
    bootstrap: FourierLweBootstrapKeyOwned,
    keyswitch: LweKeyswitchKeyOwned<u64>,
}

impl Server {
    /// Decodes an evaluation key and prepares it.
    pub(crate) fn new(plan: Plan, key: Vec<u8>) -> Result<Self> {
        check(&plan)?;
        let expected = 8 * (BSK_WORDS + KSK_WORDS);
        ensure!(key.len() == expected, "expected {expected} bytes, found {}", key.len());
        let glwe_size = GLWE_DIMENSION.to_glwe_size();
        let standard = LweBootstrapKey::from_container(
            words(&key[..8 * BSK_WORDS]),
            glwe_size,
            POLYNOMIAL_SIZE,
            PBS_BASE_LOG,
            PBS_LEVEL,
            MODULUS,
        );
        let keyswitch = LweKeyswitchKey::from_container(
            words(&key[8 * BSK_WORDS..]),
            KS_BASE_LOG,
            KS_LEVEL,
            LWE_DIMENSION.to_lwe_size(),
            MODULUS,
        );
        drop(key);
        let mut bootstrap = FourierLweBootstrapKey::new(
            LWE_DIMENSION,
            glwe_size,
            POLYNOMIAL_SIZE,
            PBS_BASE_LOG,
            PBS_LEVEL,
        );
        par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut bootstrap);
        drop(standard);
        let accumulator = |table: &Vec<u64>| {
            let plaintexts = PlaintextList::from_container(table.as_slice());
            allocate_and_trivially_encrypt_new_glwe_ciphertext(glwe_size, &plaintexts, MODULUS)
        };
        let tables = plan.layers.iter().map(|step| step.tables.iter().map(accumulator).collect());
        let tables = tables.collect();
        Ok(Self { plan, tables, bootstrap, keyswitch })
    }

    /// Computes an answer from an input.
    pub(crate) fn answer(&self, input: &[u8]) -> Result<Vec<u8>> {
        let expected = 8 * BIG_SIZE.0 * self.plan.inputs;
        ensure!(input.len() == expected, "expected {expected} bytes, found {}", input.len());
        let mut values: Vec<Lwe> = input
            .chunks_exact(8 * BIG_SIZE.0)
            .map(|bytes| LweCiphertext::from_container(words(bytes), MODULUS))
            .collect();
        for (step, tables) in self.plan.layers.iter().zip(&self.tables) {
            values = matrix_product(step, &values);
            add_bias(step, &mut values);
            for table in tables {
                values = values.par_iter().map(|value| self.look_up(value, table)).collect();
            }
        }
        let mut answer = Vec::with_capacity(8 * BIG_SIZE.0 * values.len());
        values.iter().for_each(|value| write(&mut answer, value.as_ref()));
        Ok(answer)
    }

    fn look_up(&self, value: &Lwe, table: &Table) -> Lwe {
        let mut small = LweCiphertext::new(0, LWE_DIMENSION.to_lwe_size(), MODULUS);
        keyswitch_lwe_ciphertext(&self.keyswitch, value, &mut small);
        let mut result = LweCiphertext::new(0, BIG_SIZE, MODULUS);
        programmable_bootstrap_lwe_ciphertext(&small, &mut result, table, &self.bootstrap);
        result
    }
}

/// Matrix product of Gemm, without the bias.
fn matrix_product(step: &Step, values: &[Lwe]) -> Vec<Lwe> {
    let row = |row: &Vec<(u32, i32)>| {
        let mut sum = LweCiphertext::new(0, BIG_SIZE, MODULUS);
        let mut term = LweCiphertext::new(0, BIG_SIZE, MODULUS);
        for &(column, weight) in row {
            let weight = Cleartext(i64::from(weight) as u64);
            lwe_ciphertext_cleartext_mul(&mut term, &values[column as usize], weight);
            lwe_ciphertext_add_assign(&mut sum, &term);
        }
        sum
    };
    step.rows.par_iter().map(row).collect()
}

fn add_bias(step: &Step, values: &mut [Lwe]) {
    for (value, &bias) in values.iter_mut().zip(&step.bias) {
        lwe_ciphertext_plaintext_add_assign(value, Plaintext(bias));
    }
}

/// Checks that sizes agree from one layer to the next.
fn check(plan: &Plan) -> Result<()> {
    let mut width = plan.inputs;
    for (i, Step { rows, bias, tables }) in plan.layers.iter().enumerate() {
        let fits = rows.iter().flatten().all(|&(column, _)| (column as usize) < width)
            && bias.len() == rows.len()
            && tables.iter().all(|table| table.len() == POLYNOMIAL_SIZE.0);
        ensure!(fits, "layer {i} of the plan does not fit its {width} inputs");
        width = rows.len();
    }
    Ok(())
}
