//! The example models, against the outputs of onnxruntime that are committed with them.

#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, npy};
use hermesh_compiler::network::{Activation, Label};
use hermesh_compiler::onnx;

/// onnxruntime computes in 32 bits.
const TOLERANCE: f64 = 1e-4;

#[test]
fn digits_agree_with_onnxruntime() {
    let folder = examples("digits");
    let (images, labels) =
        (npy(&folder.join("test-images.npy")), npy(&folder.join("test-labels.npy")));
    for model in ["logreg", "mlp", "cnn"] {
        let network = onnx::read(&folder.join(format!("{model}.onnx"))).unwrap();
        let expected = npy(&folder.join(format!("expected-{model}.npy")));
        for (image, expected) in images.iter().zip(&expected) {
            let scores = network.predict(image).unwrap().scores;
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
            assert_eq!(scores.len(), expected.len());
            assert!(
                scores.iter().zip(expected).all(near),
                "{model}: {scores:?}, expected {expected:?}"
            );
        }
        let right = |(image, label): &(&Vec<f64>, &Vec<f64>)| {
            network.predict(image).unwrap().label == Some(Label::Int(label[0] as i64))
        };
        let right = images.iter().zip(&labels).filter(right).count();
        assert!(right * 100 >= images.len() * 95, "{model}: {right} of {}", images.len());
    }
}

/// Checks the scores of the first rows of an example.
fn check(folder: &str, model: &str, rows: &[Vec<f64>]) {
    let folder = examples(folder);
    let network = onnx::read(&folder.join(format!("{model}.onnx"))).unwrap();
    let expected = npy(&folder.join(format!("expected-{model}.npy")));
    assert!(!rows.is_empty());
    for (row, expected) in rows.iter().zip(&expected) {
        let scores = network.predict(row).unwrap().scores;
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
        assert!(
            scores.len() == expected.len() && scores.iter().zip(expected).all(near),
            "{model}: {scores:?}, expected {expected:?}"
        );
    }
}

#[test]
fn regression_and_recommendation_agree_with_onnxruntime() {
    check("diabetes", "mlp", &npy(&examples("diabetes").join("test-rows.npy")));
    check("recommend", "recommend", &npy(&examples("recommend").join("test-pairs.npy")));
}

/// MNIST's images are not in the repository. If `MNIST_TEST_IMAGES` names the first hundred as `.npy`, the scores of
/// its models are compared; otherwise the models are only imported.
#[test]
fn mnist_networks_agree_with_onnxruntime() {
    let images = std::env::var("MNIST_TEST_IMAGES");
    for (model, lookups) in [
        ("cnn", &[256, 64][..]),
        ("lenet", &[4704, 1600, 120, 84]),
        ("lenet-maxpool", &[784, 196, 196, 216, 108, 108, 32]),
        ("residual", &[392, 392, 392]),
    ] {
        let network = onnx::read(&examples("mnist").join(format!("{model}.onnx"))).unwrap();
        let found = network.layers.iter().enumerate().filter(|(_, l)| l.activation.is_some());
        // Carried values take no Lookup, except in the first layer.
        let found = found.map(|(i, layer)| {
            let activations = layer.activation.as_ref().unwrap();
            let computes = |&r: &usize| i == 0 || *activations.at(r) != Activation::Identity;
            (0..layer.affine.rows()).filter(computes).count()
        });
        assert_eq!(found.collect::<Vec<_>>(), lookups, "{model}");
        if let Ok(images) = &images {
            check("mnist", model, &npy(images.as_ref()));
        }
    }
}

#[test]
fn the_mnist_model_is_three_dense_layers() {
    let network = onnx::read(&examples("mnist").join("mlp.onnx")).unwrap();
    let shapes = network.layers.iter().map(|layer| (layer.affine.cols(), layer.affine.rows()));
    assert_eq!(shapes.collect::<Vec<_>>(), [(784, 128), (128, 64), (64, 10)]);
    let labels = (0..10).map(Label::Int);
    let mut outputs = vec![0.0; 10];
    for (class, label) in labels.enumerate() {
        outputs[class] = 1.0 + class as f64;
        assert_eq!(network.head.apply(&outputs).label, Some(label));
    }
}
