//! `eval` of models that predict numbers, on networks small enough to be quick.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use hermesh_client::model;
use serde_json::{Value, json};

/// Rows like those that the networks were trained on: irises.
fn rows(count: usize) -> Vec<[f64; 4]> {
    let wave = |row: usize, step: f64| (row as f64 * step).sin();
    let row = |i| {
        [5.8 + wave(i, 1.3), 3.0 + 0.6 * wave(i, 2.1), 3.7 + 2.0 * wave(i, 0.7), 1.2 + wave(i, 3.1)]
    };
    (0..count).map(row).collect()
}

fn csv<const N: usize>(rows: &[[f64; N]]) -> String {
    rows.iter().map(|row| row.map(|x| x.to_string()).join(",") + "\n").collect()
}

/// A compiled network of the compiler's tests, rows for it, and its outputs plus one.
struct Tiny {
    model: String,
    inputs: String,
    targets: String,
}

fn tiny<const OUTPUTS: usize>(name: &str) -> Tiny {
    let directory = scratch(&format!("eval-{name}"));
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let source = format!("{}/../compiler/tests/golden/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    let tiny = Tiny { model: path("model.hmx"), inputs: path("x.csv"), targets: path("y.csv") };
    let calibration = path("calibration.csv");
    fs::write(&calibration, csv(&rows(200))).unwrap();
    let arguments =
        ["compile", &source, "--calibration", &calibration, "--no-measure", "-o", &tiny.model];
    ok(&arguments);
    fs::write(&tiny.inputs, csv(&rows(6))).unwrap();
    let model = model::read_whole(Path::new(&tiny.model)).unwrap();
    let targets: Vec<[f64; OUTPUTS]> = rows(6)
        .iter()
        .map(|row| model.plain(row).unwrap().scores.try_into().unwrap())
        .map(|scores: [f64; OUTPUTS]| scores.map(|score| score + 1.0))
        .collect();
    fs::write(&tiny.targets, csv(&targets)).unwrap();
    tiny
}

impl Tiny {
    fn eval(&self, more: &[&str]) -> Value {
        let eval = ["eval", "--model", &self.model, "--inputs", &self.inputs, "--json"];
        json(&[&eval, more].concat())
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn one_number_a_row() {
    let tiny = tiny::<1>("mlp_regression");
    let found = tiny.eval(&["--labels", &tiny.targets]);
    let all = &found["numbers"]["all"];
    assert_eq!(all, &found["numbers"]["outputs"][0]);
    for what in ["simulated", "encrypted"] {
        let deviation = &all[what];
        assert!(number(&deviation["r2"]) > 0.8, "{deviation}");
        let (mean, largest) = (
            number(&deviation["mean_absolute_deviation"]),
            number(&deviation["largest_deviation"]),
        );
        assert!(0.0 < mean && mean <= largest && largest < 1.0, "{deviation}");
    }
    // The targets are off by one.
    let plain = &all["targets"]["plain"];
    assert!((number(&plain["mean_absolute_deviation"]) - 1.0).abs() < 1e-9, "{plain}");
    assert!(number(&all["targets"]["encrypted"]["r2"]) < number(&all["encrypted"]["r2"]));
    assert_eq!(found["encrypted_accuracy"], json!(null));
    assert!(number(&found["median_seconds"]) > 0.0);

    let text = ok(&["eval", "--model", &tiny.model, "--inputs", &tiny.inputs, "--simulate-only"]);
    assert!(
        text.contains("simulated against plain") && text.contains("nothing encrypted"),
        "{text}"
    );
    assert!(!text.contains("targets") && !text.contains("encrypted against"), "{text}");
}

#[test]
fn several_numbers_a_row() {
    let tiny = tiny::<2>("linear_regression_targets");
    let found = tiny.eval(&["--labels", &tiny.targets, "--limit", "4"]);
    let numbers = &found["numbers"];
    assert_eq!(found["samples"], json!(4));
    assert_eq!(numbers["outputs"].as_array().unwrap().len(), 2);
    let of = |output: usize| number(&numbers["outputs"][output]["encrypted"]["largest_deviation"]);
    let all = number(&numbers["all"]["encrypted"]["largest_deviation"]);
    assert_eq!(all, of(0).max(of(1)));
    // The mean of two R².
    let r2 = |of: &Value| number(&of["encrypted"]["r2"]);
    let mean = (r2(&numbers["outputs"][0]) + r2(&numbers["outputs"][1])) / 2.0;
    assert!((r2(&numbers["all"]) - mean).abs() < 1e-12 && mean > 0.9, "{numbers}");
    assert_eq!(found.get("agreement"), None);

    // Several scores may belong to classes: labels decide that, and without labels it stays open.
    let labels = format!("{}.labels", tiny.targets);
    fs::write(&labels, "0\n1\n0\n1\n0\n1\n").unwrap();
    let found = tiny.eval(&["--labels", &labels, "--simulate-only"]);
    assert!(found["plain_accuracy"].is_f64() && found.get("numbers").is_none(), "{found}");
    assert!(found.get("encrypted_accuracy").is_none() && found.get("median_seconds").is_none());
    let found = tiny.eval(&["--simulate-only"]);
    assert!(found["simulated_agreement_plain"].is_f64() && found["numbers"].is_object());
}

#[test]
fn targets_must_match_rows_and_outputs() {
    let tiny = tiny::<1>("linear_regression");
    let eval = ["eval", "--model", &tiny.model, "--inputs", &tiny.inputs, "--labels"];
    let fails = |targets: &str| {
        fs::write(&tiny.targets, targets).unwrap();
        fails(&[&eval[..], &[&tiny.targets]].concat())
    };
    assert!(fails("1.5\n2.5\n").contains("6 rows, found 2"));
    let two = fails(&csv(&[[1.0, 2.0]; 6]));
    assert!(two.contains("1 columns") && two.contains("found 2"), "{two}");
}
