//! Dense networks under `exact`: their loss, that their sums stay in their frames, and that encrypted answers equal
//! integer arithmetic.

#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, npy};
use hermesh_compiler::network::Label;
use hermesh_compiler::{Model, Options, OutOfRange, Precision, compile, onnx};
use hermesh_engine::{
    Answer, BootstrapKey, ClientKey, Noise, PackingKey, Precision as Compiled, Program, Step,
    Timings, advance, begin, decrypt, encrypt, evaluate, pack,
};

/// The cheapest set that loses at most one point on the rows left out of calibration.
const EXACT: Options = Options {
    precision: Some(Precision::Exact),
    accuracy_budget: Some(1.0),
    domain: None,
    guarantee: None,
    grid: hermesh_compiler::Grid::Quantiles,
    failure_log2: -128.0,
};

struct Digits {
    model: Model,
    rows: Vec<Vec<f64>>,
    labels: Vec<Label>,
}

fn labels(name: &str) -> Vec<Label> {
    let labels = npy(&examples("digits").join(name));
    labels.iter().flatten().map(|&label| Label::Int(label as i64)).collect()
}

fn digits(name: &str, options: Options) -> Digits {
    let folder = examples("digits");
    let network = onnx::read(&folder.join(name)).unwrap();
    let calibration = npy(&folder.join("calibration-images.npy"));
    let calibration: Vec<&[f64]> = calibration.iter().map(Vec::as_slice).collect();
    let known = labels("calibration-labels.npy");
    let model = compile(&network, &calibration, Some(&known), options, &mut |_| {}).unwrap();
    let rows = npy(&folder.join("test-images.npy"));
    Digits { model, rows, labels: labels("test-labels.npy") }
}

/// Points of accuracy: of the plain model, and of integer arithmetic.
fn accuracies(digits: &Digits) -> (f64, f64) {
    let Digits { model, rows, labels } = digits;
    let (mut plain, mut exact) = (0, 0);
    for (row, label) in rows.iter().zip(labels) {
        let torus = model.encode_row(row).unwrap();
        let outputs = model.program().simulate(&torus, &mut Noise::Absent);
        let found = model.interpret(&model.decode_outputs(&outputs)).label;
        plain += usize::from(model.plain(row).unwrap().label.as_ref() == Some(label));
        exact += usize::from(found.as_ref() == Some(label));
    }
    let points = |count: usize| 100.0 * count as f64 / rows.len() as f64;
    (points(plain), points(exact))
}

#[test]
fn a_hidden_layer_of_digits_keeps_its_accuracy_its_frames_and_its_integers() {
    let digits = digits("mlp64.onnx", EXACT);
    let program = digits.model.program();
    assert!(program.failure_log2().unwrap() <= -128.0);
    let (plain, exact) = accuracies(&digits);
    assert!(exact >= plain - 2.0, "{exact} of {plain} points");
    let admitted: Vec<Vec<u64>> = digits
        .rows
        .iter()
        .filter_map(|row| digits.model.admit(row, OutOfRange::Refuse).ok())
        .map(|admitted| admitted.torus)
        .collect();
    let refused = digits.rows.len() - admitted.len();
    assert!(refused * 50 <= digits.rows.len(), "{refused} of {} rows", digits.rows.len());
    encrypted_is_simulated(program, &admitted[..2]);
}

#[test]
fn linear_models_keep_their_accuracy() {
    let (plain, exact) = accuracies(&digits("logreg.onnx", EXACT));
    assert!(exact >= plain - 1.0, "{exact} of {plain} points");
}

/// Every output of encrypted rows equals integer arithmetic without noise.
fn encrypted_is_simulated(program: &Program, rows: &[Vec<u64>]) {
    let Compiled::Exact { output_bits } = program.precision() else { panic!("not exact") };
    let (client, evaluation) = ClientKey::generate(program.parameter_set());
    let bootstrap = BootstrapKey::expand(&evaluation).unwrap();
    let packing = PackingKey::expand(&evaluation).unwrap();
    let timings = Timings::default();
    let input = encrypt(&client, program, rows).unwrap();
    let mut step = begin(program, &input, 16, &timings).unwrap();
    let outputs = loop {
        let (stage, shards) = match step {
            Step::Outputs(outputs) => break outputs,
            Step::Lookups { stage, shards } => (stage, shards),
        };
        let evaluated = shards.iter().map(|s| evaluate(program, &bootstrap, &s.bytes, &timings));
        let partials: Vec<Vec<u8>> = evaluated.map(Result::unwrap).collect();
        let partials: Vec<&[u8]> = partials.iter().map(Vec::as_slice).collect();
        step = advance(program, stage, &partials, 16, &timings).unwrap();
    };
    let answer = pack(program, &packing, &outputs, &timings).unwrap();
    let answer = decrypt(&client, &Answer::decode(&answer, program).unwrap()).unwrap();
    let whole = |x: &u64| x.wrapping_add(1 << (63 - output_bits)) >> (64 - output_bits);
    for (row, answer) in rows.iter().zip(answer.iter()) {
        let plain = program.simulate(row, &mut Noise::Absent);
        let wholes = |row: &[u64]| row.iter().map(whole).collect::<Vec<_>>();
        assert_eq!(wholes(answer), wholes(&plain));
    }
}
