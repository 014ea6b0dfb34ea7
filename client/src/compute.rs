//! What the services do with a job, without the services: on the engine directly, with public
//! material only.

use std::num::NonZeroUsize;

use hermesh_engine::{
    BATCH, BootstrapKey, EvaluationKey, Input, PackingKey, ParameterSet, Program, Step, Timings,
    advance, begin, evaluate, pack,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Result;

/// A pool of compute threads; one per core by default.
pub fn pool(threads: Option<NonZeroUsize>) -> Result<ThreadPool> {
    Ok(ThreadPoolBuilder::new().num_threads(threads.map_or(0, NonZeroUsize::get)).build()?)
}

/// A program, an evaluation key expanded for it, and threads.
pub struct Evaluator<'a> {
    program: &'a Program,
    /// Absent for programs without Lookups.
    bootstrap: Option<BootstrapKey>,
    packing: PackingKey,
    pool: &'a ThreadPool,
    timings: Timings,
}

impl<'a> Evaluator<'a> {
    /// Expands the key.
    pub fn new(program: &'a Program, key: &EvaluationKey, pool: &'a ThreadPool) -> Result<Self> {
        let set = program.parameter_set();
        check(set, key.parameter_set())?;
        pool.install(|| {
            let expand = |_| BootstrapKey::expand(key);
            Ok(Self {
                program,
                bootstrap: set.bootstrap.map(expand).transpose()?,
                packing: PackingKey::expand(key)?,
                pool,
                timings: Timings::default(),
            })
        })
    }

    /// The same expanded key, for another program under its parameter set and on other threads. Timings
    /// begin anew.
    pub fn with<'b>(self, program: &'b Program, pool: &'b ThreadPool) -> Result<Evaluator<'b>> {
        check(program.parameter_set(), self.program.parameter_set())?;
        let Self { bootstrap, packing, .. } = self;
        Ok(Evaluator { program, bootstrap, packing, pool, timings: Timings::default() })
    }

    /// Memory that the expanded key takes, in bytes.
    pub fn key_memory_bytes(&self) -> usize {
        self.bootstrap.as_ref().map_or(0, BootstrapKey::memory_bytes) + self.packing.memory_bytes()
    }

    /// Computes on an encrypted input; `done` hears of Lookups as they are finished.
    pub fn compute(&self, input: &[u8], mut done: impl FnMut(u64) + Send) -> Result<Vec<u8>> {
        let rows = Input::decode(input, self.program)?.rows();
        self.pool.install(|| {
            let mut step = begin(self.program, input, self.shard(0, rows), &self.timings)?;
            loop {
                let (stage, shards) = match (step, &self.bootstrap) {
                    (Step::Lookups { stage, shards }, Some(key)) => {
                        let partials = shards.into_iter().map(|shard| {
                            let partial = evaluate(self.program, key, &shard.bytes, &self.timings);
                            done(u64::from(shard.lookups));
                            partial
                        });
                        (stage, partials.collect::<std::result::Result<Vec<_>, _>>()?)
                    }
                    (Step::Outputs(outputs), _) => {
                        return Ok(pack(self.program, &self.packing, &outputs, &self.timings)?);
                    }
                    // A program with Lookups is for a set with Lookups, so its key was expanded.
                    (Step::Lookups { stage, .. }, None) => {
                        let why = "no key to look up with".to_owned();
                        return Err(hermesh_engine::Error::BadStage { stage, why }.into());
                    }
                };
                let partials: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
                let next = self.shard(stage as usize + 1, rows);
                step = advance(self.program, stage, &partials, next, &self.timings)?;
            }
        })
    }

    /// Lookups per shard of a stage. Shards are evaluated one after the other, each on all threads:
    /// as few as batches allow, all of the same size, so that no thread waits for a small rest.
    fn shard(&self, stage: usize, rows: usize) -> usize {
        let lookups = self.program.lookups(stage) * rows;
        let rounds = lookups.div_ceil(BATCH * self.threads()).max(1);
        lookups.div_ceil(rounds)
    }

    /// Compute threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Where the time of all computations went.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }
}

fn check(expected: &ParameterSet, found: &ParameterSet) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.name, found.name);
    let what = "the evaluation key";
    Err(hermesh_engine::Error::WrongParameterSet { what, expected, found }.into())
}
