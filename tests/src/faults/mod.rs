//! Simulates the whole mesh under seeded faults: a seed determines one schedule, one history and one
//! verdict.
//!
//! All services run on the in-memory bus and a paused clock. Each process has its own [`bus::FaultyBus`].
//! Every operation on it waits until the [`simulation::Simulation`] lets it proceed: one at a time, when no
//! task can do anything else, in an order and with faults that the seed determines.

pub mod bus;
pub mod client;
pub mod fault;
pub mod history;
pub mod invariants;
pub mod plan;
pub mod process;
pub mod run;
pub mod simulation;
