//! Measured noise against predicted noise, under the production sets.

use super::*;
use crate::decompose::digits;
use crate::lookup::{bootstrap, keyswitch, log_modulus, switch};
use crate::lwe::{LweList, round};
use crate::noise as predicted;
use crate::parameters::{
    LINEAR, T1X2048, T1X2048N672, T1X2048N672L2, T1X4096, T1X4096N736, T1X8192N800, T2X1024,
    T2X1024N640, T3X512, T3X512N640, T4X512, T4X512N640, gaussian,
};

const BOOTSTRAPPED: [&ParameterSet; 12] = [
    &T4X512N640,
    &T3X512N640,
    &T3X512,
    &T2X1024N640,
    &T4X512,
    &T2X1024,
    &T1X2048N672,
    &T1X2048,
    &T1X2048N672L2,
    &T1X4096N736,
    &T1X4096,
    &T1X8192N800,
];
use tfhe::core_crypto::prelude::*;

/// Keys whose secrets the test knows.
struct Open {
    small: LweSecretKey<Vec<u64>>,
    large: LweSecretKey<Vec<u64>>,
    key: BootstrapKey,
}

fn open(set: &'static ParameterSet) -> Open {
    let mut seeder = new_seeder();
    let mut secrets = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
    let mut secret = |dimension: usize| {
        allocate_and_generate_new_binary_lwe_secret_key::<u64, _>(
            LweDimension(dimension),
            &mut secrets,
        )
    };
    let (small, large) = (secret(set.lwe_dimension), secret(set.output_dimension()));
    let key = crate::keys::BootstrapKey::from_secrets(set, small.as_ref(), large.as_ref());
    Open { small, large, key }
}

impl Open {
    /// Encrypts `plain` under one of the keys with negligible noise.
    fn encrypt(&self, under: &LweSecretKey<Vec<u64>>, plain: &[u64]) -> LweList {
        let mut seeder = new_seeder();
        let seed = seeder.seed();
        let mut generator =
            EncryptionRandomGenerator::<DefaultRandomGenerator>::new(seed, seeder.as_mut());
        let dimension = under.lwe_dimension().0;
        let mut data = Vec::new();
        for &p in plain {
            let lwe = allocate_and_encrypt_new_lwe_ciphertext(
                under,
                Plaintext(p),
                gaussian(-45.0),
                CiphertextModulus::new_native(),
                &mut generator,
            );
            data.extend(lwe.as_ref().iter().map(|&c| round(c)));
        }
        LweList { dimension, data }
    }
}

fn phase(key: &LweSecretKey<Vec<u64>>, lwe: &[u32]) -> u64 {
    let wide = lwe.iter().map(|&c| u64::from(c) << 32).collect::<Vec<_>>();
    decrypt_lwe_ciphertext(
        key,
        &LweCiphertext::from_container(wide, CiphertextModulus::new_native()),
    )
    .0
}

fn variance(errors: &[f64]) -> f64 {
    errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64
}

/// The relative error of a variance estimated from `n` samples has standard deviation √(2/n). The tolerance is 5 of
/// those, and 5 % for effects that the formulas leave out.
fn assert_close(what: &str, measured: f64, predicted: f64, n: usize) {
    let ratio = measured / predicted;
    let tolerance = 0.05 + 5.0 * (2.0 / n as f64).sqrt();
    assert!(
        (ratio - 1.0).abs() < tolerance,
        "{what}: measured 2^{:.2}, predicted 2^{:.2}, ratio {ratio:.3}, tolerance {tolerance:.3}",
        measured.log2() / 2.0,
        predicted.log2() / 2.0,
    );
}

#[test]
fn keyswitch_and_modulus_switch() {
    for set in BOOTSTRAPPED {
        let open = open(set);
        let mut rng = random(5);
        // Keyswitches from large dimensions are slow.
        let n = if set.output_dimension() > 2048 { 400 } else { 2000 };
        let plain: Vec<u64> = (0..n).map(|_| rng.random()).collect();
        let large = open.encrypt(&open.large, &plain);
        let small = keyswitch(&open.key, &large);
        let errors: Vec<f64> =
            small.iter().zip(&plain).map(|(c, &p)| distance(phase(&open.small, c), p)).collect();
        assert_close("keyswitch", variance(&errors), predicted::keyswitch(set), n);

        let log_modulus = log_modulus(&open.key.bootstrap);
        let fresh = open.encrypt(&open.small, &plain);
        let errors: Vec<f64> = fresh
            .iter()
            .zip(&plain)
            .map(|(c, &p)| {
                let switched = switch(c, log_modulus);
                let wide: Vec<u32> = switched
                    .coefficients
                    .iter()
                    .map(|&c| u32::from(c) << (32 - log_modulus))
                    .collect();
                // Rounding down is off by half a step on average.
                let half = 1u64 << (63 - log_modulus);
                distance(phase(&open.small, &wide).wrapping_add(half), p)
            })
            .collect();
        assert_close("modulus switch", variance(&errors), predicted::modulus_switch(set), n);
    }
}

#[test]
fn bootstrap_output() {
    for set in BOOTSTRAPPED {
        let open = open(set);
        // The largest set takes a tenth of a second for each.
        let n = match open.key.bootstrap.polynomial_size {
            8192 => 100,
            4096 => 200,
            _ => 600,
        };
        let table = vec![1u64 << 60];
        let plain = vec![1u64 << 62; n];
        let inputs: Vec<_> = open
            .encrypt(&open.small, &plain)
            .iter()
            .map(|c| switch(c, log_modulus(&open.key.bootstrap)))
            .collect();
        let tables = vec![(table.as_slice(), &[0][..]); n];
        let out = bootstrap(&open.key, &inputs, &tables, &Timings::default());
        let errors: Vec<f64> =
            out.iter().map(|c| distance(phase(&open.large, c), 1 << 60)).collect();
        assert_close("bootstrap", variance(&errors), predicted::bootstrap(set), n);
    }
}

#[test]
fn linear_multiplies_variance_by_the_squared_norm() {
    let set = &T4X512;
    let (client, _) = ClientKey::generate(set);
    let mut rng = random(6);
    let (rows, columns) = (1500, 100);
    let matrix = dense(&mut rng, rows, columns, 15);
    let linear = Linear { matrix, bias: vec![0; rows] };
    let program =
        Program::new(set, Precision::Approximate, vec![Stage { linear, lookup: None }]).unwrap();
    let small = LweSecretKey::from_container(client.input_key().into_container().to_vec());
    let mut ratios = Vec::new();
    for _ in 0..4 {
        let row: Vec<u64> = (0..columns).map(|_| rng.random_range(0..1 << 54)).collect();
        let expected = program.simulate(&row, &mut Noise::Absent);
        let input = encrypt(&client, &program, &[row]).unwrap();
        let out = first_linear(&program, &input);
        for (r, (c, e)) in out.iter().zip(expected).enumerate() {
            let norm = program.stages()[0].linear.matrix.squared_norm(r);
            ratios.push(distance(phase(&small, c), e) / (norm * predicted::fresh(set)).sqrt());
        }
    }
    // Rows share the noise of the inputs, so there are only 4 · 100 independent samples.
    assert_close("linear", variance(&ratios), 1.0, 4 * columns);
}

/// The first Linear of an input of one row.
fn first_linear(program: &Program, input: &[u8]) -> LweList {
    let input = Input::decode(input, program).unwrap().expand();
    let dimension = program.parameter_set().lwe_dimension;
    let read = |row, column, to: &mut [u32]| input.extract(row, column, to);
    program.stages()[0].linear.apply(dimension, 1, read)
}

#[test]
fn packing_as_densely_as_batches_do() {
    // Without Lookups, values are packed from the client's input key, so phases are known. One output and 64 rows fill
    // all slots of a ciphertext, each with another row.
    let set = &LINEAR;
    let keys = Keys::generate(set);
    let linear =
        Linear { matrix: Matrix::Dense { rows: 1, columns: 1, weights: vec![1] }, bias: vec![0] };
    let stages = vec![Stage { linear, lookup: None }];
    let program = Program::new(set, Precision::Approximate, stages).unwrap();
    let predicted = program.noise()[0].input[0];
    let mut rng = random(8);
    let mut errors = Vec::new();
    for _ in 0..12 {
        let rows: Vec<Vec<u64>> = (0..64).map(|_| vec![rng.random()]).collect();
        for (row, answer) in rows.iter().zip(keys.infer(&program, &rows)) {
            errors.push(distance(answer[0], row[0]));
        }
    }
    assert_close("packing", variance(&errors), predicted, errors.len());
}

#[test]
fn sums_of_one_sign_are_no_noisier_than_predicted() {
    // The ciphertexts of one GLWE share the rounding of its mask, so a mean of it would accumulate.
    let set = &LINEAR;
    let (client, _) = ClientKey::generate(set);
    let small = LweSecretKey::from_container(client.input_key().into_container().to_vec());
    let linear = Linear {
        matrix: Matrix::Dense { rows: 1, columns: 64, weights: vec![1; 64] },
        bias: vec![0],
    };
    let stages = vec![Stage { linear, lookup: None }];
    let program = Program::new(set, Precision::Approximate, stages).unwrap();
    let mut rng = random(12);
    let errors: Vec<f64> = (0..300)
        .map(|_| {
            let row: Vec<u64> = (0..64).map(|_| rng.random_range(0..1 << 50)).collect();
            let expected = program.simulate(&row, &mut Noise::Absent)[0];
            let input = encrypt(&client, &program, &[row]).unwrap();
            let out = first_linear(&program, &input);
            distance(phase(&small, out.iter().next().unwrap()), expected)
        })
        .collect();
    let ratio = variance(&errors) / (64.0 * predicted::fresh(set));
    // The shared rounding makes the figure depend on the key; without centring it is above 20.
    assert!((0.2..3.0).contains(&ratio), "{ratio:.2} of the predicted variance");
}

#[test]
fn failures_at_a_tight_margin_are_as_often_as_predicted() {
    // Tables with so many entries that a Lookup misses its entry about once in ten.
    let set = &T4X512;
    let open = open(set);
    let entries = 64usize;
    let half_step = 2f64.powi(-(entries.ilog2() as i32 + 2));
    let n = 2000;
    let mut rng = random(9);
    let table: Vec<u64> = (0..entries as u64).map(|i| i << 57).collect();
    let wanted: Vec<u64> = (0..n).map(|_| rng.random_range(0..entries as u64)).collect();
    // The middle of an entry: both neighbours are half a step away.
    let plain: Vec<u64> = wanted.iter().map(|i| (2 * i + 1) << 56).collect();
    let inputs: Vec<_> = open
        .encrypt(&open.small, &plain)
        .iter()
        .map(|c| switch(c, log_modulus(&open.key.bootstrap)))
        .collect();
    let tables = vec![(table.as_slice(), &[0][..]); n];
    let out = bootstrap(&open.key, &inputs, &tables, &Timings::default());
    let missed = out
        .iter()
        .zip(&wanted)
        .filter(|(c, w)| distance(phase(&open.large, c), *w << 57).abs() > 2f64.powi(-8))
        .count();
    let z = half_step / predicted::modulus_switch(set).sqrt();
    let expected = predicted::two_sided_tail_log2(z).exp2() * n as f64;
    assert!(expected > 50.0, "the margin should be tight, but {expected} failures are expected");
    // Rounding to steps of 1/2N makes the tail slightly coarser than the normal one.
    let tolerance = 5.0 * expected.sqrt() + 0.2 * expected;
    assert!(
        (missed as f64 - expected).abs() < tolerance,
        "{missed} of {n} missed, {expected:.0} predicted"
    );
}

#[test]
fn approximate_error_has_the_predicted_standard_deviation() {
    // The identity through one Lookup and a Linear: the error at the end includes every source.
    let set = &T4X512;
    let keys = Keys::generate(set);
    let mut rng = random(10);
    let width = 40;
    let table = identity(512, 0.5);
    let first = Linear { matrix: dense(&mut rng, width, 50, 7), bias: vec![1 << 62; width] };
    let lookup = Lookup { tables: vec![table], table_of: vec![0; width] };
    let last = Linear { matrix: dense(&mut rng, 30, width, 1), bias: vec![0; 30] };
    let stages =
        vec![Stage { linear: first, lookup: Some(lookup) }, Stage { linear: last, lookup: None }];
    let program = Program::new(set, Precision::Approximate, stages).unwrap();
    let noise = program.noise();
    let mut ratios = Vec::new();
    for _ in 0..12 {
        let row: Vec<u64> = (0..50).map(|_| rng.random_range(0..1 << 53)).collect();
        let expected = program.simulate(&row, &mut Noise::Absent);
        let answer = keys.infer(&program, &[row]);
        for (r, (&a, e)) in answer[0].iter().zip(expected).enumerate() {
            let through: f64 = program.stages()[1]
                .linear
                .matrix
                .row(r)
                .map(|(c, w)| f64::from(w * w) * 0.25 * noise[0].input[c])
                .sum();
            ratios.push(distance(a, e) / (noise[1].input[r] + through).sqrt());
        }
    }
    let std = variance(&ratios).sqrt();
    assert!((std - 1.0).abs() < 0.15, "measured {std:.3} of the predicted standard deviation");
}

/// Many rows read the same inputs with weights of one sign, so they have much of their noise in common, and one output
/// adds all of them.
#[test]
fn noise_that_rows_have_in_common_is_added_before_it_is_squared() {
    let set = &T3X512N640;
    let keys = Keys::generate(set);
    let mut rng = random(9);
    let (width, columns) = (48usize, 50usize);
    let weights = (0..width * columns).map(|_| rng.random_range(9..=15)).collect::<Vec<i32>>();
    let matrix = Matrix::Dense { rows: width as u32, columns: columns as u32, weights };
    let first = Linear { matrix, bias: vec![1 << 61; width] };
    let lookup = Lookup { tables: vec![identity(512, 0.5)], table_of: vec![0; width] };
    let matrix = Matrix::Dense { rows: 1, columns: width as u32, weights: vec![1; width] };
    let stages = vec![
        Stage { linear: first, lookup: Some(lookup) },
        Stage { linear: Linear { matrix, bias: vec![0] }, lookup: None },
    ];
    let program = Program::new(set, Precision::Approximate, stages).unwrap();
    let noise = program.noise();
    let turns = [vec![0; width], vec![0]];
    let mut draws = random(10);
    // Twelve uniform values have variance 1.
    let mut normals = || (0..12).map(|_| draws.random::<f64>()).sum::<f64>() - 6.0;
    let (mut real, mut simulated) = (Vec::new(), Vec::new());
    let mut apart = f64::INFINITY;
    for _ in 0..100 {
        let row: Vec<u64> = (0..columns).map(|_| rng.random_range(0..1 << 51)).collect();
        let whole: Vec<i128> = row.iter().map(|&x| i128::from(x)).collect();
        let spread = program.spread(&program.trace(&whole, &turns), &noise);
        let moments = program.output_moments(&spread, &noise)[0];
        apart = apart.min(moments.variance / spread.sums[1][0].variance);
        let quiet = program.simulate(&row, &mut Noise::Absent)[0];
        let ratio = |x: u64| (distance(x, quiet) - moments.shift) / moments.variance.sqrt();
        let noisy = &mut Noise::Predicted { stages: &noise, normal: &mut normals };
        simulated.push(ratio(program.simulate(&row, noisy)[0]));
        real.push(ratio(keys.infer(&program, &[row])[0][0]));
    }
    assert!(apart > 2.0, "the rows have little noise in common: {apart}");
    for ratios in [real, simulated] {
        let std = variance(&ratios).sqrt();
        assert!((std - 1.0).abs() < 0.35, "measured {std:.3} of the predicted standard deviation");
    }
}

#[test]
fn digits_recompose() {
    let d = T4X512.packing;
    let mut rng = random(11);
    let values: Vec<u64> = (0..100).map(|_| rng.random()).collect();
    for (digits, value) in digits(d, values.iter().copied()).chunks(d.levels).zip(values) {
        // Last level first.
        let sum = digits.iter().rev().enumerate().fold(0u64, |sum, (level, &digit)| {
            let weight = 64 - d.base_log * (level + 1);
            sum.wrapping_add((i64::from(digit) as u64) << weight)
        });
        assert!(distance(sum, value).abs() <= 2f64.powi(-(1 + (d.base_log * d.levels) as i32)));
    }
}
