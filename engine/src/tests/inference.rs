//! Real inferences under every set, and agreement with the simulation.

use super::*;
use crate::parameters::{CATALOGUE, INSECURE_TEST, T3X512};

/// The same matrix without its zeros.
fn sparse(matrix: &Matrix) -> Matrix {
    let (mut offsets, mut indices, mut weights) = (vec![0], vec![], vec![]);
    for r in 0..matrix.rows() {
        for (c, w) in matrix.row(r).filter(|&(_, w)| w != 0) {
            indices.push(c as u32);
            weights.push(w);
        }
        offsets.push(weights.len() as u32);
    }
    Matrix::Sparse { columns: matrix.columns() as u32, offsets, indices, weights }
}

/// Random weights and smooth tables, two Lookup stages deep if the set allows.
fn program(set: &'static ParameterSet, rng: &mut StdRng) -> Program {
    let bias = |rows: usize| vec![1 << 62; rows];
    let mut stages = Vec::new();
    if let Some(bootstrap) = set.bootstrap {
        let table = identity(bootstrap.polynomial_size, 0.25);
        for columns in [70, 5] {
            let linear = Linear { matrix: dense(rng, 5, columns, 1), bias: bias(5) };
            let lookup = Lookup { tables: vec![table.clone()], table_of: vec![0; 5] };
            stages.push(Stage { linear, lookup: Some(lookup) });
        }
    }
    let columns = if stages.is_empty() { 70 } else { 5 };
    let linear = Linear { matrix: sparse(&dense(rng, 66, columns, 1)), bias: vec![0; 66] };
    stages.push(Stage { linear, lookup: None });
    Program::new(set, Precision::Approximate, stages).unwrap()
}

fn check(set: &'static ParameterSet) {
    let mut rng = random(u64::from(set.id));
    let program = program(set, &mut rng);
    assert_eq!(Program::decode(program.encode()).unwrap(), program);
    let keys = Keys::generate(set);
    let rows: Vec<Vec<u64>> =
        (0..3).map(|_| (0..70).map(|_| rng.random_range(0..1u64 << 55)).collect()).collect();
    let answer = keys.infer(&program, &rows);
    let noise = program.noise();
    let last = noise.last().unwrap().input[0];
    for (row, answer) in rows.iter().zip(answer) {
        let expected = program.simulate(row, &mut Noise::Absent);
        for (a, e) in answer.iter().zip(expected) {
            // The noise at the tables' inputs passes through them, scaled by a quarter.
            let through: f64 =
                noise[..noise.len() - 1].iter().map(|s| s.input[0] / 16.0 * 5.0).sum();
            let bound = 7.0 * (last + through).sqrt();
            assert!(bound < 0.1, "{}: a bound of {bound} could not fail", set.name);
            assert!(distance(*a, e).abs() < bound, "{}: {} > {bound}", set.name, distance(*a, e));
        }
    }
}

#[test]
fn every_set_of_the_catalogue_computes() {
    for set in CATALOGUE {
        check(set);
    }
}

#[test]
fn the_insecure_set_computes() {
    check(&INSECURE_TEST);
}

#[test]
fn keys_survive_their_encodings() {
    let keys = Keys::generate(&T3X512);
    let bytes = keys.evaluation.encode();
    assert_eq!(bytes.len(), T3X512.evaluation_key_bytes());
    let decoded = EvaluationKey::decode(bytes).unwrap();
    assert_eq!(decoded.digest(), keys.client.evaluation_key());
    let client = ClientKey::decode(&keys.client.encode()).unwrap();
    let again = Keys {
        bootstrap: Some(BootstrapKey::expand(&decoded).unwrap()),
        packing: PackingKey::expand(&decoded).unwrap(),
        evaluation: decoded,
        client,
    };
    let mut rng = random(1);
    let program = program(&T3X512, &mut rng);
    let row = vec![vec![1 << 50; 70]];
    let expected = program.simulate(&row[0], &mut Noise::Absent);
    // The evaluation key was made from the original client key, so the decoded one must hold the same secrets.
    let answer = again.infer(&program, &row);
    assert!(answer[0].iter().zip(expected).all(|(&a, e)| distance(a, e).abs() < 0.1));
}

#[test]
fn secrets_are_not_shown() {
    let (client, _) = ClientKey::generate(&INSECURE_TEST);
    assert_eq!(format!("{client:?}"), "ClientKey(INSECURE-test/1, secret)");
}
