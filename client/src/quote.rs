//! Estimates the cost of an inference on this machine, by a short measurement with a real key.

use std::time::Instant;

use hermesh_engine::{BATCH, ClientKey, Program, Stage, Timings, begin, encrypt};
use rayon::ThreadPool;
use serde::Serialize;

use crate::Result;
use crate::compute::Evaluator;
use crate::probe::{Probe, Rates};

/// The cost of one inference of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quote {
    /// Bootstraps.
    pub bootstraps: usize,
    /// Seconds from an encrypted input to an encrypted answer; keys are expanded already.
    pub latency_seconds: f64,
    /// Bootstraps per second on all threads together; `None` for programs without Lookups.
    pub bootstraps_per_second: Option<f64>,
    /// Threads.
    pub threads: usize,
}

/// Time of one inference of one row, by stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Threads.
    pub threads: usize,
    /// Seconds from an encrypted input to an encrypted answer; keys are expanded already.
    pub latency_seconds: f64,
    /// Stage by stage.
    pub stages: Vec<StageCost>,
    /// Seconds to pack the outputs.
    pub pack_seconds: f64,
}

/// Cost of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageCost {
    /// Seconds of the Linear; the first stage includes the expansion of the input.
    pub linear_seconds: f64,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Seconds of the bootstraps, keyswitches included.
    pub bootstrap_seconds: f64,
}

/// Estimates the cost of `program`. Takes a few seconds.
///
/// The first Linear is measured on the program itself; Lookups and packing on a small program under the same parameter
/// set. The other Linears are estimated in proportion to the first.
pub fn measure(program: &Program, pool: &ThreadPool) -> Result<Quote> {
    let set = program.parameter_set();
    let threads = pool.current_num_threads();
    let (client, evaluation) = pool.install(|| ClientKey::generate(set));
    let probe = Probe::new(&client, set, threads * BATCH, program.outputs())?;
    let rates = probe.run(&Evaluator::new(&probe.program, &evaluation, pool)?)?;
    let costs = costs(program, &client, pool, &rates)?;
    let lookups = costs.bootstrap_seconds();
    let bootstraps = program.lookups_per_row();
    Ok(Quote {
        bootstraps,
        latency_seconds: costs.latency_seconds,
        bootstraps_per_second: (lookups > 0.0).then(|| bootstraps as f64 / lookups),
        threads,
    })
}

/// Estimates the cost of `program` from rates that were measured on the same number of threads. Only the first Linear
/// is measured now.
pub(crate) fn costs(
    program: &Program,
    client: &ClientKey,
    pool: &ThreadPool,
    rates: &Rates,
) -> Result<Costs> {
    let threads = pool.current_num_threads();
    let input = encrypt(client, program, &[vec![0; program.inputs()]])?;
    let start = Instant::now();
    pool.install(|| begin(program, &input, usize::MAX / 2, &Timings::default()))?;
    let linear = start.elapsed().as_secs_f64();
    let stages: Vec<StageCost> = linear_work(program)
        .into_iter()
        .enumerate()
        .map(|(index, work)| {
            let rate = if index == 0 { rates.first } else { rates.later };
            let bootstraps = program.lookups(index);
            StageCost {
                linear_seconds: linear * work,
                bootstraps,
                // The bootstraps of the thread with the most work.
                bootstrap_seconds: bootstraps.div_ceil(threads) as f64 * rate,
            }
        })
        .collect();
    let pack_seconds = rates.pack * program.outputs() as f64;
    let of_stages: f64 = stages.iter().map(StageCost::seconds).sum();
    Ok(Costs { threads, latency_seconds: of_stages + pack_seconds, stages, pack_seconds })
}

impl Costs {
    /// Seconds of all bootstraps.
    pub fn bootstrap_seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.bootstrap_seconds).sum()
    }
}

impl StageCost {
    /// Seconds of the whole stage.
    pub fn seconds(&self) -> f64 {
        self.linear_seconds + self.bootstrap_seconds
    }
}

/// Work of each Linear relative to the first: number of weights times the dimension of the stage's ciphertexts.
fn linear_work(program: &Program) -> Vec<f64> {
    let set = program.parameter_set();
    let work = |(index, stage): (usize, &Stage)| {
        let matrix = &stage.linear.matrix;
        let weights: usize = (0..matrix.rows()).map(|row| matrix.row(row).count()).sum();
        let dimension = if index == 0 { set.lwe_dimension } else { set.output_dimension() };
        (weights * dimension) as f64
    };
    let all: Vec<f64> = program.stages().iter().enumerate().map(work).collect();
    all.iter().map(|work| work / all[0].max(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use hermesh_engine::parameters::{LINEAR, T3X512};

    use super::*;
    use crate::compute;
    use crate::probe::program as probe;

    #[test]
    fn a_program_with_lookups_is_quoted() {
        let program = probe(&T3X512, 10, 3).unwrap();
        let quote = measure(&program, &compute::pool(None).unwrap()).unwrap();
        assert_eq!(quote.bootstraps, 20);
        assert!(quote.latency_seconds > 0.0 && quote.bootstraps_per_second.unwrap() > 0.0);
    }

    #[test]
    fn a_program_without_lookups_is_quoted() {
        let program = probe(&LINEAR, 10, 3).unwrap();
        let quote = measure(&program, &compute::pool(None).unwrap()).unwrap();
        assert_eq!((quote.bootstraps, quote.bootstraps_per_second), (0, None));
        assert!(quote.latency_seconds > 0.0);
    }

    #[test]
    fn linears_count_by_weights_and_dimension() {
        let program = probe(&T3X512, 10, 5).unwrap();
        let (small, large) = (768.0, 1536.0);
        let relative = |weights: f64| weights * large / (10.0 * small);
        assert_eq!(linear_work(&program), [1.0, relative(10.0), relative(5.0)]);
    }
}
