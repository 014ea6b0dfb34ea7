//! What can go wrong between a model file and a program.

use std::path::PathBuf;

/// The compiler's error. Messages say what was expected, what came and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A size is over a limit that keeps memory and time bounded.
    #[error("{what} over the limit of {limit}: hermesh does not import models of this size")]
    TooLarge {
        /// What is too large, in plural.
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
    /// The model as a whole is not one that can be imported.
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
    /// A supported operator used in a way that is not, or not valid.
    #[error("node {node} ({operator}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// The node's operator.
        operator: String,
        /// What was expected and what came.
        reason: String,
    },
    /// A value that nothing defines.
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
    /// A graph that is not acyclic.
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
    /// A weight that is not a number or infinite.
    #[error(
        "{what} holds NaN or infinite values: weights must be finite; was the training stable?"
    )]
    NotFinite {
        /// Where it was found.
        what: String,
    },
    /// A network that is not well formed.
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
    /// The calibration data does not serve.
    #[error("the calibration data cannot be used: {reason}")]
    Calibration {
        /// What is wrong with it.
        reason: String,
    },
    /// A domain that is not one, or not of this model.
    #[error("the domain of the features cannot be used: {reason}")]
    Domain {
        /// What was expected and what came.
        reason: String,
    },
    /// A row that would not be answered rightly.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No parameter set of the catalogue can hold the network at all.
    #[error(
        "no parameter set holds this network at the failure probability asked for; use `--precision approximate`, or narrower layers"
    )]
    NoParameterSet,
    /// No program is bounded that way.
    #[error(
        "no parameter set holds this network with every sum bounded over the whole domain and the accuracy asked for: declare a narrower --domain, or leave out `--guarantee bounded` and have rows checked instead"
    )]
    NotBounded,
    /// No program keeps the accuracy that was asked for.
    #[error(
        "no program loses at most {budget} points; the best, under {set}, loses {best:.2}. Allow more, or train with weight decay and noise"
    )]
    Budget {
        /// Points that may be lost.
        budget: f64,
        /// Points that the best program loses.
        best: f64,
        /// Its parameter set.
        set: &'static str,
    },
    /// A file that is not a compiled model, or a damaged one.
    #[error("not a compiled model: {reason}")]
    BadModel {
        /// What is wrong with it.
        reason: String,
    },
    /// The client's half, where the whole model is needed.
    #[error(
        "this is the client's half of a model, which has no weights: this needs the whole model, as `hermesh compile` writes it"
    )]
    ClientHalf,
    /// The engine refused a program.
    #[error(transparent)]
    Engine(#[from] hermesh_engine::Error),
}

/// Why a row is refused before it is encrypted: its answer would not be that of the model. Features, outputs and values
/// are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The domain was declared, and this row is not in it.
    #[error("feature {feature} is {value}, outside its domain of {low} to {high}")]
    OutsideDomain {
        /// The feature.
        feature: usize,
        /// What it is.
        value: f64,
        /// The least that it may be.
        low: f64,
        /// The most that it may be.
        high: f64,
    },
    /// A sum would go round the torus, and stand for another number.
    #[error(
        "value {value} of layer {layer} would be at {at:.2} of its frame, which holds {low:.2} to {high:.2}: it would turn into another number"
    )]
    OutOfFrame {
        /// Index of the layer, as the report lists its stages.
        layer: usize,
        /// Index of the value.
        value: usize,
        /// Where the sum would be, in frames.
        at: f64,
        /// The lowest that the frame holds, room for noise left out.
        low: f64,
        /// The highest.
        high: f64,
    },
    /// Clamping or rounding would move an output further than the model states.
    #[error(
        "output {output} would be off by {by:.4} from what the plain model gives, where at most {limit:.4} is stated{}",
        beyond(.furthest)
    )]
    Deviates {
        /// The output.
        output: usize,
        /// By how much it would be off, before any noise.
        by: f64,
        /// How far off it may be.
        limit: f64,
        /// The feature that is furthest outside the calibrated span, and its value; none if all are inside.
        furthest: Option<(usize, f64)>,
    },
    /// The client's half of a model cannot rule out that clamping moves an output too far.
    #[error(
        "feature {feature} is {value}, so far outside the calibrated span of {low} to {high} that moving it there could change the answer"
    )]
    Clamped {
        /// The feature (after what the client computes itself).
        feature: usize,
        /// What it is.
        value: f64,
        /// The least that is encoded.
        low: f64,
        /// The most that is encoded.
        high: f64,
    },
}

fn beyond(furthest: &Option<(usize, f64)>) -> String {
    furthest.map_or_else(String::new, |(feature, value)| {
        format!("; feature {feature} is {value}, the furthest outside the calibrated span")
    })
}
