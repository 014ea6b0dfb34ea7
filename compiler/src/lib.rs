//! Compiles a model file to a program of the engine.
//!
//! `onnx` reads a file into a `network` in floating point, which is also the plain-text reference. [`compile()`]
//! quantises the network for the engine's parameter sets, simulates the noise and chooses a set.

mod bounded;
mod calibration;
mod client;
mod compile;
mod domain;
pub mod error;
mod frame;
mod grid;
mod interval;
mod measure;
mod mend;
mod model;
mod neighbours;
pub mod network;
pub mod onnx;
mod probe;
mod proven;
mod prune;
mod quantise;
mod report;
mod rounding;
mod scale;
mod split;
mod sums;
mod trees;
mod warnings;

pub use client::{Admit, Admitted, Client, Guarantee, OutOfRange};
pub use compile::{Grid, Options, Precision, compile};
pub use domain::{Domain, Index, Source};
pub use error::{Error, Refusal};
pub use measure::normal;
#[doc(hidden)]
pub use mend::mend_digests;
pub use model::{Artifact, MAX_MODEL_BYTES, Model};
pub use report::{Candidate, GridReport, Report, StageReport, Unbounded};
