//! The conventional way to run a neural network under TFHE: `tfhe`'s core API, its default parameters, and a network
//! quantised after training.
//!
//! - **Keys**: `tfhe`'s default parameters; keys are transferred uncompressed, 8 bytes per coefficient.
//! - **Input**: each feature, quantised to 8 bits, is one LWE ciphertext under the big key, which is `tfhe`'s default for
//!   encryption. The answer is one such ciphertext per output.
//! - **Operators**, one after the other, each on all values before the next one begins, like a framework that runs a
//!   graph node by node: the matrix product by multiplications with small integers and additions of ciphertexts; the
//!   bias; the activation, a keyswitch and a bootstrap per value; the requantisation to 6 bits for the next layer, again
//!   a keyswitch and a bootstrap per value. (With the operators *fused* the last two are one lookup table and one
//!   bootstrap.)
//! - **Quantisation**: weights of 6 bits with one scale per layer, calibrated ranges with some headroom. Lookup tables
//!   have the full resolution that the parameters allow, and a padding bit.
//! - **Parallel** over values, on as many threads as hermesh.
//!
//! Where there is a choice, it favours this pipeline: weights of zero cost nothing, the accumulators of lookup tables
//! are prepared in advance, and the bytes of the key are freed as soon as they are decoded. (In both pipelines the key
//! arrives as one message.)

mod client;
mod parameters;
mod plan;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use client::Client;
pub(crate) use plan::{Plan, quantise};
pub(crate) use server::Server;

/// A fraction of the torus, scaled by 2⁶⁴.
fn torus(fraction: f64) -> u64 {
    ((fraction - fraction.round()) * 2f64.powi(64)) as i64 as u64
}
