//! The attacked client, of a model with one stage of Lookups, and an observer's view of an inference.
//!
//! The observer knows the program, the input in the clear, and everything that a server has. From the input's
//! ciphertexts the observer computes those that enter the Lookups, and the rounding error of each of their coefficients
//! (the modulus switch). The sum of these rounding errors times the key bits is most of the noise in the answer.

use anyhow::{Context, Result, bail, ensure};
use hermesh_client::compute::Evaluator;
use hermesh_client::model;
use hermesh_compiler::{Model, normal};
use hermesh_engine::artifact::mend_digest;
use hermesh_engine::{
    ClientKey, Linear, Lookup, Precision, Program, Stage, Step, Timings, begin, encrypt, noise,
    torus,
};
use rand::Rng;
use rand::rngs::StdRng;

/// Start of every message of the engine: header, digest of the key, digest of the program.
const PROGRAM_AT: usize = 10 + 32;
const NAMES_END: usize = PROGRAM_AT + 32;

/// A model, prepared for the attack.
pub(crate) struct Target<'a> {
    pub(crate) model: &'a Model,
    first: &'a Linear,
    lookup: &'a Lookup,
    last: &'a Linear,
    /// Standard deviation of the noise at the input of Lookups, in turns, by value.
    entering: Vec<f64>,
    /// Value of one turn of the torus, by output.
    scales: Vec<f64>,
    /// Standard deviation of the noise in each output.
    pub(crate) sigmas: Vec<f64>,
}

/// An observer's predictions about a row before an output is shown.
pub(crate) struct Foreseen {
    /// Mean of each output.
    pub(crate) outputs: Vec<f64>,
    /// Mean slope of each Lookup: change of its result per change of its input.
    slopes: Vec<f64>,
}

/// One inference.
pub(crate) struct Seen {
    /// Rounding error of each coefficient of the mask of each Lookup, in turns. Public.
    mask: Vec<Vec<f64>>,
    /// Rounding error of the body of each Lookup, less half the sum of the mask's. Public.
    body: Vec<f64>,
    /// The decrypted outputs.
    pub(crate) outputs: Vec<f64>,
}

/// `output = Σ coefficient · (bit − ½) + known + other noise`.
pub(crate) struct Equation {
    pub(crate) coefficients: Vec<f64>,
    pub(crate) known: f64,
}

impl<'a> Target<'a> {
    pub(crate) fn new(model: &'a Model) -> Result<Self> {
        let program = model.program();
        let [Stage { linear: first, lookup: Some(lookup) }, Stage { linear: last, lookup: None }] =
            program.stages()
        else {
            bail!(
                "expected a model with one stage of Lookups, found {} stages",
                program.stages().len() - 1
            );
        };
        ensure!(
            program.precision() == Precision::Approximate,
            "expected an approximate model, found an exact one, whose answers have no noise"
        );
        ensure!(
            (0..first.matrix.rows()).all(|value| lookup.table(value).is_some()),
            "expected a table for every value of the first stage"
        );
        let entering = program.noise()[0].input.iter().map(|variance| variance.sqrt()).collect();
        let at = |x: u64| model.decode_outputs(&vec![x; program.outputs()]);
        let (zero, eighth) = (at(0), at(1 << 61));
        let scales = eighth.iter().zip(&zero).map(|(x, zero)| 8.0 * (x - zero)).collect();
        let sigmas = model.resolution().iter().map(|step| step / 4.0).collect();
        Ok(Self { model, first, lookup, last, entering, scales, sigmas })
    }

    pub(crate) fn key_bits(&self) -> usize {
        self.model.program().parameter_set().lwe_dimension
    }

    fn sums(&self, row: &[u64]) -> Vec<u64> {
        let sum = |value: usize| {
            self.first.matrix.row(value).fold(self.first.bias[value], |sum, (column, weight)| {
                sum.wrapping_add(row[column].wrapping_mul(i64::from(weight) as u64))
            })
        };
        (0..self.first.matrix.rows()).map(sum).collect()
    }

    fn outputs(&self, looked_up: &[f64]) -> Vec<f64> {
        let sum = |output: usize| {
            let bias = self.last.bias[output] as i64 as f64 / 2f64.powi(64);
            self.last
                .matrix
                .row(output)
                .fold(bias, |sum, (value, w)| sum + f64::from(w) * looked_up[value])
        };
        let turns: Vec<u64> =
            (0..self.last.matrix.rows()).map(|output| torus(sum(output))).collect();
        self.model.decode_outputs(&turns)
    }

    fn entry(&self, value: usize, phase: u64) -> f64 {
        self.lookup.entry(value, phase) as i64 as f64 / 2f64.powi(64)
    }

    /// The mean result of each Lookup and its mean slope, by Gauss–Hermite quadrature with three points.
    pub(crate) fn foresee(&self, row: &[u64]) -> Foreseen {
        let sums = self.sums(row);
        let (means, slopes): (Vec<f64>, Vec<f64>) = sums
            .iter()
            .enumerate()
            .map(|(value, &sum)| {
                let away = 3f64.sqrt() * self.entering[value];
                let at = |offset: f64| self.entry(value, sum.wrapping_add(torus(offset)));
                let (low, middle, high) = (at(-away), at(0.0), at(away));
                // The difference of two entries may wrap around the torus.
                let near = |x: f64| x - (x - middle).round();
                let (low, high) = (near(low), near(high));
                let mean = (low + 4.0 * middle + high) / 6.0;
                (mean, (high - low) / (2.0 * away))
            })
            .unzip();
        Foreseen { outputs: self.outputs(&means), slopes }
    }

    /// The equations that the outputs of an inference give.
    pub(crate) fn equations(&self, foreseen: &Foreseen, seen: &Seen) -> Vec<Equation> {
        let equation = |output: usize| {
            let mut coefficients = vec![0.0; self.key_bits()];
            let mut known = foreseen.outputs[output];
            for (value, weight) in self.last.matrix.row(output) {
                let factor = self.scales[output] * f64::from(weight) * foreseen.slopes[value];
                known += factor * seen.body[value];
                for (sum, error) in coefficients.iter_mut().zip(&seen.mask[value]) {
                    *sum -= factor * error;
                }
            }
            Equation { coefficients, known }
        };
        (0..self.last.matrix.rows()).map(equation).collect()
    }

    /// An inference without encryption. Rounding errors are uniform, because coefficients of ciphertexts are; all other
    /// noise is normal, with the variances that the engine's tests have measured.
    pub(crate) fn simulate(&self, key: &[f64], row: &[u64], rng: &mut StdRng) -> Seen {
        let program = self.model.program();
        let set = program.parameter_set();
        let step = set.bootstrap.map_or(0.0, |b| 0.5 / b.polynomial_size as f64);
        let (fresh, bootstrap) = (noise::fresh(set).sqrt(), noise::bootstrap(set).sqrt());
        let fresh: Vec<f64> = row.iter().map(|_| fresh * normal(rng)).collect();
        let (mut mask, mut body, mut looked_up) = (Vec::new(), Vec::new(), Vec::new());
        for (value, sum) in self.sums(row).into_iter().enumerate() {
            let errors: Vec<f64> = key.iter().map(|_| (rng.random::<f64>() - 0.5) * step).collect();
            let of_body = (rng.random::<f64>() - 0.5) * step;
            let of_key: f64 = errors.iter().zip(key).map(|(error, bit)| error * bit).sum();
            let of_input: f64 =
                self.first.matrix.row(value).map(|(c, w)| f64::from(w) * fresh[c]).sum();
            let phase = sum.wrapping_add(torus(of_body - of_key + of_input));
            looked_up.push(self.entry(value, phase) + bootstrap * normal(rng));
            mask.push(errors);
            body.push(of_body);
        }
        let packing = noise::packing(set, program.outputs()).sqrt();
        let mut outputs = self.outputs(&looked_up);
        for (x, scale) in outputs.iter_mut().zip(&self.scales) {
            *x += scale * packing * normal(rng);
        }
        Seen { mask, body, outputs }
    }

    /// A real inference. The rounding errors come from public bytes: the input, and the shard that goes to evaluation.
    pub(crate) fn infer(
        &self,
        key: &ClientKey,
        server: &Evaluator<'_>,
        row: &[u64],
    ) -> Result<Seen> {
        let program = self.model.program();
        let input = encrypt(key, program, &[row.to_vec()])?;
        let timings = Timings::default();
        let Step::Lookups { shards, .. } = begin(program, &input, usize::MAX, &timings)? else {
            bail!("expected Lookups, found none");
        };
        let [shard] = &shards[..] else {
            bail!("expected one shard, found {}", shards.len());
        };
        // A program that stops before the Lookups gives the same ciphertexts before rounding.
        let stages = vec![Stage { linear: self.first.clone(), lookup: None }];
        let before = Program::new(program.parameter_set(), Precision::Approximate, stages)?;
        let mut renamed = input.clone();
        renamed[PROGRAM_AT..NAMES_END].copy_from_slice(&before.digest());
        let renamed = mend_digest(renamed);
        let Step::Outputs(exact) = begin(&before, &renamed, usize::MAX, &timings)? else {
            bail!("expected outputs, found Lookups");
        };
        let width = self.key_bits() + 1;
        let exact: Vec<u32> =
            exact[NAMES_END + 4..].as_chunks().0.iter().map(|&c| u32::from_le_bytes(c)).collect();
        let rounded: Vec<u16> = shard.bytes[NAMES_END + 16..]
            .as_chunks()
            .0
            .iter()
            .map(|&c| u16::from_le_bytes(c))
            .collect();
        let bits = program.parameter_set().bootstrap.context("a set without Lookups")?;
        let shift = 31 - bits.polynomial_size.ilog2();
        let turns = |x: u32| f64::from(x as i32) / 2f64.powi(32);
        let (mut mask, mut body) = (Vec::new(), Vec::new());
        for (exact, rounded) in exact.chunks_exact(width).zip(rounded.chunks_exact(width)) {
            let error = |i: usize| (u32::from(rounded[i]) << shift).wrapping_sub(exact[i]);
            let errors: Vec<f64> = (0..width - 1).map(|i| turns(error(i))).collect();
            // A Lookup rounds down, so values are placed in the middle of a step.
            let middle = error(width - 1).wrapping_add(1 << (shift - 1));
            body.push(turns(middle) - errors.iter().sum::<f64>() / 2.0);
            mask.push(errors);
        }
        let answer = server.compute(&input, |_| {})?;
        let mut outputs = model::decrypt_outputs(self.model, key, &answer)?;
        let outputs = outputs.pop().context("an answer without rows")?;
        Ok(Seen { mask, body, outputs })
    }
}

/// The input key's bits less ½, to count how many the attack gets wrong.
pub(crate) fn true_bits(key: &ClientKey) -> Vec<f64> {
    let encoded = key.encode();
    let bits = &encoded[NAMES_END - 32..][..key.parameter_set().lwe_dimension];
    bits.iter().map(|&bit| f64::from(bit) - 0.5).collect()
}
