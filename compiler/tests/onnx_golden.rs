//! Compares the importer with onnxruntime on the models of `golden/make.py`: every operator, and every form in which
//! skl2onnx exports a supported model.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use hermesh_compiler::network::Label;
use hermesh_compiler::onnx;
use serde_json::Value;

/// onnxruntime computes in 32 bits.
const TOLERANCE: f64 = 1e-4;

fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn label(value: &Value) -> Label {
    value.as_i64().map_or_else(|| Label::String(value.as_str().unwrap().into()), Label::Int)
}

/// Compares a model with its golden outputs.
fn compare(path: &Path) -> Result<(), String> {
    let network = onnx::read(path).map_err(|error| error.to_string())?;
    let golden: Value =
        serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
    for (i, row) in golden["inputs"].as_array().unwrap().iter().enumerate() {
        let x = floats(row).into_iter().map(|value| f64::from(value as f32)).collect::<Vec<_>>();
        let found = network.predict(&x).map_err(|error| error.to_string())?;
        if !golden["scores"].is_null() {
            let expected = floats(&golden["scores"][i]);
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
            if expected.len() != found.scores.len() || !found.scores.iter().zip(&expected).all(near)
            {
                return Err(format!("row {i}: scores {:?}, expected {expected:?}", found.scores));
            }
        }
        if !golden["labels"].is_null() {
            let expected = label(&golden["labels"][i]);
            if found.label.as_ref() != Some(&expected) {
                return Err(format!("row {i}: label {:?}, expected {expected:?}", found.label));
            }
        }
    }
    Ok(())
}

#[test]
fn every_golden_model_agrees_with_onnxruntime() {
    let models = models();
    assert!(models.len() > 90, "only {} golden models", models.len());
    let failures = models
        .iter()
        .filter_map(|path| compare(path).err().map(|error| format!("{path:?}: {error}")));
    let failures = failures.collect::<Vec<_>>();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        models.len(),
        failures.join("\n")
    );
}

#[test]
fn every_supported_operator_has_a_golden_model() {
    let files = models().iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    for operator in onnx::supported() {
        // The field `op_type` of a node.
        let field = [&[0x22, operator.len() as u8], operator.as_bytes()].concat();
        let found =
            files.iter().any(|file| file.windows(field.len()).any(|window| window == field));
        assert!(found, "no golden model has a node {operator}");
    }
}
