//! Runs the services as programs: everything around a service that runs as its own process.
//!
//! [`build`] takes a checked [`config::Config`] and returns a [`Bound`] program with its actual address;
//! [`run`] runs it until a signal ends it. A binary is [`main`] of a [`Program`].

mod command;
pub mod config;
mod health;
pub mod identity;
mod program;
mod run;
mod services;
pub mod telemetry;

pub use command::main;
pub use program::{Bound, Error, Program, Stopper, build, load};
pub use run::{Ended, run};
pub use services::{Aggregation, Evaluation, KeyManagement, Preprocessing};
