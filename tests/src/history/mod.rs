//! A history of crashes: real processes on a real nats-server, killed, stopped and continued at random
//! moments that follow from a seed, while jobs run; and what must hold afterwards.

pub mod cluster;
pub mod events;
pub mod faults;
pub mod member;
pub mod recorder;
pub mod role;
pub mod rotation;
pub mod sidecars;
pub mod trust;
pub mod workload;

/// Lookups in one shard.
pub const PER_SHARD: usize = 4;
