//! The engine of hermesh: machine-learning inference on TFHE ciphertexts with two operators.
//!
//! A [`Program`] is a chain of stages. Each stage is a [`Linear`] (y = W·x + b with an integer matrix W, no bootstrap).
//! Every stage except the last is followed by a [`Lookup`] (any function of one value, one programmable bootstrap per
//! value). The steps of an inference:
//!
//! ```text
//! client                     server, public material only                              client
//! encrypt ──▶ begin ──▶ evaluate × shards ──▶ advance ──▶ … ──▶ advance ──▶ pack ──▶ decrypt
//!             Linear    keyswitch, bootstrap   Linear            Linear     answer
//! ```
//!
//! `begin`, `evaluate`, `advance` and `pack` take and return bytes, so the caller (the mesh, or a single process) does
//! not need to interpret them.
//!
//! Notation follows Chillotti, Gama, Georgieva and Izabachène, *TFHE: Fast Fully Homomorphic Encryption over the Torus*
//! (J. Cryptology 2020): LWE dimension *n*, GLWE dimension *k*, polynomial size *N*. A plaintext is a fraction of the
//! torus ℝ/ℤ, stored as a `u64` (scaled by 2⁶⁴) or, where the noise allows it, as a `u32` (scaled by 2³²). One turn is
//! the whole torus. A sum's frame is the part of the torus that it was scaled for; a sum outside it wraps around and
//! decrypts to a wrong number.

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
#[allow(clippy::disallowed_methods, reason = "predictions only: no ciphertext depends on them")]
pub mod noise;
mod outline;
#[allow(clippy::disallowed_methods, reason = "standard deviations: only encryption uses them")]
pub mod parameters;
mod program;
mod random;
pub mod reach;
#[allow(clippy::disallowed_methods, reason = "bounds only: no ciphertext depends on them")]
pub mod reveal;
mod roots;
mod rotation;
mod share;
mod simulate;
#[allow(clippy::disallowed_methods, reason = "predictions only: no ciphertext depends on them")]
mod spread;
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
pub use spread::{Moments, Spread};
pub use timings::Timings;

/// A SHA-256 digest. It identifies a key or a program.
pub type Digest = [u8; 32];

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "reference values")]
mod tests;
