//! Runs the built binary in a pipe, as scripts do.

// Each test program uses a part of this.
#![allow(dead_code)]
// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use hermesh_client::data::{self, Limits, Table};
use hermesh_client::model;
use hermesh_compiler::Model;
use hermesh_compiler::network::Label;
use serde_json::Value;

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// A file of the digits example.
pub(crate) fn digits(name: &str) -> String {
    format!("{}/../examples/digits/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hermesh"));
    command.args(arguments).env("HERMESH_PASSPHRASE", PASSPHRASE).stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The standard output of a command that succeeded and printed nothing else.
pub(crate) fn ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert_eq!(error, "", "{arguments:?} is not silent in a pipe");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(arguments)).unwrap()
}

/// The error message of a command that failed properly.
pub(crate) fn fails(arguments: &[&str]) -> String {
    failed(arguments, run(arguments))
}

pub(crate) fn failed(arguments: &[&str], output: Output) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(error.starts_with("error: "), "{error}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    error
}

/// A compiled model and keys for it, in a separate directory.
pub(crate) struct Fixture {
    pub(crate) directory: PathBuf,
    pub(crate) model: String,
    pub(crate) keys: String,
    pub(crate) evaluation_key: String,
}

impl Fixture {
    fn new(test: &str, name: &str) -> Self {
        let directory = scratch(&format!("{test}-{name}"));
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let (model, keys) = (path("model.hmx"), path("keys"));
        let images = digits("calibration-images.npy");
        let labels = digits("calibration-labels.npy");
        let source = digits(&format!("{name}.onnx"));
        let text = ok(&[
            "compile",
            &source,
            "--calibration",
            &images,
            "--labels",
            &labels,
            "--no-measure",
            "-o",
            &model,
        ]);
        assert!(text.contains("bits of security"), "{text}");
        assert_eq!(ok(&["keygen", "--model", &model, "--out", &keys]), "");
        Self { evaluation_key: path("keys/evaluation.key"), model, keys, directory }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn read_model(&self) -> Model {
        model::read_whole(Path::new(&self.model)).unwrap()
    }

    pub(crate) fn encrypt(&self, input: &str, job: &str) -> String {
        let job = self.path(job);
        let arguments =
            ["encrypt", "--model", &self.model, "--keys", &self.keys, "--input", input, "-o", &job];
        assert_eq!(ok(&arguments), "");
        job
    }

    pub(crate) fn evaluate(&self, job: &str, answer: &str) -> String {
        let answer = self.path(answer);
        assert_eq!(ok(&self.evaluation(job, &answer)), "");
        answer
    }

    pub(crate) fn evaluation<'a>(&'a self, job: &'a str, answer: &'a str) -> [&'a str; 9] {
        let key = &self.evaluation_key;
        ["evaluate", "--model", &self.model, "--evaluation-key", key, "--input", job, "-o", answer]
    }

    pub(crate) fn decryption<'a>(&'a self, answer: &'a str) -> [&'a str; 7] {
        ["decrypt", "--model", &self.model, "--keys", &self.keys, "--input", answer]
    }
}

/// Logistic regression: no bootstraps.
pub(crate) fn regression() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| Fixture::new(module_path!(), "logreg"))
}

/// A multilayer perceptron.
pub(crate) fn perceptron() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| Fixture::new(module_path!(), "mlp"))
}

/// An empty directory that the next run of the tests clears.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let name = name.replace("::", "-");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    fs::create_dir_all(&directory).unwrap();
    directory
}

pub(crate) fn test_images() -> Table {
    data::read_table(Path::new(&digits("test-images.npy")), Limits::default()).unwrap()
}

/// The rows with the clearest decisions of the plain model, as CSV, and their labels. Noise cannot change these labels.
pub(crate) fn sure_rows(fixture: &Fixture, count: usize, name: &str) -> (String, Vec<i64>) {
    let (model, table) = (fixture.read_model(), test_images());
    let mut rows: Vec<(f64, i64, &[f64])> = (0..table.rows)
        .map(|index| {
            let row = table.row(index).unwrap();
            let mut outputs = model.network().evaluate(row).unwrap();
            outputs.sort_by(|a, b| b.total_cmp(a));
            let Some(Label::Int(label)) = model.plain(row).unwrap().label else {
                panic!("a digit is a number");
            };
            (outputs[0] - outputs[1], label, row)
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.truncate(count);
    let line = |row: &[f64]| row.iter().map(f64::to_string).collect::<Vec<_>>().join(",") + "\n";
    let path = fixture.path(name);
    fs::write(&path, rows.iter().map(|(_, _, row)| line(row)).collect::<String>()).unwrap();
    (path, rows.iter().map(|(_, label, _)| *label).collect())
}

pub(crate) fn lines(labels: &[i64]) -> String {
    labels.iter().map(|label| format!("{label}\n")).collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Number of operators that the service at this address has run, of all kinds.
pub(crate) fn operator_calls(health: &str) -> f64 {
    let metrics = ureq::get(format!("{health}/metrics")).call().unwrap();
    let metrics = metrics.into_body().read_to_string().unwrap();
    let calls = metrics.lines().filter(|line| line.starts_with("hermesh_operator_calls_total{"));
    calls.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
