//! Linear and packing with the real engine.

use hermesh_engine::{EvaluationKey, PackingKey, Program, Step as EngineStep, Timings};
use hermesh_mesh::wire::{Computed, OperatorTime, Refused, Shard, Step};

use crate::Join;

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Join for Engine {
    type Key = PackingKey;
    type Model = Program;

    fn key(&self, bytes: &[u8]) -> Result<(PackingKey, usize), Refused> {
        let key = EvaluationKey::decode(bytes).map_err(refused)?;
        let key = PackingKey::expand(&key).map_err(refused)?;
        let size = key.memory_bytes();
        Ok((key, size))
    }

    fn model(&self, bytes: &[u8]) -> Result<(Program, usize), Refused> {
        let program = Program::decode(bytes).map_err(refused)?;
        let size = program.memory_bytes();
        Ok((program, size))
    }

    fn advance(
        &self,
        program: &Program,
        stage: u32,
        partials: &[&[u8]],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused> {
        let timings = Timings::default();
        let step = hermesh_engine::advance(program, stage, partials, lookups_per_shard, &timings)
            .map_err(refused)?;
        let value = match step {
            EngineStep::Outputs(bytes) => Step::Outputs(bytes),
            EngineStep::Lookups { stage, shards } => Step::Lookups {
                stage,
                shards: shards
                    .into_iter()
                    .map(|shard| Shard { bytes: shard.bytes, lookups: shard.lookups })
                    .collect(),
            },
        };
        Ok(Computed { value, times: OperatorTime::collect(timings.iter()) })
    }

    fn pack(
        &self,
        program: &Program,
        key: &PackingKey,
        outputs: &[u8],
    ) -> Result<Computed<Vec<u8>>, Refused> {
        let timings = Timings::default();
        let value = hermesh_engine::pack(program, key, outputs, &timings).map_err(refused)?;
        Ok(Computed { value, times: OperatorTime::collect(timings.iter()) })
    }
}

fn refused(error: hermesh_engine::Error) -> Refused {
    Refused(error.to_string())
}
