//! Crash histories: random sequences, determined by a seed, of real processes and a real nats-server being
//! killed, stopped and continued while jobs run; and the checks afterwards.

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
