//! Measures the cost of the engine's operators on this machine, with a small program and a real key.

use std::time::Instant;

use hermesh_engine::{
    ClientKey, Linear, Lookup, Matrix, ParameterSet, Precision, Program, Stage, Timings, encrypt,
};

use crate::Result;
use crate::compute::Evaluator;

/// Entry of all lookup tables. Not 0: a table of zeros gives a zero ciphertext without a mask, and bootstrapping that
/// would cost nothing.
const ENTRY: u64 = 1 << 61;

/// Thread-seconds per value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// A Lookup without keyswitch, as in the first stage.
    pub(crate) first: f64,
    /// A Lookup with keyswitch.
    pub(crate) later: f64,
    /// The keyswitch, part of `later`.
    pub(crate) keyswitch: f64,
    /// Packing one output.
    pub(crate) pack: f64,
}

/// A program and an input: two stages of Lookups, the first without keyswitch and the second with, and some outputs.
/// If the parameter set has no Lookups, only the outputs.
pub(crate) struct Probe {
    pub(crate) program: Program,
    input: Vec<u8>,
}

impl Probe {
    /// A probe with `lookups` Lookups per stage.
    pub(crate) fn new(
        client: &ClientKey,
        set: &'static ParameterSet,
        lookups: usize,
        outputs: usize,
    ) -> Result<Self> {
        let program = program(set, lookups, outputs)?;
        let input = encrypt(client, &program, &[vec![0; program.inputs()]])?;
        Ok(Self { program, input })
    }

    /// Computes once. `evaluator` must be for the probe's program.
    pub(crate) fn run(&self, evaluator: &Evaluator<'_>) -> Result<Rates> {
        let mut done = Vec::new();
        let start = Instant::now();
        evaluator
            .compute(&self.input, |lookups| done.push((start.elapsed().as_secs_f64(), lookups)))?;
        Ok(rates(&done, evaluator.threads(), evaluator.timings()))
    }
}

pub(crate) fn program(
    set: &'static ParameterSet,
    lookups: usize,
    outputs: usize,
) -> Result<Program> {
    let stage = |rows: usize, columns: usize, lookup: bool| Stage {
        linear: Linear { matrix: selection(rows, columns), bias: vec![0; rows] },
        lookup: lookup.then(|| Lookup { tables: vec![vec![ENTRY; 2]], table_of: vec![0; rows] }),
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

/// From the moments at which the probe's shards were done, and the times of the evaluator.
fn rates(done: &[(f64, u64)], threads: usize, timings: &Timings) -> Rates {
    let (first, later) = done.split_at(done.len() / 2);
    let end = |part: &[(f64, u64)]| part.last().map_or(0.0, |&(end, _)| end);
    let per_lookup = |part: &[(f64, u64)], start: f64| {
        let lookups: u64 = part.iter().map(|&(_, lookups)| lookups).sum();
        (end(part) - start) * threads as f64 / lookups.max(1) as f64
    };
    // A keyswitch is counted by the clock, while all threads are at it; bootstraps by the thread, and
    // half of them were keyswitched before.
    let switched = of(timings, "keyswitch").0 * threads as f64;
    let bootstrapped = of(timings, "bootstrap").0 / 2.0;
    let (pack, outputs) = of(timings, "pack");
    let later = per_lookup(later, end(first));
    Rates {
        first: per_lookup(first, 0.0),
        later,
        keyswitch: later * switched / (switched + bootstrapped).max(f64::MIN_POSITIVE),
        pack: pack / outputs.max(1) as f64,
    }
}

/// Seconds and values of an operator.
fn of(timings: &Timings, name: &str) -> (f64, u64) {
    let found = timings.iter().find(|(operator, ..)| *operator == name);
    found.map_or((0.0, 0), |(_, seconds, values)| (seconds, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_the_two_halves() {
        let done = [(1.0, 4), (2.0, 4), (5.0, 4), (8.0, 4)];
        let rates = rates(&done, 2, &Timings::default());
        assert_eq!((rates.first, rates.later), (0.5, 1.5));
    }
}
