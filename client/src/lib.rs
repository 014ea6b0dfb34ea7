//! The client side of hermesh: what runs on the user's own machine, where the secret key lives.
//!
//! - [`data`] reads the inputs and labels people have (`.npy`, IDX, CSV, gzip or not) and writes
//!   results;
//! - [`vault`] keeps secret keys at rest under a passphrase;
//! - [`files`] writes files so that a reader sees all of one or nothing;
//! - [`keys`] is the directory that holds a client's keys;
//! - [`connection`] speaks to a mesh in other processes, [`membership`] remembers whose receipts to
//!   trust there, [`outbox`] keeps the jobs that were signed for it;
//! - [`revealed`] counts what shown scores and labels tell about each key;
//! - [`model`] reads compiled models, and turns rows into what is encrypted and back;
//! - [`compute`] is the services' work without the services, on the engine directly;
//! - [`quote`] says what an inference will cost, by a short measurement, and [`speed`] how fast this
//!   machine is under a parameter set;
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
