//! The client side of hermesh: what runs on the user's own machine, where the secret key lives.
//!
//! - [`data`] reads inputs and labels (`.npy`, IDX, CSV, plain or gzip) and writes results;
//! - [`vault`] stores secrets encrypted with a passphrase;
//! - [`files`] writes files atomically;
//! - [`keys`] is the directory of a client's keys;
//! - [`connection`] connects to a mesh in other processes, [`membership`] stores its address and the receipt signing
//!   keys to trust, [`outbox`] keeps the jobs that were signed for it;
//! - [`revealed`] counts how much shown scores and labels reveal about each key;
//! - [`model`] reads compiled models, encodes and encrypts rows, and decrypts and decodes answers;
//! - [`compute`] computes jobs on the engine directly, without services;
//! - [`quote`] estimates the cost of an inference by a short measurement, and [`speed`] measures this machine under a
//!   parameter set;
//! - [`terminal`] draws pictures, tables and progress;
//! - [`cli`] is the definition of the command line.

pub mod cli;
pub mod compute;
pub mod connection;
pub mod data;
mod error;
pub mod files;
pub mod keys;
pub mod membership;
pub mod model;
pub mod outbox;
pub mod passphrase;
mod probe;
pub mod quote;
pub mod revealed;
pub mod speed;
pub mod terminal;
pub mod vault;

pub use error::{Error, Result};
