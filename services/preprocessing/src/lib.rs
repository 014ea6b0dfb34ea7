//! Preprocessing admits jobs. It authenticates them, checks them against the records of tenant, key and
//! model, enforces the tenants' quotas, applies the first Linear and cuts the first stage into shards. It
//! also cancels jobs.

mod actor;
mod cancel;
mod engine;
mod logic;
mod shares;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use logic::{Candidate, Effect, Error, Input, Logic, Name, Open, Options};

use hermesh_mesh::wire::{Computed, Refused, Step};

/// The computations of preprocessing.
pub trait Prepare: Send + Sync + 'static {
    /// A decoded model.
    type Model: Send + Sync + 'static;

    /// Decodes a model; also returns its size in memory, in bytes.
    fn model(&self, bytes: &[u8]) -> Result<(Self::Model, usize), Refused>;

    /// Estimates the job's cost, cheaply.
    fn weigh(&self, model: &Self::Model, input: &[u8]) -> Result<Weight, Refused>;

    /// Applies the first Linear and cuts the result into shards.
    fn begin(
        &self,
        model: &Self::Model,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused>;
}

/// The cost of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Lookups of the whole job; its progress is counted in these.
    pub lookups: u64,
    /// The computation time of the job on all services, in units of one Lookup: its Lookups, and the
    /// equivalent of its Linears, the expansion of its input and the packing of its answer. Limits and
    /// quotas count this.
    pub work: u64,
    /// Bytes of the results of its widest stage, which are stored until the stage is complete.
    pub bytes: u64,
    /// The most memory that one service needs for it at once, here or in aggregation, in bytes.
    pub memory: u64,
}
