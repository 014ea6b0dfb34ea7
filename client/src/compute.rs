//! Computes a job on the engine directly, without services, from the program, the evaluation key and the ciphertext.

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

/// A program, the expanded evaluation key, and threads.
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

    /// Reuses the expanded key for another program with the same parameter set, and for other threads. Timings start
    /// at zero.
    pub fn with<'b>(self, program: &'b Program, pool: &'b ThreadPool) -> Result<Evaluator<'b>> {
        check(program.parameter_set(), self.program.parameter_set())?;
        let Self { bootstrap, packing, .. } = self;
        Ok(Evaluator { program, bootstrap, packing, pool, timings: Timings::default() })
    }

    /// Memory of the expanded key, in bytes.
    pub fn key_memory_bytes(&self) -> usize {
        self.bootstrap.as_ref().map_or(0, BootstrapKey::memory_bytes) + self.packing.memory_bytes()
    }

    /// Computes the answer of an encrypted input. `done` is called with the number of Lookups of each finished shard.
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
                    // Unreachable: a program with Lookups has a parameter set with a bootstrap key, expanded in `new`.
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

    /// Lookups per shard of a stage. Shards are evaluated one after the other, each on all threads. There are as few
    /// shards as the batch size allows, all of the same size, so that no thread idles during a small last shard.
    fn shard(&self, stage: usize, rows: usize) -> usize {
        let lookups = self.program.lookups(stage) * rows;
        let rounds = lookups.div_ceil(BATCH * self.threads()).max(1);
        lookups.div_ceil(rounds)
    }

    /// Compute threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Time of all computations, by operator.
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
