//! An engine whose bootstrap is a timed wait, with the shapes and sizes of the MNIST MLP 784-128-64-10 under
//! `tfhe-4x512-768/1`. Two cores can then model many machines, and only the mesh itself uses them.

use std::time::Duration;

use hermesh_mesh::wire::{Computed, OperatorTime, Refused, Shard, Step};
use hermesh_preprocessing::Weight;

/// Values of each stage.
pub(super) const STAGES: [usize; 2] = [128, 64];
/// Lookups of one job.
pub(super) const LOOKUPS: usize = STAGES[0] + STAGES[1];
/// Bytes of an encrypted input and of an answer.
pub(super) const INPUT_BYTES: usize = 3_234;
const ANSWER_BYTES: usize = 4_716;
const OUTPUTS: usize = 10;
/// A ciphertext of the first stage: dimension 768, 16 bits a coefficient.
const SMALL_BYTES: usize = 769 * 2;
/// Any other: dimension 4 × 512, 32 bits a coefficient.
const LARGE_BYTES: usize = 2_049 * 4;

/// The engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    /// Simulated time of one Lookup.
    pub(super) lookup: Duration,
}

fn computed<T>(value: T) -> Computed<T> {
    Computed { value, times: Vec::<OperatorTime>::new() }
}

fn stage(number: u32, per_shard: usize) -> Step {
    let Some(values) = STAGES.get(number as usize) else {
        return Step::Outputs(vec![0; OUTPUTS * LARGE_BYTES]);
    };
    let bytes = if number == 0 { SMALL_BYTES } else { LARGE_BYTES };
    let shard = |start: usize| {
        let lookups = per_shard.min(values - start);
        Shard { bytes: vec![0; lookups * bytes], lookups: lookups as u32 }
    };
    let shards = (0..*values).step_by(per_shard).map(shard).collect();
    Step::Lookups { stage: number, shards }
}

impl hermesh_key_management::Inspect for Timed {
    fn key(&self, _: &[u8]) -> Result<String, Refused> {
        Ok("timed".into())
    }

    fn model(&self, _: &[u8]) -> Result<String, Refused> {
        Ok("timed".into())
    }
}

impl hermesh_preprocessing::Prepare for Timed {
    type Model = ();

    fn model(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    fn weigh(&self, (): &(), _: &[u8]) -> Result<Weight, Refused> {
        let (lookups, bytes) = (LOOKUPS as u64, (STAGES[0] * LARGE_BYTES) as u64);
        Ok(Weight { lookups, work: lookups, bytes, memory: 0 })
    }

    fn begin(&self, (): &(), _: &[u8], per_shard: usize) -> Result<Computed<Step>, Refused> {
        Ok(computed(stage(0, per_shard)))
    }
}

impl hermesh_evaluation::Compute for Timed {
    type Key = ();
    type Model = ();

    fn key(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    fn model(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    // The wait is what this engine is for.
    #[allow(clippy::disallowed_methods)]
    fn evaluate(&self, (): &(), (): &(), shard: &[u8]) -> Result<Computed<Vec<u8>>, Refused> {
        let large = shard.len() / LARGE_BYTES;
        let lookups =
            if shard.len().is_multiple_of(LARGE_BYTES) { large } else { shard.len() / SMALL_BYTES };
        std::thread::sleep(self.lookup * lookups as u32);
        Ok(computed(vec![0; lookups * LARGE_BYTES]))
    }
}

impl hermesh_aggregation::Join for Timed {
    type Key = ();
    type Model = ();

    fn key(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    fn model(&self, _: &[u8]) -> Result<((), usize), Refused> {
        Ok(((), 1))
    }

    fn advance(
        &self,
        (): &(),
        number: u32,
        _: &[&[u8]],
        per_shard: usize,
    ) -> Result<Computed<Step>, Refused> {
        Ok(computed(stage(number + 1, per_shard)))
    }

    fn pack(&self, (): &(), (): &(), _: &[u8]) -> Result<Computed<Vec<u8>>, Refused> {
        Ok(computed(vec![0; ANSWER_BYTES]))
    }
}
