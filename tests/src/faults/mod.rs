//! Simulation of the whole mesh under seeded faults: one seed is one schedule, one history, and one
//! verdict.
//!
//! All services run on the in-memory bus and a paused clock. Each process has a [`bus::FaultyBus`] of
//! its own, and every operation on it waits until the [`simulation::Simulation`] lets it go: one at a
//! time, when nobody has anything left to do, in an order and with faults that follow from the seed.

pub mod bus;
pub mod client;
pub mod fault;
pub mod history;
pub mod invariants;
pub mod plan;
pub mod process;
pub mod run;
pub mod simulation;
