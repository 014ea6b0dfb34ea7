//! Connects workload and broker: each connection of the workload has one connection to the broker.

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
