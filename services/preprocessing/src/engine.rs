//! The first Linear by the real engine.

use hermesh_engine::{Program, Step as EngineStep, Timings};
use hermesh_mesh::wire::{Computed, OperatorTime, Refused, Shard, Step};

use crate::{Begun, Prepare};

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

    fn begin(
        &self,
        program: &Program,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Begun>, Refused> {
        let timings = Timings::default();
        let step =
            hermesh_engine::begin(program, input, lookups_per_shard, &timings).map_err(refused)?;
        let step = match step {
            EngineStep::Outputs(bytes) => Step::Outputs(bytes),
            EngineStep::Lookups { stage, shards } => Step::Lookups {
                stage,
                shards: shards
                    .into_iter()
                    .map(|shard| Shard { bytes: shard.bytes, lookups: shard.lookups })
                    .collect(),
            },
        };
        let total = total(program, &step);
        Ok(Computed { value: Begun { step, total }, times: OperatorTime::collect(timings.iter()) })
    }
}

/// Lookups of all stages, for as many rows as the first stage shows that there are.
fn total(program: &Program, step: &Step) -> u64 {
    let Step::Lookups { shards, .. } = step else {
        return 0;
    };
    let first: u64 = shards.iter().map(|shard| u64::from(shard.lookups)).sum();
    let per_row = program.stages().first().map_or(0, |stage| stage.lookups());
    let rows = first.checked_div(per_row as u64).unwrap_or(0);
    rows * program.lookups_per_row() as u64
}

fn refused(error: hermesh_engine::Error) -> Refused {
    Refused(error.to_string())
}
