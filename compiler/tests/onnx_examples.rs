//! The example models, against the outputs of onnxruntime that are committed with them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use hermesh_compiler::network::Label;
use hermesh_compiler::onnx;

/// onnxruntime computes in 32 bits.
const TOLERANCE: f64 = 1e-4;

fn examples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(folder)
}

/// The rows of a `.npy` file of little-endian numbers; labels are rows of one.
fn npy(path: &Path) -> Vec<Vec<f64>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (header, data) = bytes[10..].split_at(u16::from_le_bytes([bytes[8], bytes[9]]).into());
    let header = String::from_utf8_lossy(header);
    let values = if header.contains("'<f4'") {
        data.as_chunks()
            .0
            .iter()
            .map(|&value| f32::from_le_bytes(value).into())
            .collect::<Vec<f64>>()
    } else {
        assert!(header.contains("'<i8'"), "{header}");
        data.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value) as f64).collect()
    };
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let sizes =
        shape.split(',').filter_map(|size| size.trim().parse().ok()).collect::<Vec<usize>>();
    values.chunks(sizes[1..].iter().product()).map(<[f64]>::to_vec).collect()
}

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
