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
    /// No parameter set of the catalogue can hold the network at all.
    #[error(
        "no parameter set holds this network at the failure probability asked for; use `--precision approximate`, or narrower layers"
    )]
    NoParameterSet,
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
    /// The engine refused a program.
    #[error(transparent)]
    Engine(#[from] hermesh_engine::Error),
}
