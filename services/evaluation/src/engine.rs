//! Bootstrapping with the real engine.

use hermesh_engine::{BootstrapKey, EvaluationKey, Program, Timings};
use hermesh_mesh::wire::{Computed, OperatorTime, Refused};

use crate::Compute;

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Compute for Engine {
    type Key = BootstrapKey;
    type Model = Program;

    fn key(&self, bytes: &[u8]) -> Result<(BootstrapKey, usize), Refused> {
        let key = EvaluationKey::decode(bytes).map_err(refused)?;
        let key = BootstrapKey::expand(&key).map_err(refused)?;
        let size = key.memory_bytes();
        Ok((key, size))
    }

    fn model(&self, bytes: &[u8]) -> Result<(Program, usize), Refused> {
        let program = Program::decode(bytes).map_err(refused)?;
        let size = program.memory_bytes();
        Ok((program, size))
    }

    fn evaluate(
        &self,
        program: &Program,
        key: &BootstrapKey,
        shard: &[u8],
    ) -> Result<Computed<Vec<u8>>, Refused> {
        let timings = Timings::default();
        let value = hermesh_engine::evaluate(program, key, shard, &timings).map_err(refused)?;
        Ok(Computed { value, times: OperatorTime::collect(timings.iter()) })
    }
}

fn refused(error: hermesh_engine::Error) -> Refused {
    Refused(error.to_string())
}
