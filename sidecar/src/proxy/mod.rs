//! The way between a workload and the broker: one connection on this side for each on the other.

mod connection;
mod fresh;
mod gate;
mod greeting;
mod inbound;
mod outbound;
mod rate;
mod recent;
mod rejection;
mod session;
mod upstream;

pub use connection::{Listener, serve};
pub use gate::Gate;
pub use rejection::Rejection;
pub use upstream::{Handshake, Upstream};
