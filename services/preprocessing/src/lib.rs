//! Preprocessing: the gate. It authenticates jobs, checks them against what is known of tenant, key
//! and model, sees that no tenant takes more than its share, applies the first Linear and cuts the
//! first stage into shards. It also cancels jobs.

mod actor;
mod cancel;
mod engine;
mod logic;
mod shares;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use logic::{Candidate, Effect, Error, Input, Logic, Name, Open, Options};

use hermesh_mesh::wire::{Computed, Refused, Step};

/// What preprocessing computes.
pub trait Prepare: Send + Sync + 'static {
    /// A decoded model.
    type Model: Send + Sync + 'static;

    /// Decodes a model and says how many bytes it takes.
    fn model(&self, bytes: &[u8]) -> Result<(Self::Model, usize), Refused>;

    /// What the job will cost, at a glance.
    fn weigh(&self, model: &Self::Model, input: &[u8]) -> Result<Weight, Refused>;

    /// Applies the first Linear and cuts the result into shards.
    fn begin(
        &self,
        model: &Self::Model,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused>;
}

/// What a job costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Lookups of the whole job: what its progress is counted in.
    pub lookups: u64,
    /// The time that it takes on all services, in lookups: those, and what its Linears, the expansion of
    /// its input and the packing of its answer take in place of lookups. Limits and shares count this.
    pub work: u64,
    /// Bytes of the results of its widest stage, which are kept until the stage is complete.
    pub bytes: u64,
    /// Bytes of memory that one service takes for it at once, here or in aggregation.
    pub memory: u64,
}
