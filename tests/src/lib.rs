//! Shared parts of the scenarios: a stub of the engine, a bus whose process dies, and a mesh on a paused
//! clock.

pub mod bus;
pub mod faults;
pub mod history;
pub mod mesh;
pub mod real;
pub mod stub;
