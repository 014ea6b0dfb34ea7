//! Evaluation takes shards, computes their Lookups (keyswitch and bootstrap) on its own compute pool, and
//! publishes the results. It keeps nothing that it could not fetch again.

mod actor;
mod affinity;
mod engine;
mod logic;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use logic::{Effect, Error, Input, Logic, Options};

use hermesh_mesh::wire::{Computed, Refused};

/// The computations of evaluation.
pub trait Compute: Send + Sync + 'static {
    /// An expanded key.
    type Key: Send + Sync + 'static;
    /// A decoded model.
    type Model: Send + Sync + 'static;

    /// Decodes and expands a key; also returns its size in memory, in bytes.
    fn key(&self, bytes: &[u8]) -> Result<(Self::Key, usize), Refused>;

    /// Decodes a model; also returns its size in memory, in bytes.
    fn model(&self, bytes: &[u8]) -> Result<(Self::Model, usize), Refused>;

    /// Computes the Lookups of one shard.
    fn evaluate(
        &self,
        model: &Self::Model,
        key: &Self::Key,
        shard: &[u8],
    ) -> Result<Computed<Vec<u8>>, Refused>;
}
