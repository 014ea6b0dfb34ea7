//! Errors of the compiler, and reasons for refusing a row.

use std::path::PathBuf;

/// Errors of the compiler. Messages state what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A size exceeds a limit on memory or time.
    #[error("{what} over the limit of {limit}: hermesh does not import models of this size")]
    TooLarge {
        /// What is too large, in the plural.
        what: &'static str,
        /// The limit it exceeds.
        limit: u64,
    },
    /// The bytes are not an ONNX model.
    #[error(
        "not an ONNX model ({reason}): expected a protobuf file as written by torch.onnx.export or skl2onnx"
    )]
    Malformed {
        /// What the decoder found.
        reason: String,
    },
    /// The model cannot be imported.
    #[error("cannot import the model: {reason}")]
    Model {
        /// What was expected and what came.
        reason: String,
    },
    /// An operator that is not supported.
    #[error("node {node}: operator {operator} is not supported; supported: {supported}")]
    UnsupportedOperator {
        /// The node's name.
        node: String,
        /// The node's operator.
        operator: String,
        /// All supported operators.
        supported: String,
    },
    /// A supported operator that is used in an unsupported or invalid way.
    #[error("node {node} ({operator}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// The node's operator.
        operator: String,
        /// What was expected and what came.
        reason: String,
    },
    /// A value without a definition.
    #[error(
        "{user} reads value `{value}`, but no input, initialiser or node defines it: the file is incomplete, export it again"
    )]
    UndefinedValue {
        /// The node or output that reads it.
        user: String,
        /// The value's name.
        value: String,
    },
    /// A value that is defined twice.
    #[error("value `{value}` is defined more than once: the file is damaged, export it again")]
    DuplicateValue {
        /// The value's name.
        value: String,
    },
    /// A graph with a cycle.
    #[error("node {node} depends on its own output: the file is damaged, export it again")]
    Cycle {
        /// A node on the cycle.
        node: String,
    },
    /// An input whose shape is not fixed.
    #[error(
        "input `{input}` has no fixed size on axis {axis}: only the first axis, the batch, may be dynamic; export with fixed feature sizes"
    )]
    DynamicShape {
        /// The input's name.
        input: String,
        /// The axis, counted from 0.
        axis: usize,
    },
    /// A tensor that cannot be decoded.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What was expected and what came.
        reason: String,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "{what} holds NaN or infinite values: weights must be finite; was the training stable?"
    )]
    NotFinite {
        /// Where it was found.
        what: String,
    },
    /// A malformed network.
    #[error("malformed network: {reason}")]
    Network {
        /// What was expected and what came.
        reason: String,
    },
    /// A row of the wrong length.
    #[error("the row has {found} features, but the model takes {expected}")]
    RowLength {
        /// Features the model takes.
        expected: usize,
        /// Features the row has.
        found: usize,
    },
    /// Unusable calibration data.
    #[error("the calibration data cannot be used: {reason}")]
    Calibration {
        /// What is wrong with it.
        reason: String,
    },
    /// An invalid domain, or one for another number of features.
    #[error("the domain of the features cannot be used: {reason}")]
    Domain {
        /// What was expected and what came.
        reason: String,
    },
    /// A row that would get a wrong answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No parameter set of the catalogue can hold the network.
    #[error(
        "no parameter set holds this network at the requested failure probability; use `--precision approximate`, or narrower layers"
    )]
    NoParameterSet,
    /// No program bounds all sums over the whole domain.
    #[error(
        "no parameter set holds this network with every sum bounded over the whole domain at the requested accuracy: declare a narrower --domain, or leave out `--guarantee bounded` and have rows checked instead"
    )]
    NotBounded,
    /// No program keeps the requested accuracy.
    #[error(
        "no program loses at most {budget} points; the best, under {set}, loses {best:.2}. Allow more, or train with weight decay and noise"
    )]
    Budget {
        /// Percentage points that may be lost.
        budget: f64,
        /// Percentage points that the best program loses.
        best: f64,
        /// Its parameter set.
        set: &'static str,
    },
    /// Not a compiled model, or a damaged one.
    #[error("not a compiled model: {reason}")]
    BadModel {
        /// What is wrong with it.
        reason: String,
    },
    /// A client model where the whole model is needed.
    #[error(
        "this is a client model, which has no weights: expected the whole model, as `hermesh compile` writes it"
    )]
    ClientHalf,
    /// The engine refused a program.
    #[error(transparent)]
    Engine(#[from] hermesh_engine::Error),
}

/// Why a row is refused before encryption: its answer would differ from the model's. Features, outputs and values are
/// counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The row lies outside a declared domain.
    #[error("feature {feature} is {value}, outside its domain of {low} to {high}")]
    OutsideDomain {
        /// The feature.
        feature: usize,
        /// What it is.
        value: f64,
        /// Lower end of its domain.
        low: f64,
        /// Upper end of its domain.
        high: f64,
    },
    /// A feature is an index, and no such one exists.
    #[error(
        "feature {feature} is {value}, but it is an index: expected a whole number from {low} to {high}"
    )]
    NoIndex {
        /// The feature.
        feature: usize,
        /// What it is.
        value: f64,
        /// Smallest index.
        low: f64,
        /// Largest index.
        high: f64,
    },
    /// A sum would leave its frame, wrap around and decrypt to a wrong number.
    #[error(
        "value {value} of layer {layer} would be at {at:.2} of its frame, outside {low:.2} to {high:.2}: it would wrap around to a wrong number"
    )]
    OutOfFrame {
        /// Index of the layer in the report's list of stages.
        layer: usize,
        /// Index of the value.
        value: usize,
        /// Position of the sum, as a fraction of the frame.
        at: f64,
        /// Lowest valid position, with a margin for noise.
        low: f64,
        /// Highest valid position.
        high: f64,
    },
    /// Clamping or rounding would move an output by more than the model's stated limit.
    #[error(
        "output {output} would differ from the plain model's by {by:.4}, more than the stated {limit:.4}{}",
        beyond(.furthest)
    )]
    Deviates {
        /// The output.
        output: usize,
        /// Its error before noise.
        by: f64,
        /// The limit.
        limit: f64,
        /// The feature that is furthest outside the calibrated span, and its value; `None` if all are inside.
        furthest: Option<(usize, f64)>,
    },
    /// The client model cannot exclude that clamping moves an output too far.
    #[error(
        "feature {feature} is {value}, so far outside the calibrated span of {low} to {high} that moving it there could change the answer"
    )]
    Clamped {
        /// The feature, after the client's own layers.
        feature: usize,
        /// What it is.
        value: f64,
        /// Lowest value that is encoded.
        low: f64,
        /// Highest value that is encoded.
        high: f64,
    },
}

fn beyond(furthest: &Option<(usize, f64)>) -> String {
    furthest.map_or_else(String::new, |(feature, value)| {
        format!("; feature {feature} is {value}, the furthest outside the calibrated span")
    })
}
