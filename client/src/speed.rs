//! Measures this machine under a parameter set.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use hermesh_engine::{BATCH, ClientKey, ParameterSet, Program};
use rayon::ThreadPool;
use serde::Serialize;

use crate::Result;
use crate::compute::{self, Evaluator};
use crate::probe::{Probe, Rates};
use crate::quote::{self, Costs};

/// Result of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// The set's name.
    pub parameter_set: &'static str,
    /// Security of the set, in bits.
    pub security_bits: u32,
    /// Rates on one thread; `None` for a set without Lookups.
    pub one_thread: Option<Throughput>,
    /// Rates on all threads; equal to `one_thread` if there is only one.
    pub all_threads: Option<Throughput>,
    /// Size of the evaluation key as transferred, in bytes.
    pub evaluation_key_bytes: usize,
    /// Memory of the expanded key, in bytes.
    pub memory_bytes: usize,
    /// Time to generate both keys, on all threads.
    pub key_generation_seconds: f64,
    /// Time to expand the evaluation key, on all threads.
    pub key_expansion_seconds: f64,
}

/// Rates on a number of threads together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// Threads.
    pub threads: usize,
    /// Rate with keyswitch, as in all stages except the first.
    pub bootstraps_per_second: f64,
    /// Rate without keyswitch, as in the first stage.
    pub first_stage_bootstraps_per_second: f64,
    /// Share of the keyswitch in the time of a bootstrap with keyswitch, from 0 to 1.
    pub keyswitch_share: f64,
}

/// Two thread pools: one thread, and all threads.
#[derive(Debug)]
pub struct Pools {
    one: ThreadPool,
    all: ThreadPool,
}

impl Pools {
    /// `all` defaults to one thread per core.
    pub fn new(all: Option<NonZeroUsize>) -> Result<Self> {
        Ok(Self { one: compute::pool(Some(NonZeroUsize::MIN))?, all: compute::pool(all)? })
    }

    /// Threads of the larger pool.
    pub fn threads(&self) -> usize {
        self.all.current_num_threads()
    }
}

/// Generates keys, then measures a set for the time `bound`: half on one thread, half on all, at least one pass each.
/// With a program, also estimates its cost on one thread and on all.
pub fn measure(
    set: &'static ParameterSet,
    program: Option<&Program>,
    pools: &Pools,
    bound: Duration,
) -> Result<(Speed, Option<[Costs; 2]>)> {
    let Pools { one, all } = pools;
    let outputs = program.map_or(1, Program::outputs);
    let start = Instant::now();
    let (client, key) = all.install(|| ClientKey::generate(set));
    let key_generation_seconds = start.elapsed().as_secs_f64();
    let probe =
        |pool: &ThreadPool| Probe::new(&client, set, pool.current_num_threads() * BATCH, outputs);
    let (on_one, on_all) = (probe(one)?, probe(all)?);
    let start = Instant::now();
    let evaluator = Evaluator::new(&on_all.program, &key, all)?;
    let key_expansion_seconds = start.elapsed().as_secs_f64();
    let memory_bytes = evaluator.key_memory_bytes();
    let all_rates = rates(&on_all, &evaluator, bound / 2)?;
    let one_rates = match pools.threads() {
        1 => all_rates,
        _ => rates(&on_one, &evaluator.with(&on_one.program, one)?, bound / 2)?,
    };
    let costs = match program {
        Some(program) => Some([
            quote::costs(program, &client, one, &one_rates)?,
            quote::costs(program, &client, all, &all_rates)?,
        ]),
        None => None,
    };
    let looks_up = |of: Throughput| set.bootstrap.map(|_| of);
    let speed = Speed {
        parameter_set: set.name,
        security_bits: set.security_bits,
        one_thread: looks_up(throughput(&one_rates, 1)),
        all_threads: looks_up(throughput(&all_rates, pools.threads())),
        evaluation_key_bytes: key.encode().len(),
        memory_bytes,
        key_generation_seconds,
        key_expansion_seconds,
    };
    Ok((speed, costs))
}

/// The mean over all passes that begin within `bound`.
fn rates(probe: &Probe, evaluator: &Evaluator<'_>, bound: Duration) -> Result<Rates> {
    let start = Instant::now();
    let mut passes = vec![probe.run(evaluator)?];
    while start.elapsed() < bound {
        passes.push(probe.run(evaluator)?);
    }
    let mean = |of: fn(&Rates) -> f64| passes.iter().map(of).sum::<f64>() / passes.len() as f64;
    Ok(Rates {
        first: mean(|rates| rates.first),
        later: mean(|rates| rates.later),
        keyswitch: mean(|rates| rates.keyswitch),
        pack: mean(|rates| rates.pack),
    })
}

fn throughput(rates: &Rates, threads: usize) -> Throughput {
    Throughput {
        threads,
        bootstraps_per_second: threads as f64 / rates.later,
        first_stage_bootstraps_per_second: threads as f64 / rates.first,
        keyswitch_share: rates.keyswitch / rates.later,
    }
}

#[cfg(test)]
mod tests {
    use hermesh_engine::parameters::{LINEAR, T3X512};

    use super::*;
    use crate::probe;

    #[test]
    fn a_set_with_lookups_has_rates() {
        let pools = Pools::new(NonZeroUsize::new(2)).unwrap();
        let program = probe::program(&T3X512, 10, 3).unwrap();
        let (speed, costs) =
            measure(&T3X512, Some(&program), &pools, Duration::from_millis(10)).unwrap();
        let (one, all) = (speed.one_thread.unwrap(), speed.all_threads.unwrap());
        assert_eq!((one.threads, all.threads), (1, 2));
        for found in [one, all] {
            // A keyswitch adds some work.
            let ratio = found.bootstraps_per_second / found.first_stage_bootstraps_per_second;
            assert!(0.3 < ratio && ratio < 3.0, "{found:?}");
            assert!(0.0 < found.keyswitch_share && found.keyswitch_share < 0.7, "{found:?}");
        }
        assert_eq!(speed.evaluation_key_bytes, T3X512.evaluation_key_bytes());
        assert!(speed.memory_bytes > speed.evaluation_key_bytes);
        let [one, all] = costs.unwrap();
        assert_eq!((one.threads, one.stages.len(), all.threads), (1, 3, 2));
        assert_eq!(one.stages[2].bootstraps, 0);
        let parts: f64 = one.stages.iter().map(quote::StageCost::seconds).sum();
        assert!((one.latency_seconds - parts - one.pack_seconds).abs() < 1e-9);
    }

    #[test]
    fn a_set_without_lookups_has_sizes_only() {
        let pools = Pools::new(NonZeroUsize::new(1)).unwrap();
        let (speed, costs) = measure(&LINEAR, None, &pools, Duration::ZERO).unwrap();
        assert!(speed.one_thread.is_none() && speed.all_threads.is_none() && costs.is_none());
        assert!(speed.memory_bytes > 0);
    }
}
