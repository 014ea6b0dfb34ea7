//! Aggregation joins the partials of a stage. When a stage is complete, it applies the next Linear and
//! publishes the next stage's tasks, or packs the answer, signs a receipt and publishes both. It keeps no
//! state: it reads what it needs back from the bus, so any replica can finish any job.

mod actor;
mod engine;
mod logic;
mod sweep;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use logic::{Effect, Error, Input, Logic, Options};

use hermesh_mesh::wire::{Computed, Refused, Step};

/// The computations of aggregation.
pub trait Join: Send + Sync + 'static {
    /// An expanded packing key.
    type Key: Send + Sync + 'static;
    /// A decoded model.
    type Model: Send + Sync + 'static;

    /// Decodes and expands a key; also returns its size in memory, in bytes.
    fn key(&self, bytes: &[u8]) -> Result<(Self::Key, usize), Refused>;

    /// Decodes a model; also returns its size in memory, in bytes.
    fn model(&self, bytes: &[u8]) -> Result<(Self::Model, usize), Refused>;

    /// Applies the Linear after `stage` to the stage's partials, given in shard order.
    fn advance(
        &self,
        model: &Self::Model,
        stage: u32,
        partials: &[&[u8]],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused>;

    /// Packs the program's outputs into the answer.
    fn pack(
        &self,
        model: &Self::Model,
        key: &Self::Key,
        outputs: &[u8],
    ) -> Result<Computed<Vec<u8>>, Refused>;
}
