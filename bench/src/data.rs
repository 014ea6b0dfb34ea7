//! The model, and the data for calibration and measurement.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hermesh_client::data::{Limits, Table, read_labels, read_table};
use hermesh_client::model::labels;
use hermesh_compiler::network::{Label, Network};
use hermesh_compiler::onnx;

/// Paths of the data. [default: the digits MLP of `examples/`]
#[derive(Args)]
pub(crate) struct Files {
    /// The ONNX model. [default: the digits MLP of the repository, with its data]
    #[arg(long, value_name = "MODEL.onnx", requires_all = ["calibration", "inputs"])]
    model: Option<PathBuf>,
    /// Inputs for calibration: .npy, .csv or IDX, plain or gzip-compressed.
    #[arg(long, value_name = "X", requires_all = ["model", "inputs"])]
    calibration: Option<PathBuf>,
    /// Labels of the calibration inputs.
    #[arg(long, value_name = "Y", requires = "calibration")]
    calibration_labels: Option<PathBuf>,
    /// Number of calibration inputs to use, from the first. [default: all]
    #[arg(long, value_name = "N", default_value_t = 6000)]
    calibration_limit: usize,
    /// Inputs to run.
    #[arg(long, value_name = "X", requires_all = ["model", "calibration"])]
    inputs: Option<PathBuf>,
    /// Labels of the inputs.
    #[arg(long, value_name = "Y", requires = "inputs")]
    labels: Option<PathBuf>,
}

/// Rows and, if known, their labels.
pub(crate) struct Rows {
    pub(crate) table: Table,
    pub(crate) labels: Option<Vec<Label>>,
}

/// The data of a comparison.
pub(crate) struct Samples {
    pub(crate) network: Network,
    pub(crate) calibration: Rows,
    pub(crate) inputs: Rows,
}

impl Rows {
    fn read(
        network: &Network,
        rows: &Path,
        names: Option<&Path>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let limits = Limits { rows: limit, ..Limits::default() };
        let table = read_table(rows, limits)?;
        ensure!(
            table.columns == network.inputs,
            "{} has rows of {} features, but the model takes {}",
            rows.display(),
            table.columns,
            network.inputs
        );
        let Some(names) = names else { return Ok(Self { table, labels: None }) };
        let labels = labels(&network.head, &read_labels(names, limits)?);
        ensure!(
            labels.len() == table.rows,
            "{} has {} labels for the {} rows of {}",
            names.display(),
            labels.len(),
            table.rows,
            rows.display()
        );
        Ok(Self { table, labels: Some(labels) })
    }

    /// The rows as slices.
    pub(crate) fn slices(&self) -> Vec<&[f64]> {
        self.table.values.chunks_exact(self.table.columns).collect()
    }
}

/// Reads model and data.
pub(crate) fn read(files: &Files) -> Result<Samples> {
    read_or(files, "mlp.onnx")
}

/// Reads model and data; without a model, this one on the digits.
pub(crate) fn read_or(files: &Files, default: &str) -> Result<Samples> {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits");
    let Files { model, calibration, calibration_labels, calibration_limit, inputs, labels } = files;
    let given = |path: &Option<PathBuf>, name: &str| match path {
        Some(path) => path.clone(),
        None => digits.join(name),
    };
    // The digits' labels are the default only for the digits.
    let names = |path: &Option<PathBuf>, name: &str| match (path, model) {
        (None, None) => Some(digits.join(name)),
        _ => path.clone(),
    };
    let model = given(model, default);
    let network = onnx::read(&model).with_context(|| model.display().to_string())?;
    let calibration = Rows::read(
        &network,
        &given(calibration, "calibration-images.npy"),
        names(calibration_labels, "calibration-labels.npy").as_deref(),
        Some(*calibration_limit),
    )?;
    let inputs = Rows::read(
        &network,
        &given(inputs, "test-images.npy"),
        names(labels, "test-labels.npy").as_deref(),
        None,
    )?;
    Ok(Samples { network, calibration, inputs })
}
