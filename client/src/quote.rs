//! What an inference will cost on this machine, by a short measurement with a real key.

use std::time::Instant;

use hermesh_engine::{
    ClientKey, Linear, Lookup, Matrix, ParameterSet, Precision, Program, Stage, Timings, begin,
    encrypt,
};
use rayon::ThreadPool;
use serde::Serialize;

use crate::Result;
use crate::compute::Evaluator;

/// Lookups of each stage of the probe, for one thread: two passes over the key.
const PROBE_LOOKUPS: usize = 32;

/// The cost of one inference of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quote {
    /// Bootstraps.
    pub bootstraps: usize,
    /// Seconds from an encrypted input to an encrypted answer; keys are expanded already.
    pub latency_seconds: f64,
    /// Bootstraps in a second, on all threads together; none in programs without Lookups.
    pub bootstraps_per_second: Option<f64>,
    /// Threads.
    pub threads: usize,
}

/// Thread-seconds of one value.
struct Rates {
    /// A Lookup without keyswitch, as in the first stage.
    first: f64,
    /// A Lookup with keyswitch.
    later: f64,
    /// Packing one output.
    pack: f64,
}

/// Measures what `program` will cost. Takes a few seconds.
///
/// The first Linear is measured on the program itself, Lookups and packing on a small program under
/// the same parameter set; the other Linears are taken in proportion to the first.
pub fn measure(program: &Program, pool: &ThreadPool) -> Result<Quote> {
    let set = program.parameter_set();
    let threads = pool.current_num_threads();
    let (client, evaluation) = pool.install(|| ClientKey::generate(set));
    let probe = probe(set, threads * PROBE_LOOKUPS, program.outputs())?;
    let evaluator = Evaluator::new(&probe, &evaluation, pool)?;
    let input = encrypt(&client, &probe, &[vec![0; probe.inputs()]])?;
    let mut done = Vec::new();
    let start = Instant::now();
    evaluator.compute(&input, |lookups| done.push((start.elapsed().as_secs_f64(), lookups)))?;
    let rates = rates(&done, threads, evaluator.timings(), program.outputs());

    let input = encrypt(&client, program, &[vec![0; program.inputs()]])?;
    let start = Instant::now();
    pool.install(|| begin(program, &input, usize::MAX, &Timings::default()))?;
    let linear = start.elapsed().as_secs_f64() * linear_work(program);
    let lookups: f64 = stage_lookups(program, threads)
        .enumerate()
        .map(|(stage, rounds)| rounds * if stage == 0 { rates.first } else { rates.later })
        .sum();
    let bootstraps = program.lookups_per_row();
    Ok(Quote {
        bootstraps,
        latency_seconds: linear + lookups + rates.pack * program.outputs() as f64,
        bootstraps_per_second: (lookups > 0.0).then(|| bootstraps as f64 / lookups),
        threads,
    })
}

/// Two stages of Lookups, the first without keyswitch and the second with, and as many outputs as
/// the real program has. Without Lookups in the set, only the outputs.
fn probe(set: &'static ParameterSet, lookups: usize, outputs: usize) -> Result<Program> {
    let stage = |rows: usize, columns: usize, lookup: bool| Stage {
        linear: Linear { matrix: selection(rows, columns), bias: vec![0; rows] },
        lookup: lookup.then(|| Lookup { tables: vec![vec![0; 2]], table_of: vec![0; rows] }),
    };
    let mut stages = vec![stage(outputs, lookups, false)];
    if set.bootstrap.is_some() {
        stages.insert(0, stage(lookups, lookups, true));
        stages.insert(0, stage(lookups, lookups, true));
    }
    Ok(Program::new(set, Precision::Approximate, stages)?)
}

/// One weight a row.
fn selection(rows: usize, columns: usize) -> Matrix {
    Matrix::Sparse {
        columns: columns as u32,
        offsets: (0..=rows as u32).collect(),
        indices: (0..rows).map(|row| (row % columns) as u32).collect(),
        weights: vec![1; rows],
    }
}

/// From the moments at which the probe's shards were done.
fn rates(done: &[(f64, u64)], threads: usize, timings: &Timings, outputs: usize) -> Rates {
    let (first, later) = done.split_at(done.len() / 2);
    let end = |part: &[(f64, u64)]| part.last().map_or(0.0, |&(end, _)| end);
    let per_lookup = |part: &[(f64, u64)], start: f64| {
        let lookups: u64 = part.iter().map(|&(_, lookups)| lookups).sum();
        (end(part) - start) * threads as f64 / lookups.max(1) as f64
    };
    let pack = timings.iter().find(|(operator, ..)| *operator == "pack");
    Rates {
        first: per_lookup(first, 0.0),
        later: per_lookup(later, end(first)),
        pack: pack.map_or(0.0, |(_, seconds, _)| seconds / outputs as f64),
    }
}

/// The Lookups that one thread does in each stage.
fn stage_lookups(program: &Program, threads: usize) -> impl Iterator<Item = f64> {
    program.stages().iter().map(move |stage| stage.lookups().div_ceil(threads) as f64)
}

/// Work of all Linears together relative to that of the first: weights, each on a ciphertext of the
/// stage's dimension.
fn linear_work(program: &Program) -> f64 {
    let set = program.parameter_set();
    let work = |(index, stage): (usize, &Stage)| {
        let matrix = &stage.linear.matrix;
        let weights: usize = (0..matrix.rows()).map(|row| matrix.row(row).count()).sum();
        let dimension = if index == 0 { set.lwe_dimension } else { set.output_dimension() };
        (weights * dimension) as f64
    };
    let all: Vec<f64> = program.stages().iter().enumerate().map(work).collect();
    all.iter().sum::<f64>() / all[0].max(1.0)
}

#[cfg(test)]
mod tests {
    use hermesh_engine::parameters::{LINEAR, T3X512};

    use super::*;
    use crate::compute;

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
        let expected = (10.0 * small + 15.0 * large) / (10.0 * small);
        assert_eq!(linear_work(&program), expected);
    }

    #[test]
    fn rates_come_from_the_two_halves() {
        let done = [(1.0, 4), (2.0, 4), (5.0, 4), (8.0, 4)];
        let rates = rates(&done, 2, &Timings::default(), 1);
        assert_eq!((rates.first, rates.later), (0.5, 1.5));
    }
}
