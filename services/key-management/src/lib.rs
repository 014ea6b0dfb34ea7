//! Key management: knows the tenants, their evaluation keys and the models, and decides who may use which.
//! It handles public material only; no secret key ever reaches it.
//!
//! It keeps no state of its own. Its knowledge is records on the bus that are written once and never change
//! ([`TenantRecord`](hermesh_mesh::wire::TenantRecord) and its neighbours). So any replica can answer any
//! request, and if one dies in the middle, the next continues from the records.

mod actor;
mod engine;
mod error;
mod keys;
mod logic;
mod options;
mod registry;
mod request;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use error::Error;
pub use keys::Key;
pub use logic::{Effect, Fact, Input, Inspected, Logic, Records};
pub use options::{Options, Registration};
pub use request::{Reply, Request};

use hermesh_mesh::wire::Refused;

/// Inspects uploaded bytes.
pub trait Inspect: Send + Sync + 'static {
    /// Checks an evaluation key and returns the name of its parameter set.
    fn key(&self, bytes: &[u8]) -> Result<String, Refused>;

    /// Checks a model and returns the name of its parameter set.
    fn model(&self, bytes: &[u8]) -> Result<String, Refused>;
}
