//! Tests of the whole engine. They use production sets where security or noise matters, insecure sets elsewhere.

mod bad_input;
mod exact;
mod golden;
mod inference;
mod noise;
mod portable;
mod share;

use crate::parameters::ParameterSet;
use crate::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// All keys of one client and its servers.
struct Keys {
    client: ClientKey,
    evaluation: EvaluationKey,
    bootstrap: Option<BootstrapKey>,
    packing: PackingKey,
}

impl Keys {
    fn generate(set: &'static ParameterSet) -> Self {
        let (client, evaluation) = ClientKey::generate(set);
        let bootstrap = set.bootstrap.map(|_| BootstrapKey::expand(&evaluation).unwrap());
        let packing = PackingKey::expand(&evaluation).unwrap();
        Self { client, evaluation, bootstrap, packing }
    }

    /// Encrypts, computes and decrypts.
    fn infer(&self, program: &Program, rows: &[Vec<u64>]) -> Vec<Vec<u64>> {
        let timings = Timings::default();
        let input = encrypt(&self.client, program, rows).unwrap();
        let mut step = begin(program, &input, 16, &timings).unwrap();
        let outputs = loop {
            match step {
                Step::Outputs(outputs) => break outputs,
                Step::Lookups { stage, shards } => {
                    let key = self.bootstrap.as_ref().unwrap();
                    let partials: Vec<Vec<u8>> = shards
                        .iter()
                        .map(|shard| evaluate(program, key, &shard.bytes, &timings).unwrap())
                        .collect();
                    let partials: Vec<&[u8]> = partials.iter().map(Vec::as_slice).collect();
                    step = advance(program, stage, &partials, 16, &timings).unwrap();
                }
            }
        };
        let answer = pack(program, &self.packing, &outputs, &timings).unwrap();
        decrypt(&self.client, &Answer::decode(&answer, program).unwrap()).unwrap().to_vec()
    }
}

fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// The signed distance from `b` to `a`, as a fraction of the torus.
fn distance(a: u64, b: u64) -> f64 {
    a.wrapping_sub(b) as i64 as f64 / 2f64.powi(64)
}

/// A dense matrix of weights up to `bound` in absolute value.
fn dense(rng: &mut StdRng, rows: usize, columns: usize, bound: i32) -> Matrix {
    let weights = (0..rows * columns).map(|_| rng.random_range(-bound..=bound)).collect();
    Matrix::Dense { rows: rows as u32, columns: columns as u32, weights }
}

/// A table of the identity: maps [0, ½), read as [−¼, ¼), to itself times `scale`.
fn identity(entries: usize, scale: f64) -> Vec<u64> {
    (0..entries)
        .map(|i| {
            let x = (i as f64 + 0.5) / (2.0 * entries as f64) - 0.25;
            (x * scale * 2f64.powi(64)) as i64 as u64
        })
        .collect()
}
