//! Many-LUT bootstraps, and values that pass a stage.

use super::*;
use crate::artifact::append_digest;
use crate::parameters::{INSECURE_TEST, T3X512};

fn wave(entries: usize, ahead: usize) -> Vec<u64> {
    let at = |i: usize| (i + ahead) as f64 / (2 * entries) as f64 * std::f64::consts::TAU;
    // Rounded to 2⁻³² of the torus, so that rotations are exact.
    (0..entries)
        .map(|i| ((at(i).cos() / 16.0 * 2f64.powi(32)).round() as i64 as u64) << 32)
        .collect()
}

/// Each value goes through four tables that share a bootstrap (quarter-turn rotations of one another), and through one
/// that does not.
fn program(set: &'static ParameterSet, values: usize, rng: &mut StdRng) -> Program {
    let entries = set.bootstrap.unwrap().polynomial_size;
    let mut tables: Vec<Vec<u64>> = (0..4).map(|q| wave(entries, q * entries / 2)).collect();
    tables.push(identity(entries, 0.25));
    let Matrix::Dense { weights, .. } = dense(rng, values, 8, 3) else { unreachable!() };
    let row = |value: usize| &weights[value * 8..(value + 1) * 8];
    let five = |value: usize| std::iter::repeat_n(row(value), 5).flatten().copied();
    let matrix = Matrix::Dense {
        rows: 5 * values as u32,
        columns: 8,
        weights: (0..values).flat_map(five).collect(),
    };
    let first = Stage {
        linear: Linear { matrix, bias: vec![1 << 62; 5 * values] },
        lookup: Some(Lookup { tables, table_of: (0..5 * values as u32).map(|i| i % 5).collect() }),
    };
    // Every other value passes; the others change their sign.
    let count = 5 * values;
    let selection = Matrix::Sparse {
        columns: count as u32,
        offsets: (0..=count as u32).collect(),
        indices: (0..count as u32).collect(),
        weights: vec![1; count],
    };
    let passes = |i: usize| if i.is_multiple_of(2) { Lookup::PASS } else { 0 };
    let second = Stage {
        linear: Linear {
            matrix: selection.clone(),
            bias: (0..count).map(|i| if i.is_multiple_of(2) { 0 } else { 1 << 62 }).collect(),
        },
        lookup: Some(Lookup {
            tables: vec![identity(entries, -1.0)],
            table_of: (0..count).map(passes).collect(),
        }),
    };
    let last = Stage { linear: Linear { matrix: selection, bias: vec![0; count] }, lookup: None };
    Program::new(set, Precision::Approximate, vec![first, second, last]).unwrap()
}

#[test]
fn rotations_of_a_table_share_a_bootstrap() {
    let mut rng = random(31);
    for (set, values) in [(&INSECURE_TEST, 9), (&T3X512, 3)] {
        let program = program(set, values, &mut rng);
        // Four of the five tables share a bootstrap; in the second stage every other value passes.
        assert_eq!(program.lookups(0), 2 * values);
        assert_eq!(program.lookups(1), 5 * values / 2);
        let keys = Keys::generate(set);
        let rows: Vec<Vec<u64>> =
            (0..2).map(|_| (0..8).map(|_| rng.random::<u64>() >> 6).collect()).collect();
        let answers = keys.infer(&program, &rows);
        for (row, answer) in rows.iter().zip(&answers) {
            let plain = program.simulate(row, &mut Noise::Absent);
            for (i, (&a, &p)) in answer.iter().zip(&plain).enumerate() {
                assert!(distance(a, p).abs() < 0.05, "{}: value {i}: {}", set.name, distance(a, p));
            }
        }
    }
}

/// Every shard size gives the same number of bootstraps.
#[test]
fn groups_may_be_cut_anywhere() {
    let mut rng = random(32);
    let set = &INSECURE_TEST;
    let program = program(set, 4, &mut rng);
    let keys = Keys::generate(set);
    let row = vec![1u64 << 60; 8];
    let input = encrypt(&keys.client, &program, &[row]).unwrap();
    let timings = Timings::default();
    for per_shard in [1, 2, 3, 100] {
        let Step::Lookups { shards, .. } = begin(&program, &input, per_shard, &timings).unwrap()
        else {
            panic!("no lookups")
        };
        let lookups: u32 = shards.iter().map(|shard| shard.lookups).sum();
        assert_eq!(lookups as usize, program.lookups(0));
        assert!(shards.iter().all(|shard| shard.lookups as usize <= per_shard));
    }
}

/// Values `from..to` of a shard of the first stage, as a shard.
fn part(shard: &[u8], program: &Program, from: usize, to: usize) -> Vec<u8> {
    // Header, key, program, stage; then the first value, the count and the total.
    let (head, rest) = shard.split_at(10 + 64 + 4);
    let (counts, values) = rest.split_at(12);
    let width = 2 * (program.parameter_set().lwe_dimension + 1);
    let mut bytes = head.to_vec();
    bytes.extend((from as u32).to_le_bytes());
    bytes.extend(((to - from) as u32).to_le_bytes());
    bytes.extend(&counts[8..]);
    bytes.extend(&values[from * width..to * width]);
    append_digest(bytes)
}

#[test]
fn a_group_that_was_cut_in_two_gives_the_same() {
    let mut rng = random(33);
    let set = &INSECURE_TEST;
    let program = program(set, 2, &mut rng);
    let keys = Keys::generate(set);
    let row: Vec<u64> = (0..8).map(|_| rng.random::<u64>() >> 6).collect();
    let input = encrypt(&keys.client, &program, std::slice::from_ref(&row)).unwrap();
    let timings = Timings::default();
    let Step::Lookups { shards, .. } = begin(&program, &input, 100, &timings).unwrap() else {
        panic!("no lookups")
    };
    let key = keys.bootstrap.as_ref().unwrap();
    // Ten values in groups of four and one: one cut is in the first group of four, one in the second.
    let partials: Vec<Vec<u8>> = [(0, 2), (2, 7), (7, 10)]
        .map(|(from, to)| part(&shards[0].bytes, &program, from, to))
        .iter()
        .map(|shard| evaluate(&program, key, shard, &timings).unwrap())
        .collect();
    let partials: Vec<&[u8]> = partials.iter().map(Vec::as_slice).collect();
    let Step::Lookups { shards, .. } = advance(&program, 0, &partials, 100, &timings).unwrap()
    else {
        panic!("no lookups")
    };
    let partial = evaluate(&program, key, &shards[0].bytes, &timings).unwrap();
    let Step::Outputs(outputs) = advance(&program, 1, &[&partial], 100, &timings).unwrap() else {
        panic!("more lookups")
    };
    let answer = pack(&program, &keys.packing, &outputs, &timings).unwrap();
    let answer = decrypt(&keys.client, &Answer::decode(&answer, &program).unwrap()).unwrap();
    let plain = program.simulate(&row, &mut Noise::Absent);
    for (i, (&a, &p)) in answer[0].iter().zip(&plain).enumerate() {
        assert!(distance(a, p).abs() < 0.05, "value {i}: {}", distance(a, p));
    }
}
