//! Inspection with the real engine.

use hermesh_engine::{EvaluationKey, Program};
use hermesh_mesh::wire::Refused;

use crate::Inspect;

/// The engine's decoders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Inspect for Engine {
    fn key(&self, bytes: &[u8]) -> Result<String, Refused> {
        let key = EvaluationKey::decode(bytes).map_err(|error| Refused(error.to_string()))?;
        Ok(key.parameter_set().name.to_owned())
    }

    fn model(&self, bytes: &[u8]) -> Result<String, Refused> {
        let program = Program::decode(bytes).map_err(|error| Refused(error.to_string()))?;
        Ok(program.parameter_set().name.to_owned())
    }
}
