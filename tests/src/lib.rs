//! What the scenarios share: a stub of the engine, a bus that dies, and a mesh on a paused clock.

pub mod bus;
pub mod mesh;
pub mod stub;
