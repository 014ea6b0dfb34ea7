use hermesh_compiler::network::{
    Activation, Affine, Decision, Head, Label, Layer, Matrix, Network,
};
use hermesh_compiler::{Model, Options, compile};

use super::*;
use crate::compare::Client as _;

/// Three features, four hidden neurons, two classes.
fn network() -> Network {
    let layer = |rows, cols, values: &[f64], bias: &[f64], activation: Option<Activation>| Layer {
        name: "layer".into(),
        affine: Affine {
            matrix: Matrix::Dense { rows, cols, values: values.to_vec() },
            bias: bias.to_vec(),
        },
        activation: activation.map(Into::into),
        bounds: None,
        groups: None,
    };
    let first = [1.0, -1.0, 0.5, -0.5, 1.0, 0.25, 0.75, 0.5, -1.0, -1.0, -0.25, 1.0];
    let second = [1.0, -0.5, 0.75, -1.0, -0.75, 1.0, -0.25, 0.5];
    Network {
        name: "tiny".into(),
        inputs: 3,
        input_shape: vec![3],
        layers: vec![
            layer(4, 3, &first, &[0.1, -0.2, 0.3, 0.0], Some(Activation::Relu)),
            layer(2, 4, &second, &[0.05, -0.05], None),
        ],
        head: Head {
            transforms: Vec::new(),
            decision: Decision::ArgMax { labels: vec![Label::Int(0), Label::Int(1)] },
        },
        indices: vec![],
    }
}

/// A grid over [−1, 1]³.
fn rows() -> Vec<Vec<f64>> {
    let at = |i: usize| (i % 4) as f64 / 1.5 - 1.0;
    (0..64).map(|i| vec![at(i), at(i / 4), at(i / 16)]).collect()
}

fn model(network: &Network, rows: &[&[f64]]) -> Model {
    let options = Options::default();
    compile(network, rows, None, options, &mut |_| ()).unwrap()
}

#[test]
fn answers_are_those_of_the_network() {
    let (network, rows) = (network(), rows());
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let model = model(&network, &rows);
    for (fused, bootstraps) in [(false, 8), (true, 4)] {
        let quantised = quantise(&network, &rows, fused).unwrap();
        let plan = quantised.plan.clone();
        assert_eq!(plan.bootstraps(), bootstraps);
        let (mut client, key) = Client::generate(&model, quantised);
        let server = Server::new(plan, key).unwrap();
        for row in rows.iter().step_by(13) {
            let answer = server.answer(&client.encrypt(row).unwrap()).unwrap();
            let (found, expected) =
                (client.outputs(&answer).unwrap(), network.evaluate(row).unwrap());
            // Tolerance for a range of about 4.
            let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.15);
            assert!(close, "{row:?}: {found:?}, not {expected:?}");
            if (expected[0] - expected[1]).abs() > 0.3 {
                assert_eq!(client.label(&answer).unwrap(), network.predict(row).unwrap().label);
            }
        }
    }
}

#[test]
fn a_short_key_or_input_is_an_error() {
    let (network, rows) = (network(), rows());
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let plan = quantise(&network, &rows, true).unwrap().plan;
    let server = Server::new(plan.clone(), vec![0; 80]);
    assert!(server.is_err());
    let key = vec![0; 8 * (parameters::BSK_WORDS + parameters::KSK_WORDS)];
    let server = Server::new(plan, key).unwrap();
    assert!(server.answer(&[0; 80]).is_err());
}
