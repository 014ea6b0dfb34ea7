//! The services as programs: what stands around a service when it runs as a process of its own.
//!
//! [`build`] takes a checked [`config::Config`] and gives a [`Bound`] program, with the address it
//! really listens on; [`run`] drives it until a signal ends it. A binary is [`main`] of a [`Program`].

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
