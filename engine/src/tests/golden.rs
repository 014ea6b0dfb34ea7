//! Files written by earlier versions are still read and computed with. The repository keeps a file of each kind for
//! each format version, unchanged.

use std::{fs, path::PathBuf};

use super::*;
use crate::{codec::VERSION, parameters::INSECURE_SMALL};

const ROW: [u64; 2] = [1 << 60, 1 << 61];

/// Linear, Lookup, Linear.
fn program() -> Program {
    let matrix = Matrix::Dense { rows: 2, columns: 2, weights: vec![1, 1, 0, 1] };
    let table = identity(INSECURE_SMALL.bootstrap.unwrap().polynomial_size, 0.25);
    let linear = || Linear { matrix: matrix.clone(), bias: vec![1 << 58; 2] };
    let lookup = Lookup { tables: vec![table], table_of: vec![0, 0] };
    let stages = vec![
        Stage { linear: linear(), lookup: Some(lookup) },
        Stage { linear: linear(), lookup: None },
    ];
    Program::new(&INSECURE_SMALL, Precision::Approximate, stages).unwrap()
}

fn file(version: u8, name: &str) -> PathBuf {
    format!("{}/golden/{version}/{name}", env!("CARGO_MANIFEST_DIR")).into()
}

fn is_right(answer: &[Vec<u64>], program: &Program) {
    let expected = program.simulate(&ROW, &mut Noise::Absent);
    let near = |(a, e): (&u64, u64)| distance(*a, e).abs() < 0.02;
    assert!(answer[0].iter().zip(expected).all(near), "{answer:?}");
}

#[test]
fn what_every_version_wrote_is_read_and_computed_with() {
    for version in 1..=VERSION {
        let read = |name| {
            let path = file(version, name);
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; see write_golden", path.display()))
        };
        let program = Program::decode(&read("program")).unwrap();
        // The digest of a program is that of its bytes, so an earlier version's bytes are kept.
        assert_eq!(program.stages(), self::program().stages());
        assert_eq!(program.encode(), read("program"));
        let client = ClientKey::decode(&read("client-key")).unwrap();
        let evaluation = EvaluationKey::decode(&read("evaluation-key")).unwrap();
        let bootstrap = BootstrapKey::expand(&evaluation).unwrap();
        let packing = PackingKey::expand(&evaluation).unwrap();
        assert_eq!(evaluation.digest(), client.evaluation_key());
        let timings = Timings::default();
        let finish = |outputs: &[u8]| {
            let answer = pack(&program, &packing, outputs, &timings).unwrap();
            decrypt(&client, &Answer::decode(&answer, &program).unwrap()).unwrap()
        };

        // Continues from each message that may have been in transit when the version changed.
        let Step::Lookups { shards, .. } = begin(&program, &read("input"), 16, &timings).unwrap()
        else {
            panic!("no lookups")
        };
        for shard in [&shards[0].bytes, &read("shard")] {
            let fresh = evaluate(&program, &bootstrap, shard, &timings).unwrap();
            for partial in [&fresh, &read("partial")] {
                let step = advance(&program, 0, &[partial], 16, &timings).unwrap();
                let Step::Outputs(outputs) = step else { panic!("more lookups") };
                is_right(&finish(&outputs), &program);
            }
        }
        is_right(&finish(&read("outputs")), &program);
        let answer = Answer::decode(&read("answer"), &program).unwrap();
        is_right(&decrypt(&client, &answer).unwrap(), &program);
    }
}

/// Fails if an encoding changes. Then increase the format version and write its golden files.
#[test]
fn this_version_still_writes_what_it_wrote() {
    let read = |name| fs::read(file(VERSION, name)).unwrap();
    let (client, evaluation) = (read("client-key"), read("evaluation-key"));
    assert_eq!(program().encode(), read("program"));
    assert_eq!(&ClientKey::decode(&client).unwrap().encode()[..], client);
    assert_eq!(EvaluationKey::decode(&evaluation).unwrap().encode(), evaluation);
}

/// `cargo test --release -p hermesh-engine write_golden -- --ignored`, once for each version. Never replaces a file.
#[test]
#[ignore = "writes the files of a new version"]
fn write_golden() {
    let (program, keys, timings) = (program(), Keys::generate(&INSECURE_SMALL), Timings::default());
    let input = encrypt(&keys.client, &program, &[ROW.to_vec()]).unwrap();
    let Step::Lookups { shards, .. } = begin(&program, &input, 16, &timings).unwrap() else {
        panic!("no lookups")
    };
    let shard = &shards[0].bytes;
    let partial = evaluate(&program, keys.bootstrap.as_ref().unwrap(), shard, &timings).unwrap();
    let step = advance(&program, 0, &[&partial], 16, &timings).unwrap();
    let Step::Outputs(outputs) = step else { panic!("more lookups") };
    let answer = pack(&program, &keys.packing, &outputs, &timings).unwrap();
    for (name, bytes) in [
        ("program", program.encode()),
        ("client-key", &keys.client.encode()),
        ("evaluation-key", keys.evaluation.encode()),
        ("input", &input),
        ("shard", shard),
        ("partial", &partial),
        ("outputs", &outputs),
        ("answer", &answer),
    ] {
        let path = file(VERSION, name);
        assert!(!path.exists(), "{} exists and must not change", path.display());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}
