//! Key management: who the tenants are, which evaluation keys and models exist, and who may use what.
//! Only public material comes here; no secret key ever does.

mod actor;
mod engine;
mod logic;

pub use actor::{Handle, start};
pub use engine::Engine;
pub use logic::{AuditEntry, Effect, Error, Input, Kind, Logic, Options, Reply};

use hermesh_mesh::wire::Refused;

/// What key management needs to know about the bytes it is offered.
pub trait Inspect: Send + Sync + 'static {
    /// Checks an evaluation key and returns the name of its parameter set.
    fn key(&self, bytes: &[u8]) -> Result<String, Refused>;

    /// Checks a model and returns the name of its parameter set.
    fn model(&self, bytes: &[u8]) -> Result<String, Refused>;
}
