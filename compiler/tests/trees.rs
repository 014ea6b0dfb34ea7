//! Trees: the examples compared with onnxruntime's outputs, and encrypted answers compared with the ensemble.

#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, npy};
use hermesh_compiler::network::Network;
use hermesh_compiler::{Model, Options, compile, onnx};
use hermesh_engine::{
    Answer, BootstrapKey, ClientKey, Noise, PackingKey, Precision, Step, Timings, advance, begin,
    decrypt, encrypt, evaluate, pack,
};

const MODELS: [(&str, &str); 11] = [
    ("cancer", "tree"),
    ("cancer", "boost"),
    ("cancer", "hist"),
    ("cancer", "xgboost"),
    ("wine", "forest"),
    ("wine", "hist"),
    ("diabetes", "tree"),
    ("diabetes", "tree6"),
    ("diabetes", "forest"),
    ("diabetes", "boost"),
    ("diabetes", "xgboost"),
];

struct Example {
    name: String,
    network: Network,
    rows: Vec<Vec<f64>>,
    calibration: Vec<Vec<f64>>,
    expected: Vec<Vec<f64>>,
}

fn read() -> Vec<Example> {
    let trees = examples("trees");
    let mut all: Vec<Example> = MODELS
        .iter()
        .map(|(table, model)| Example {
            name: format!("{table}-{model}"),
            network: onnx::read(&trees.join(format!("{table}-{model}.onnx"))).unwrap(),
            rows: npy(&trees.join(format!("{table}-rows.npy"))),
            calibration: npy(&trees.join(format!("{table}-calibration.npy"))),
            expected: npy(&trees.join(format!("expected-{table}-{model}.npy"))),
        })
        .collect();
    let digits = examples("digits");
    all.push(Example {
        name: "digits-xgboost".into(),
        network: onnx::read(&digits.join("xgboost.onnx")).unwrap(),
        rows: npy(&digits.join("test-images.npy")),
        calibration: npy(&digits.join("calibration-images.npy")),
        expected: npy(&digits.join("expected-xgboost.npy")),
    });
    all
}

#[test]
fn trees_agree_with_onnxruntime() {
    for Example { name, network, rows, expected, .. } in read() {
        for (row, expected) in rows.iter().zip(&expected) {
            let scores = network.predict(row).unwrap().scores;
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
            assert_eq!(scores.len(), expected.len(), "{name}");
            assert!(scores.iter().zip(expected).all(near), "{name}: {scores:?}, {expected:?}");
        }
    }
}

fn compiled(example: &Example) -> Model {
    let rows: Vec<&[f64]> = example.calibration.iter().map(Vec::as_slice).collect();
    compile(&example.network, &rows, None, Options::default(), &mut |_| {}).unwrap()
}

/// Encrypted results equal the integers of the ensemble on the grid, for every output; these equal the ensemble's own
/// answers, except for the rounding by the grid.
#[test]
fn encrypted_trees_are_exact() {
    let mut keys: Vec<(&str, ClientKey, BootstrapKey, PackingKey)> = Vec::new();
    for example in read() {
        let model = compiled(&example);
        let program = model.program();
        let Precision::Exact { output_bits } = program.precision() else { panic!("not exact") };
        assert!(program.failure_log2().unwrap() <= -128.0);
        let set = program.parameter_set();
        println!(
            "{}: {}, {} lookups, {} inputs, {output_bits} bits, agreement {}",
            example.name,
            set.name,
            program.lookups_per_row(),
            program.inputs(),
            model.report().agreement
        );
        if !keys.iter().any(|(name, ..)| *name == set.name) {
            let (client, evaluation) = ClientKey::generate(set);
            let bootstrap = BootstrapKey::expand(&evaluation).unwrap();
            keys.push((set.name, client, bootstrap, PackingKey::expand(&evaluation).unwrap()));
        }
        let (_, client, bootstrap, packing) =
            keys.iter().find(|(name, ..)| *name == set.name).unwrap();
        let rows: Vec<Vec<u64>> =
            example.rows.iter().take(2).map(|row| model.encode_row(row).unwrap()).collect();
        let timings = Timings::default();
        let input = encrypt(client, program, &rows).unwrap();
        let Step::Lookups { stage, shards } = begin(program, &input, 16, &timings).unwrap() else {
            panic!("no lookups")
        };
        let partials: Vec<Vec<u8>> = shards
            .iter()
            .map(|shard| evaluate(program, bootstrap, &shard.bytes, &timings).unwrap())
            .collect();
        let partials: Vec<&[u8]> = partials.iter().map(Vec::as_slice).collect();
        let Step::Outputs(outputs) = advance(program, stage, &partials, 16, &timings).unwrap()
        else {
            panic!("more lookups")
        };
        let answer = pack(program, packing, &outputs, &timings).unwrap();
        let answer = decrypt(client, &Answer::decode(&answer, program).unwrap()).unwrap();
        let whole = |x: u64| x.wrapping_add(1 << (63 - output_bits)) >> (64 - output_bits);
        for (row, answer) in rows.iter().zip(answer.iter()) {
            let plain = program.simulate(row, &mut Noise::Absent);
            let (answer, plain): (Vec<u64>, Vec<u64>) =
                answer.iter().zip(&plain).map(|(&a, &p)| (whole(a), whole(p))).unzip();
            assert_eq!(answer, plain, "{}", example.name);
        }
    }
}

/// Labels (or values) of the compiled models equal those of the ensembles on unseen rows.
#[test]
fn the_grid_keeps_the_answers() {
    for example in read() {
        let model = compiled(&example);
        let mut same = 0;
        for row in &example.rows {
            let torus = model.encode_row(row).unwrap();
            let outputs =
                model.decode_outputs(&model.program().simulate(&torus, &mut Noise::Absent));
            let (ours, theirs) = (model.interpret(&outputs), model.plain(row).unwrap());
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 0.05 * b.abs().max(1.0);
            same += usize::from(match ours.label {
                Some(label) => Some(label) == theirs.label,
                None => ours.scores.iter().zip(&theirs.scores).all(near),
            });
        }
        println!("{}: {same} of {}", example.name, example.rows.len());
        assert!(
            same * 100 >= example.rows.len() * 90,
            "{}: {same} of {}",
            example.name,
            example.rows.len()
        );
    }
}
