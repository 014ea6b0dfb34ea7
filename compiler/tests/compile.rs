//! Compilation without ciphertexts: the loss of programs, and refusals.

#![allow(clippy::unwrap_used)]

use hermesh_compiler::network::{
    Activation, Affine, Decision, Head, Label, Layer, Matrix, Network,
};
use hermesh_compiler::{
    Error, Grid, Model, Options, OutOfRange, Precision, Refusal, compile, mend_digests,
};
use hermesh_engine::artifact::{append_digest, mend_digest};
use hermesh_engine::{Noise, Precision as Compiled};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::LazyLock;

const APPROXIMATE: Options = Options {
    precision: Some(Precision::Approximate),
    failure_log2: -128.0,
    accuracy_budget: None,
    grid: Grid::Quantiles,
    domain: None,
    guarantee: None,
};

fn layer(rng: &mut StdRng, rows: usize, cols: usize, activation: Option<Activation>) -> Layer {
    let values = (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect();
    let bias = (0..rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    let affine = Affine { matrix: Matrix::Dense { rows, cols, values }, bias };
    Layer {
        name: "layer".into(),
        affine,
        activation: activation.map(Into::into),
        groups: None,
        bounds: None,
    }
}

/// 12 features of different sizes, 16 hidden values, 3 scores.
fn network(activation: Activation, decision: Decision) -> Network {
    let mut rng = StdRng::seed_from_u64(3);
    let layers = vec![layer(&mut rng, 16, 12, Some(activation)), layer(&mut rng, 3, 16, None)];
    let head = Head { transforms: vec![], decision };
    Network {
        name: "test".into(),
        inputs: 12,
        input_shape: vec![12],
        layers,
        head,
        indices: vec![],
    }
}

fn labels() -> Decision {
    Decision::ArgMax { labels: ["a", "b", "c"].map(|l| Label::String(l.into())).to_vec() }
}

fn rows(count: usize) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(4);
    let row = |rng: &mut StdRng| (0..12).map(|_| rng.random_range(-2.0..3.0)).collect();
    (0..count).map(|_| row(&mut rng)).collect()
}

fn slices(rows: &[Vec<f64>]) -> Vec<&[f64]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn compiled(network: &Network, options: Options) -> Result<Model, Error> {
    compile(network, &slices(&rows(1000)), None, options, &mut |_| ())
}

#[test]
fn each_activation_survives_quantisation() {
    for activation in [
        Activation::Relu,
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Clip { min: -0.5, max: 0.5 },
    ] {
        let network = network(activation.clone(), labels());
        let model = compiled(&network, APPROXIMATE).unwrap();
        let (mut error, mut size) = (0.0, 0.0);
        for row in rows(200) {
            let torus = model.encode_row(&row).unwrap();
            let outputs =
                model.decode_outputs(&model.program().simulate(&torus, &mut Noise::Absent));
            for (a, b) in outputs.iter().zip(network.evaluate(&row).unwrap()) {
                error += (a - b).powi(2);
                size += b.powi(2);
            }
        }
        assert!(error < 1e-3 * size, "{activation:?}: relative error {}", (error / size).sqrt());
        assert!(model.report().agreement > 0.95);
    }
}

#[test]
fn a_network_without_lookups_is_computed_to_many_digits() {
    let mut network = network(Activation::Relu, labels());
    network.layers.truncate(1);
    network.layers[0].activation = None;
    network.head.decision = Decision::Scores;
    let model = compiled(&network, APPROXIMATE).unwrap();
    assert_eq!(model.program().lookups_per_row(), 0);
    assert!(model.report().agreement > 0.99);
}

#[test]
fn a_final_activation_becomes_a_lookup() {
    let mut network = network(Activation::Relu, Decision::Scores);
    network.layers[1].activation = Some(Activation::Tanh.into());
    let model = compiled(&network, APPROXIMATE).unwrap();
    assert_eq!(model.program().lookups_per_row(), 16 + 3);
    let row = &rows(1)[0];
    let torus = model.encode_row(row).unwrap();
    let outputs = model.decode_outputs(&model.program().simulate(&torus, &mut Noise::Absent));
    for (a, b) in outputs.iter().zip(network.evaluate(row).unwrap()) {
        assert!((a - b).abs() < 0.1, "{a} {b}");
    }
}

#[test]
fn elementwise_layers_stay_with_the_client() {
    let mut network = network(Activation::Relu, labels());
    let matrix = Matrix::Dense {
        rows: 12,
        cols: 12,
        values: (0..144).map(|i| if i % 13 == 0 { 0.5 } else { 0.0 }).collect(),
    };
    let clip = Layer {
        name: "scaler".into(),
        affine: Affine { matrix, bias: vec![0.25; 12] },
        activation: Some(Activation::Clip { min: 0.0, max: 1.0 }.into()),
        bounds: None,
        groups: None,
    };
    network.layers.insert(0, clip);
    let model = compiled(&network, APPROXIMATE).unwrap();
    assert_eq!(model.program().lookups_per_row(), 16);
    assert!(model.report().agreement > 0.95);
}

#[test]
fn exact_programs_hold_integers_and_the_failure_asked_for() {
    let network = network(Activation::Relu, labels());
    for failure_log2 in [-128.0, -64.0] {
        let options =
            Options { precision: Some(Precision::Exact), failure_log2, ..Options::default() };
        let model = compiled(&network, options).unwrap();
        let program = model.program();
        let Compiled::Exact { output_bits } = program.precision() else { panic!() };
        assert!(program.failure_log2().unwrap() <= failure_log2);
        for row in rows(50) {
            let torus = model.encode_row(&row).unwrap();
            let table = &program.stages()[0].lookup.as_ref().unwrap().tables[0];
            let step = 1u64 << (63 - table.len().ilog2());
            assert!(torus.iter().all(|x| x % step == 0));
            for x in program.simulate(&torus, &mut Noise::Absent) {
                assert_eq!(x % (1 << (64 - output_bits)), 0);
            }
        }
    }
}

#[test]
fn budgets_choose_and_refuse() {
    let network = network(Activation::Relu, labels());
    let with =
        |points| compiled(&network, Options { accuracy_budget: Some(points), ..APPROXIMATE });
    let generous = with(50.0).unwrap();
    let strict = with(0.6).unwrap();
    assert!(
        generous.report().frontier[0].relative_cost <= strict.report().frontier[0].relative_cost
    );
    let cost = |m: &Model| m.program().parameter_set().relative_cost;
    assert!(cost(&generous) <= cost(&strict));
    assert_eq!(generous.report().frontier.len(), strict.report().frontier.len());
    assert!(matches!(with(-1.0), Err(Error::Budget { .. })));
}

#[test]
fn labels_are_measured_against() {
    let network = network(Activation::Relu, labels());
    let rows = rows(1000);
    let label = |row: &Vec<f64>| network.predict(row).unwrap().label.unwrap();
    let truth: Vec<Label> = rows.iter().map(label).collect();
    let model = compile(&network, &slices(&rows), Some(&truth), APPROXIMATE, &mut |_| ()).unwrap();
    let report = model.report();
    assert_eq!(report.plain_accuracy, Some(1.0));
    assert_eq!(report.simulated_accuracy, Some(report.agreement));
    assert!(report.held_out && report.rows_measured == 500);
    let short = compile(&network, &slices(&rows), Some(&truth[1..]), APPROXIMATE, &mut |_| ());
    assert!(matches!(short, Err(Error::Calibration { .. })));
}

#[test]
fn calibration_data_is_checked() {
    let network = network(Activation::Relu, labels());
    let go = |rows: &[Vec<f64>]| compile(&network, &slices(rows), None, APPROXIMATE, &mut |_| ());
    assert!(matches!(go(&[]), Err(Error::Calibration { .. })));
    assert!(matches!(go(&[vec![0.0; 11]]), Err(Error::RowLength { expected: 12, found: 11 })));
    assert!(matches!(go(&[vec![f64::NAN; 12]]), Err(Error::NotFinite { .. })));
    // One row, or equal rows, calibrate to empty ranges: no panic.
    for count in [1, 300] {
        let model = go(&vec![vec![1.0; 12]; count]).unwrap();
        assert!(model.encode_row(&[7.0; 12]).is_ok());
    }
}

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    compiled(&network(Activation::Relu, labels()), APPROXIMATE).unwrap().encode().unwrap()
});

#[test]
fn models_survive_their_encoding() {
    let model = Model::decode(&BYTES).unwrap();
    assert_eq!(model.encode().unwrap(), *BYTES);
    let row = &rows(1)[0];
    let plain = network(Activation::Relu, labels()).predict(row).unwrap();
    assert_eq!(model.plain(row).unwrap(), plain);
    assert!(matches!(model.encode_row(&row[1..]), Err(Error::RowLength { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_models_are_refused_or_harmless(
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = BYTES.clone();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let altered = bytes != *BYTES;
        prop_assert_eq!(Model::decode(&bytes).is_err(), altered);
        // An attacker recomputes the digests.
        let bytes = mend_digests(bytes);
        if let Ok(model) = Model::decode(&bytes) {
            let torus = model.encode_row(&[0.5; 12]).unwrap_or_default();
            if torus.len() == model.program().inputs() {
                let out = model.program().simulate(&torus, &mut Noise::Absent);
                let _ = model.interpret(&model.decode_outputs(&out));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Model::decode(&bytes).is_err());
        let headed = [b"HMX\0\x04\0\0", bytes.as_slice()].concat();
        prop_assert!(Model::decode(&append_digest(headed)).is_err());
    }
}

/// Compiles a golden model of the importer, with rows for calibration and rows to try.
fn golden(name: &str, rows: &[Vec<f64>], tried: &[Vec<f64>]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let network = hermesh_compiler::onnx::read(&folder.join(format!("{name}.onnx"))).unwrap();
    let model = compile(&network, &slices(rows), None, APPROXIMATE, &mut |_| ()).unwrap();
    let mut pairs = Vec::new();
    for row in tried {
        let torus = model.encode_row(row).unwrap();
        let outputs = model.decode_outputs(&model.program().simulate(&torus, &mut Noise::Absent));
        pairs.extend(outputs.into_iter().zip(network.evaluate(row).unwrap()));
    }
    let mean = pairs.iter().map(|(_, plain)| plain).sum::<f64>() / pairs.len() as f64;
    let spread = pairs.iter().map(|(_, plain)| (plain - mean).powi(2)).sum::<f64>();
    let spread = (spread / pairs.len() as f64).sqrt();
    // Values beyond the calibrated ranges are wrong for every network; they must be rare.
    let off = pairs.iter().filter(|(ours, plain)| (ours - plain).abs() > 0.05 * spread).count();
    assert!(off * 100 <= pairs.len(), "{name}: {off} of {} outputs are off", pairs.len());
}

#[test]
fn graphs_that_are_no_chain_survive_quantisation() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut rows = |count: usize, width: usize| -> Vec<Vec<f64>> {
        let row = |rng: &mut StdRng| (0..width).map(|_| rng.random_range(-1.5..1.5)).collect();
        (0..count).map(|_| row(&mut rng)).collect()
    };
    for (name, width) in [
        ("residual", 4),
        ("residual_deep", 4),
        ("residual_of_input", 4),
        ("concat_stages", 4),
        ("max", 4),
        ("residual_conv", 20),
        ("max_pool_inside", 30),
        ("max_pool_overlaps_of_conv", 30),
        ("gelu", 4),
        ("gate", 4),
        ("functions_of_functions", 4),
    ] {
        golden(name, &rows(3000, width), &rows(300, width));
    }
}

#[test]
fn embeddings_know_indices_that_the_calibration_rows_do_not_have() {
    let mut rng = StdRng::seed_from_u64(6);
    let mut rows = |most: u32| -> Vec<Vec<f64>> {
        let row = |rng: &mut StdRng| {
            let indices = (0..4).map(|_| f64::from(rng.random_range(0..most))).collect::<Vec<_>>();
            let features = (0..2).map(|_| rng.random_range(-1.5..1.5)).collect::<Vec<_>>();
            [indices, features].concat()
        };
        (0..400).map(|_| row(&mut rng)).collect()
    };
    golden("embedding_and_features", &rows(6), &rows(6));
    golden("embedding_and_features", &rows(5), &rows(6));
}

#[test]
fn rows_with_an_index_that_no_table_has_are_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let network =
        hermesh_compiler::onnx::read(&folder.join("embedding_and_features.onnx")).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let mut row = || {
        let indices = (0..4).map(|_| f64::from(rng.random_range(0..6)));
        let indices = indices.collect::<Vec<_>>();
        [indices, (0..2).map(|_| rng.random_range(-1.5..1.5)).collect()].concat()
    };
    let rows: Vec<Vec<f64>> = (0..400).map(|_| row()).collect();
    let model = compile(&network, &slices(&rows), None, APPROXIMATE, &mut |_| ()).unwrap();
    let client = model.client();
    for value in [-1.0, 2.5, 6.0, 1e18] {
        let mut row = rows[0].clone();
        row[1] = value;
        let expected = Refusal::NoIndex { feature: 1, value, low: 0.0, high: 5.0 };
        for policy in [OutOfRange::Refuse, OutOfRange::Clamp] {
            for refused in [model.admit(&row, policy), client.admit(&row, policy)] {
                assert!(
                    matches!(&refused, Err(Error::Refused(found)) if *found == expected),
                    "{refused:?}"
                );
            }
        }
        assert_eq!(client.admit(&row, OutOfRange::Keep).unwrap().kept, Some(expected));
        // Nor are such rows for calibration.
        let mut rows = rows.clone();
        rows[3] = row;
        let refused = compile(&network, &slices(&rows), None, APPROXIMATE, &mut |_| ());
        assert!(matches!(refused, Err(Error::Domain { .. })), "{:?}", refused.err());
    }
}

/// Raw scores reveal the key, so a file that would show them is refused.
#[test]
fn a_model_that_would_show_its_noise_is_refused() {
    let network = network(Activation::Relu, labels());
    let rows = rows(300);
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let model = compile(&network, &rows, None, APPROXIMATE, &mut |_| {}).unwrap();
    let bytes = model.encode().unwrap();
    assert!(Model::decode(&bytes).is_ok());
    let stored: Vec<u8> = model.resolution().iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(stored.len()).position(|part| part == stored).unwrap();
    let mut finer = bytes.clone();
    finer[at..at + stored.len()].fill(0);
    let finer = mend_digest(finer);
    let error = Model::decode(&finer).unwrap_err().to_string();
    assert!(error.contains("noise"), "{error}");
}
