//! Rows are answered correctly or refused, by the whole model and by the client model.

#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, npy};
use hermesh_compiler::network::{Activation, Affine, Decision, Head, Layer, Matrix, Network};
use hermesh_compiler::{
    Admit, Artifact, Client, Domain, Error, Grid, Guarantee, Model, Options, OutOfRange, Refusal,
    Source, compile, normal, onnx,
};
use hermesh_engine::Noise;
use hermesh_engine::artifact::mend_digest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn digits(name: &str, options: Options) -> (Network, Model) {
    let folder = examples("digits");
    let network = onnx::read(&folder.join(format!("{name}.onnx"))).unwrap();
    let rows = npy(&folder.join("calibration-images.npy"));
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let model = compile(&network, &rows, None, options, &mut |_| {}).unwrap();
    (network, model)
}

/// Held-out rows, and the same rows in three forms that calibration does not show.
fn kinds() -> [Vec<Vec<f64>>; 4] {
    let mut rows = npy(&examples("digits").join("test-images.npy"));
    rows.truncate(100);
    let each =
        |f: fn(f64) -> f64| rows.iter().map(|row| row.iter().map(|&x| f(x)).collect()).collect();
    [each(|x| x), each(|x| 3.0 * x), each(|x| 16.0 - x), each(|x| if x > 7.0 { 0.0 } else { 16.0 })]
}

/// Rows all over the span of pixels: uniform, and at corners.
fn drawn() -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut row = |corner: bool| -> Vec<f64> {
        let pixel = |_| {
            if corner {
                16.0 * f64::from(rng.random_range(0..2u8))
            } else {
                rng.random_range(0.0..=16.0)
            }
        };
        (0..64).map(pixel).collect()
    };
    (0..400).map(|i| row(i % 2 == 0)).collect()
}

/// Number of rows that are answered, and the largest error of a score in stated standard deviations.
fn answered(model: &Model, by: &impl Admit, rows: &[Vec<f64>]) -> (usize, f64) {
    let noise = model.program().noise();
    let (mut count, mut worst) = (0, 0.0f64);
    for (seed, row) in rows.iter().enumerate() {
        let Ok(admitted) = by.admit(row, OutOfRange::Refuse) else {
            continue;
        };
        count += 1;
        let mut rng = StdRng::seed_from_u64(seed as u64);
        let mut normal = || normal(&mut rng);
        let noise = &mut Noise::Predicted { stages: &noise, normal: &mut normal };
        let outputs = model.decode_outputs(&model.program().simulate(&admitted.torus, noise));
        let plain = model.network().evaluate(row).unwrap();
        for (i, (a, b)) in outputs.iter().zip(&plain).enumerate() {
            worst = worst.max((a - b).abs() / model.report().deviation[i]);
        }
    }
    (count, worst)
}

#[test]
fn answered_rows_are_right_whatever_the_rows() {
    for name in ["logreg", "mlp64", "mlp", "cnn", "xgboost"] {
        let (_, model) = digits(name, Options::default());
        let [test, tripled, inverted, binary] = kinds();
        let (count, _) = answered(&model, &model, &test);
        assert!(count >= 98, "{name}: {count} of 100 held-out rows");
        for rows in [test, tripled, inverted, binary, drawn()] {
            let (count, worst) = answered(&model, &model, &rows);
            assert!(worst <= 6.0, "{name}: {count} answered, off by {worst} deviations");
        }
    }
}

#[test]
fn a_clamped_row_is_answered_as_the_plain_model_answers_it_or_refused() {
    for name in ["logreg", "mlp64", "xgboost"] {
        let (_, model) = digits(name, Options::default());
        let [_, tripled, ..] = kinds();
        let mut moved = 0;
        for row in tripled.iter().chain(&drawn()) {
            let Ok(admitted) = model.admit(row, OutOfRange::Clamp) else { continue };
            moved += admitted.clamped;
            let clamped = model.client().domain().clamp(row);
            let quiet = model.program().simulate(&admitted.torus, &mut Noise::Absent);
            let plain = model.network().evaluate(&clamped).unwrap();
            for (i, (a, b)) in model.decode_outputs(&quiet).iter().zip(&plain).enumerate() {
                let off = (a - b).abs() / model.report().deviation[i];
                assert!(off <= 6.0, "{name}: off by {off} deviations");
            }
        }
        assert!(moved > 0 || name == "mlp64", "{name}: nothing was clamped");
    }
}

/// Calibration shows only the flat parts of the sigmoids; other rows meet their slopes, which amplify noise.
#[test]
fn rows_with_more_noise_than_is_stated_are_refused() {
    let dense = |rows: usize, cols: usize, values: Vec<f64>, activation| Layer {
        name: String::new(),
        affine: Affine { matrix: Matrix::Dense { rows, cols, values }, bias: vec![0.0; rows] },
        activation,
        groups: None,
        bounds: None,
    };
    let network = Network {
        name: String::new(),
        inputs: 2,
        input_shape: vec![2],
        layers: vec![
            dense(2, 2, vec![40.0, 4.0, 4.0, 40.0], Some(Activation::Sigmoid.into())),
            dense(1, 2, vec![1.0, 1.0], None),
        ],
        head: Head { transforms: vec![], decision: Decision::Scores },
        indices: vec![],
    };
    let mut rng = StdRng::seed_from_u64(3);
    let mut draw = |least: f64| -> Vec<f64> {
        let mut one = || rng.random_range(least..=1.0) * if rng.random() { 1.0 } else { -1.0 };
        vec![one(), one()]
    };
    let flat: Vec<Vec<f64>> = (0..400).map(|_| draw(0.9)).collect();
    let rows: Vec<&[f64]> = flat.iter().map(Vec::as_slice).collect();
    let options = Options { guarantee: Some(Guarantee::Checked), ..Options::default() };
    let model = compile(&network, &rows, None, options, &mut |_| {}).unwrap();
    let (count, worst) = answered(&model, &model, &flat);
    assert!(count >= 390 && worst <= 6.0, "{count} of the calibrated kind, off by {worst}");
    let steep: Vec<Vec<f64>> = (0..2000).map(|_| draw(0.0)).collect();
    let (count, worst) = answered(&model, &model, &steep);
    assert!(worst <= 6.0, "{count} answered, off by {worst}");
    let refused = model.admit(&[0.0, 0.0], OutOfRange::Refuse);
    assert!(matches!(refused, Err(Error::Refused(Refusal::Deviates { .. }))), "{refused:?}");
}

#[test]
fn a_row_whose_plain_output_is_not_finite_is_refused() {
    let (_, model) = digits("mlp64", Options::default());
    let row: Vec<f64> = (0..64).map(|i| if i % 2 == 0 { 1.7e308 } else { -1.7e308 }).collect();
    assert!(model.admit(&row, OutOfRange::Refuse).is_err());
}

#[test]
fn wrong_rows_would_be_wrong() {
    let (_, model) = digits("mlp64", Options::default());
    assert_eq!(model.client().guarantee(), Guarantee::Checked);
    let row = &kinds()[2][0];
    let refused = model.admit(row, OutOfRange::Refuse).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OutOfFrame { .. })), "{refused}");
    let kept = model.admit(row, OutOfRange::Keep).unwrap();
    assert!(kept.kept.is_some());
    let outputs = model.program().simulate(&kept.torus, &mut Noise::Absent);
    let plain = model.network().evaluate(row).unwrap();
    let outputs = model.decode_outputs(&outputs);
    let off = outputs.iter().zip(&plain).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f64::max) > 6.0 * model.report().deviation[0]);
}

#[test]
fn the_clients_half_has_no_weights_and_refuses_the_same_rows() {
    let (network, model) = digits("logreg", Options::default());
    let client = model.client();
    assert_eq!(client.guarantee(), Guarantee::Bounded);
    assert!(client.vouches());
    let bytes = client.encode().unwrap();
    let Artifact::Client(client) = Artifact::decode(&bytes).unwrap() else {
        panic!("not the half")
    };
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let whole = model.encode().unwrap();
    let weights = network.layers.last().unwrap().affine.matrix.values();
    for weight in weights.iter().filter(|weight| **weight != 0.0) {
        assert!(holds(&whole, &weight.to_le_bytes()), "the search finds nothing");
        assert!(!holds(&bytes, &weight.to_le_bytes()), "{weight}");
        assert!(!holds(&bytes, &(*weight as f32).to_le_bytes()), "{weight}");
    }
    accepts_no_more(&model, &client);
    assert!(matches!(Model::decode(&bytes), Err(Error::ClientHalf)));
}

/// The client model refuses every row that the whole model refuses.
fn accepts_no_more(model: &Model, client: &Client) {
    for rows in kinds().into_iter().chain([drawn()]) {
        for row in rows {
            if client.admit(&row, OutOfRange::Refuse).is_ok() {
                model.admit(&row, OutOfRange::Refuse).unwrap();
            }
        }
    }
}

#[test]
fn trees_with_their_own_thresholds_are_checked_by_the_client_model() {
    let domain = Some(Domain::same(64, 0.0, 16.0, Source::Declared));
    let options = Options { domain, grid: Grid::Thresholds, ..Options::default() };
    let (_, model) = digits("xgboost", options);
    assert!(model.client().vouches());
    accepts_no_more(&model, model.client());
    let inside =
        drawn().iter().filter(|row| model.client().admit(row, OutOfRange::Refuse).is_ok()).count();
    assert_eq!(inside, 400, "rows of the domain are answered");
    let (_, model) = digits("xgboost", Options::default());
    assert!(!model.client().vouches());
    let (_, model) = digits("mlp64", Options::default());
    assert!(!model.client().vouches());
}

#[test]
fn a_damaged_client_model_is_refused() {
    let (_, model) = digits("logreg", Options::default());
    let bytes = model.client().encode().unwrap();
    let stored = |list: &[f64]| list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    // Bounds below zero would cancel others.
    let sensitivity = model.client().sensitivity().unwrap();
    let at = bytes.windows(8 * 64).position(|part| part == stored(sensitivity)).unwrap();
    let first = sensitivity.iter().position(|&x| x > 0.0).unwrap();
    let mut negative = bytes.clone();
    negative[at + 8 * first + 7] |= 0x80;
    assert!(Artifact::decode(&mend_digest(negative)).is_err());
    // An empty list of bounds: its length is one byte before it.
    let mut empty = bytes.clone();
    empty[at - 1] = 0;
    empty.drain(at..at + 8 * 64);
    assert!(Artifact::decode(&mend_digest(empty)).is_err());
}

#[test]
fn a_half_that_would_show_its_noise_is_refused() {
    let (_, model) = digits("logreg", Options::default());
    let bytes = model.client().encode().unwrap();
    let stored: Vec<u8> = model.resolution().iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(stored.len()).position(|part| part == stored).unwrap();
    let mut finer = bytes.clone();
    finer[at..at + stored.len()].fill(0);
    let error = Artifact::decode(&mend_digest(finer)).unwrap_err().to_string();
    assert!(error.contains("noise"), "{error}");
}

#[test]
fn a_declared_domain_is_strict() {
    let domain = Domain::same(64, 0.0, 16.0, Source::Declared);
    let (_, model) = digits("logreg", Options { domain: Some(domain), ..Options::default() });
    let mut row = kinds()[0][0].clone();
    assert!(model.admit(&row, OutOfRange::Refuse).is_ok());
    row[5] = 16.5;
    let refused = model.admit(&row, OutOfRange::Refuse).unwrap_err();
    let expected = Refusal::OutsideDomain { feature: 5, value: 16.5, low: 0.0, high: 16.0 };
    assert!(matches!(refused, Error::Refused(found) if found == expected));
    assert!(model.admit(&row, OutOfRange::Clamp).is_ok());
    assert_eq!(model.admit(&row, OutOfRange::Keep).unwrap().kept, Some(expected));
}
