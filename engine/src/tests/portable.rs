//! Every machine computes the same bytes. The digests were computed with AVX-512; AVX2 and scalar code gave the same.
//! If they differ, this machine's answers differ from those of others. If you change the order of operations on
//! purpose, update the digests.

use super::*;
use crate::error::short;
use crate::transform::Transform;
use dyn_stack::PodStack;
use sha2::{Digest as _, Sha256};
use std::fs;
use tfhe_fft::c64;

fn digest(bytes: impl IntoIterator<Item = u8>) -> String {
    short(&Sha256::digest(bytes.into_iter().collect::<Vec<u8>>()).into())
}

fn points(points: &[c64]) -> String {
    digest(points.iter().flat_map(|point| [point.re, point.im]).flat_map(f64::to_le_bytes))
}

/// Pseudorandom numbers that do not depend on a library's generator.
fn word(i: usize) -> u64 {
    (i as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[test]
fn transforms_are_the_same_everywhere() {
    let found = [512, 1024, 2048, 4096].map(|size| {
        let transform = Transform::new(size);
        let mut memory = transform.memory();
        let stack = PodStack::new(&mut memory);
        let integers: Vec<i32> = (0..size).map(|i| word(i) as i32 >> 10).collect();
        let torus: Vec<u64> = (0..size).map(|i| word(size + i)).collect();
        let mut sum: Vec<u32> = vec![0; size];
        let zero = c64::new(0.0, 0.0);
        let (mut a, mut b) = (vec![zero; size / 2], vec![zero; size / 2]);
        transform.forward(&integers, &mut a, stack);
        transform.forward_torus(&torus, &mut b, stack);
        let forward = [points(&a), points(&b)];
        transform.add_backward(&mut b, &mut sum, stack);
        let [integers, torus] = forward;
        [integers, torus, digest(sum.iter().flat_map(|c| c.to_le_bytes()))]
    });
    let expected = [
        ["f567bf6e", "df89d413", "3541f7fc"],
        ["865f5ed8", "b3debb0f", "a1ca797f"],
        ["4817d5a0", "ab658a29", "ebe5c4ae"],
        ["335630d9", "6fab7cf0", "d4dac3f7"],
    ];
    assert_eq!(found, expected);
}

/// From an input to an answer, with the keys and ciphertexts of `golden/`.
#[test]
fn answers_are_the_same_everywhere() {
    let read = |name: &str| {
        let path = format!("{}/golden/1/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let program = Program::decode(&read("program")).unwrap();
    let key = EvaluationKey::decode(&read("evaluation-key")).unwrap();
    let bootstrap = BootstrapKey::expand(&key).unwrap();
    let packing = PackingKey::expand(&key).unwrap();
    let timings = Timings::default();
    let Step::Lookups { shards, .. } = begin(&program, &read("input"), 16, &timings).unwrap()
    else {
        panic!("no lookups")
    };
    let [shard] = &shards[..] else { panic!("more than one shard") };
    let partial = evaluate(&program, &bootstrap, &shard.bytes, &timings).unwrap();
    let Step::Outputs(outputs) = advance(&program, 0, &[&partial], 16, &timings).unwrap() else {
        panic!("more lookups")
    };
    let answer = pack(&program, &packing, &outputs, &timings).unwrap();
    let found = [shard.bytes.clone(), partial, outputs, answer].map(digest);
    assert_eq!(found, ["3328dd87", "fb44e8c9", "77cfa60d", "29bfd478"]);
}
