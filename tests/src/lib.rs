//! What the scenarios share: a stub of the engine, a bus that dies, and a mesh on a paused clock.

pub mod bus;
pub mod faults;
pub mod history;
pub mod mesh;
pub mod real;
pub mod stub;
