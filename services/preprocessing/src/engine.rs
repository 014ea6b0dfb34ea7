//! The first Linear with the real engine.

use hermesh_engine::{Cost, Input, Program, Step as EngineStep, Timings};
use hermesh_mesh::wire::{Computed, OperatorTime, Refused, Shard, Step};

use crate::{Prepare, Weight};

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Prepare for Engine {
    type Model = Program;

    fn model(&self, bytes: &[u8]) -> Result<(Program, usize), Refused> {
        let program = Program::decode(bytes).map_err(refused)?;
        let size = program.memory_bytes();
        Ok((program, size))
    }

    fn weigh(&self, program: &Program, input: &[u8]) -> Result<Weight, Refused> {
        let rows = Input::decode(input, program).map_err(refused)?.rows();
        let Cost { lookups, linear, results, memory } = program.cost(rows);
        Ok(Weight { lookups, work: lookups.saturating_add(linear), bytes: results, memory })
    }

    fn begin(
        &self,
        program: &Program,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused> {
        let timings = Timings::default();
        let step =
            hermesh_engine::begin(program, input, lookups_per_shard, &timings).map_err(refused)?;
        let shard =
            |shard: hermesh_engine::Shard| Shard { bytes: shard.bytes, lookups: shard.lookups };
        let value = match step {
            EngineStep::Outputs(bytes) => Step::Outputs(bytes),
            EngineStep::Lookups { stage, shards } => {
                Step::Lookups { stage, shards: shards.into_iter().map(shard).collect() }
            }
        };
        Ok(Computed { value, times: OperatorTime::collect(timings.iter()) })
    }
}

fn refused(error: hermesh_engine::Error) -> Refused {
    Refused(error.to_string())
}
