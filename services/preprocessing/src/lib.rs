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
pub use logic::{Effect, Error, Input, Logic, Name, Open, Options};

use hermesh_mesh::wire::{Computed, Refused, Step};

/// What preprocessing computes.
pub trait Prepare: Send + Sync + 'static {
    /// A decoded model.
    type Model: Send + Sync + 'static;

    /// Decodes a model and says how many bytes it takes.
    fn model(&self, bytes: &[u8]) -> Result<(Self::Model, usize), Refused>;

    /// Applies the first Linear and cuts the result into shards.
    fn begin(
        &self,
        model: &Self::Model,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Begun>, Refused>;
}

/// The beginning of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// How it goes on.
    pub step: Step,
    /// Lookups of the whole job.
    pub total: u64,
}
