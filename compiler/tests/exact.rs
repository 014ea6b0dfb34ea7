//! Dense networks under `exact`: what they lose, and that their sums stay in their frames.

#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, npy};
use hermesh_compiler::network::{Label, Network};
use hermesh_compiler::{Model, Options, Precision, compile, onnx};
use hermesh_engine::{Noise, Program};

const EXACT: Options =
    Options { precision: Some(Precision::Exact), failure_log2: -128.0, accuracy_budget: None };

fn compiled(network: &Network, folder: &str, options: Options) -> Model {
    let rows = npy(&examples(folder).join("calibration-images.npy"));
    let labels = labels(folder, "calibration-labels.npy");
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    compile(network, &rows, Some(&labels), options, &mut |_| {}).unwrap()
}

fn labels(folder: &str, name: &str) -> Vec<Label> {
    let labels = npy(&examples(folder).join(name));
    labels.iter().flatten().map(|&label| Label::Int(label as i64)).collect()
}

/// Whether every sum of an exact program stays inside its frame: half a turn before a table, a turn for outputs.
/// Computed without going around.
fn stays(program: &Program, row: &[u64]) -> bool {
    let mut values: Vec<i128> = row.iter().map(|&x| i128::from(x as i64)).collect();
    for stage in program.stages() {
        let matrix = &stage.linear.matrix;
        let sum = |r: usize| {
            let bias = i128::from(stage.linear.bias[r] as i64);
            matrix.row(r).fold(bias, |sum, (c, w)| sum + i128::from(w) * values[c])
        };
        let sums: Vec<i128> = (0..matrix.rows()).map(sum).collect();
        let Some(lookup) = &stage.lookup else {
            return sums.iter().all(|sum| sum.abs() < 1 << 63);
        };
        if !sums.iter().all(|sum| (0..1 << 63).contains(sum)) {
            return false;
        }
        let entry = |(r, &sum): (usize, &i128)| i128::from(lookup.entry(r, sum as u64) as i64);
        values = sums.iter().enumerate().map(entry).collect();
    }
    true
}

fn accuracy(model: &Model, rows: &[Vec<f64>], labels: &[Label]) -> (f64, f64, f64) {
    let (mut plain, mut exact, mut left) = (0, 0, 0);
    for (row, label) in rows.iter().zip(labels) {
        let torus = model.encode_row(row).unwrap();
        let outputs = model.program().simulate(&torus, &mut Noise::Absent);
        let found = model.interpret(&model.decode_outputs(&outputs)).label;
        plain += usize::from(model.plain(row).unwrap().label.as_ref() == Some(label));
        exact += usize::from(found.as_ref() == Some(label));
        left += usize::from(!stays(model.program(), &torus));
    }
    let percent = |count: usize| 100.0 * count as f64 / rows.len() as f64;
    (percent(plain), percent(exact), percent(left))
}

#[test]
fn a_network_with_one_hidden_layer_keeps_its_accuracy_and_its_frames() {
    for name in ["mlp64", "mlp"] {
        let network = onnx::read(&examples("digits").join(format!("{name}.onnx"))).unwrap();
        let model = compiled(&network, "digits", EXACT);
        let (rows, labels) =
            (npy(&examples("digits").join("test-images.npy")), labels("digits", "test-labels.npy"));
        let (plain, exact, left) = accuracy(&model, &rows, &labels);
        println!("{name} plain {plain}, exact {exact}, left {left}");
        let report = model.report();
        println!(
            "{} {:?} {:?}",
            report.parameter_set, report.failure_log2, report.simulated_accuracy
        );
        for s in &report.stages {
            println!("   {s:?}");
        }
        for c in &report.frontier {
            println!("   {c:?}");
        }
    }
}
