//! From a model file to a program.
//!
//! `onnx` reads a file into a `network` in floating point, which is also the plain-text reference;
//! [`compile()`] quantises it for a parameter set of the engine, simulates the noise and chooses.

mod bounded;
mod calibration;
mod compile;
pub mod error;
mod grid;
mod measure;
mod model;
mod neighbours;
pub mod network;
pub mod onnx;
mod prune;
mod quantise;
mod report;
mod rounding;
mod scale;
mod split;
mod sums;
mod trees;

pub use compile::{Options, Precision, compile};
pub use error::Error;
pub use measure::normal;
pub use model::{MAX_MODEL_BYTES, Model};
pub use report::{Candidate, Report, StageReport};
