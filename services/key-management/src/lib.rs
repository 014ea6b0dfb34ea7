//! Key management: who the tenants are, which evaluation keys and models exist, and who may use what.
//! Only public material comes here; no secret key ever does.
//!
//! It keeps nothing to itself. What it knows are facts on the bus that are written once and never
//! change ([`TenantRecord`](hermesh_mesh::wire::TenantRecord) and its neighbours), so any replica can
//! answer any request, and one that dies in the middle of it leaves facts from which the next goes on.

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

/// What key management needs to know about the bytes it is offered.
pub trait Inspect: Send + Sync + 'static {
    /// Checks an evaluation key and returns the name of its parameter set.
    fn key(&self, bytes: &[u8]) -> Result<String, Refused>;

    /// Checks a model and returns the name of its parameter set.
    fn model(&self, bytes: &[u8]) -> Result<String, Refused>;
}
