//! The client: keys, encryption, decryption.

use anyhow::{Result, ensure};
use hermesh_compiler::Model;
use hermesh_compiler::network::Label;
use tfhe::core_crypto::prelude::*;

use super::parameters::*;
use super::plan::Quantised;

/// A client with its client key.
pub(crate) struct Client<'a> {
    model: &'a Model,
    quantised: Quantised,
    key: LweSecretKeyOwned<u64>,
    random: EncryptionRandomGenerator<DefaultRandomGenerator>,
}

impl<'a> Client<'a> {
    /// Makes keys. The bytes are the evaluation key: the bootstrapping key, then the keyswitching key. `model`
    /// interprets the outputs.
    pub(crate) fn generate(model: &'a Model, quantised: Quantised) -> (Self, Vec<u8>) {
        let mut seeder = new_seeder();
        let seeder = seeder.as_mut();
        let mut secrets = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
        let mut random = EncryptionRandomGenerator::new(seeder.seed(), seeder);
        let small = allocate_and_generate_new_binary_lwe_secret_key(LWE_DIMENSION, &mut secrets);
        let glwe = allocate_and_generate_new_binary_glwe_secret_key(
            GLWE_DIMENSION,
            POLYNOMIAL_SIZE,
            &mut secrets,
        );
        let mut evaluation = Vec::with_capacity(8 * (BSK_WORDS + KSK_WORDS));
        let bootstrap = par_allocate_and_generate_new_lwe_bootstrap_key(
            &small,
            &glwe,
            PBS_BASE_LOG,
            PBS_LEVEL,
            glwe_noise(),
            MODULUS,
            &mut random,
        );
        write(&mut evaluation, bootstrap.as_ref());
        let key = glwe.into_lwe_secret_key();
        let keyswitch = allocate_and_generate_new_lwe_keyswitch_key(
            &key,
            &small,
            KS_BASE_LOG,
            KS_LEVEL,
            lwe_noise(),
            MODULUS,
            &mut random,
        );
        write(&mut evaluation, keyswitch.as_ref());
        (Self { model, quantised, key, random }, evaluation)
    }

    /// The network's outputs in an answer.
    pub(super) fn outputs(&self, answer: &[u8]) -> Result<Vec<f64>> {
        let expected = 8 * BIG_SIZE.0 * self.quantised.plan.outputs();
        ensure!(answer.len() == expected, "expected {expected} bytes, found {}", answer.len());
        let plaintexts: Vec<u64> = words(answer)
            .chunks_exact(BIG_SIZE.0)
            .map(|lwe| {
                decrypt_lwe_ciphertext(&self.key, &LweCiphertext::from_container(lwe, MODULUS)).0
            })
            .collect();
        Ok(self.quantised.decode(&plaintexts))
    }
}

impl crate::compare::Client for Client<'_> {
    fn encrypt(&mut self, row: &[f64]) -> Result<Vec<u8>> {
        let plaintexts = self.quantised.encode(row);
        let mut bytes = Vec::with_capacity(8 * BIG_SIZE.0 * plaintexts.len());
        for plaintext in plaintexts {
            let lwe = allocate_and_encrypt_new_lwe_ciphertext(
                &self.key,
                Plaintext(plaintext),
                glwe_noise(),
                MODULUS,
                &mut self.random,
            );
            write(&mut bytes, lwe.as_ref());
        }
        Ok(bytes)
    }

    fn label(&self, answer: &[u8]) -> Result<Option<Label>> {
        Ok(self.model.interpret(&self.outputs(answer)?).label)
    }
}

/// Appends coefficients, 8 bytes each.
pub(super) fn write(bytes: &mut Vec<u8>, words: &[u64]) {
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// Reads the coefficients that [`write()`] wrote.
pub(super) fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect()
}
