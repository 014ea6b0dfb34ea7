//! The engine of hermesh: machine-learning inference on TFHE ciphertexts with two operators.
//!
//! A [`Program`] is a chain of stages. Each stage is a [`Linear`] (an integer matrix applied to
//! ciphertexts, no bootstrapping) and, but for the last, a [`Lookup`] (any function of one value,
//! one programmable bootstrap per value). The life of an inference:
//!
//! ```text
//! client                     server, public material only                              client
//! encrypt ──▶ begin ──▶ evaluate × shards ──▶ advance ──▶ … ──▶ advance ──▶ pack ──▶ decrypt
//!             Linear    keyswitch, bootstrap   Linear            Linear     answer
//! ```
//!
//! `begin`, `evaluate`, `advance` and `pack` take and return bytes, so that whoever moves the work
//! about (the mesh, or a single process) needs to know nothing of what is in it.
//!
//! Notation is that of Chillotti, Gama, Georgieva and Izabachène, *TFHE: Fast Fully Homomorphic
//! Encryption over the Torus* (J. Cryptology 2020): LWE dimension *n*, GLWE dimension *k*,
//! polynomial size *N*. A plaintext is a fraction of the torus ℝ/ℤ, held as a `u64` (scaled by 2⁶⁴)
//! or, where the noise allows it, a `u32` (scaled by 2³²).

mod answer;
pub mod artifact;
mod codec;
mod cost;
mod decompose;
mod error;
mod input;
mod job;
mod kernel;
mod keys;
mod linear;
mod lookup;
mod lwe;
#[allow(clippy::disallowed_methods, reason = "predictions, which no ciphertext depends on")]
pub mod noise;
mod outline;
#[allow(clippy::disallowed_methods, reason = "standard deviations, which only encryption needs")]
pub mod parameters;
mod program;
mod random;
pub mod reach;
#[allow(clippy::disallowed_methods, reason = "bounds, which no ciphertext depends on")]
pub mod reveal;
mod roots;
mod rotation;
mod share;
mod simulate;
mod timings;
mod transform;

pub use answer::{Answer, decrypt};
pub use cost::Cost;
pub use error::Error;
pub use input::{Input, encrypt};
pub use job::{Shard, Step, advance, begin, evaluate, pack};
pub use keys::{BootstrapKey, ClientKey, EvaluationKey, PackingKey};
pub use lookup::BATCH;
pub use outline::Outline;
pub use parameters::ParameterSet;
pub use program::{
    Linear, Lookup, MAX_PROGRAM_BYTES, MAX_WIDTH, Matrix, Precision, Program, Stage,
};
pub use simulate::{Noise, torus};
pub use timings::Timings;

/// A SHA-256 digest: what keys, programs and ciphertexts are named by.
pub type Digest = [u8; 32];

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "figures to compare with")]
mod tests;
