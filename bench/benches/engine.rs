//! Benchmarks of the engine's operators, through its public steps, on one thread. They show the effect of a change on
//! each operator. README.md explains how to run them.

// The macros make public, undocumented groups; a benchmark may panic.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hermesh_engine::parameters::T4X512;
use hermesh_engine::{
    BATCH, BootstrapKey, ClientKey, EvaluationKey, Linear, Lookup, Matrix, PackingKey,
    ParameterSet, Precision, Program, Stage, Step, Timings, advance, begin, encrypt, evaluate,
    pack,
};
use rayon::ThreadPoolBuilder;

/// The parameter set of most networks.
const SET: &ParameterSet = &T4X512;
/// Values of a handwritten digit.
const PIXELS: usize = 784;
/// Entry of all lookup tables.
const ENTRY: u64 = 1 << 61;
/// Lookups per shard: all in one.
const ONE_SHARD: usize = usize::MAX / 2;

/// Keys.
struct Bench {
    client: ClientKey,
    evaluation: EvaluationKey,
    bootstrap: BootstrapKey,
    packing: PackingKey,
}

fn main_group(criterion: &mut Criterion) {
    // One thread only.
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
    let bench = Bench::new();
    bench.keys(criterion);
    bench.lookups(criterion);
    bench.linears(criterion);
    bench.ends(criterion);
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(8));
    targets = main_group
}
criterion_main!(engine);

impl Bench {
    fn new() -> Self {
        let (client, evaluation) = ClientKey::generate(SET);
        let bootstrap = BootstrapKey::expand(&evaluation).unwrap();
        let packing = PackingKey::expand(&evaluation).unwrap();
        Self { client, evaluation, bootstrap, packing }
    }

    fn keys(&self, criterion: &mut Criterion) {
        criterion.bench_function("expand the bootstrapping key", |b| {
            b.iter(|| BootstrapKey::expand(&self.evaluation).unwrap());
        });
        criterion.bench_function("expand the packing key", |b| {
            b.iter(|| PackingKey::expand(&self.evaluation).unwrap());
        });
    }

    fn lookups(&self, criterion: &mut Criterion) {
        // The first stage, which needs no keyswitch.
        for (name, lookups) in [("bootstrap 1", 1), ("bootstrap a batch", BATCH)] {
            let program = of_stages(vec![looked_up(lookups, one_each(lookups)), last(1, lookups)]);
            let shard = self.shard(&program);
            criterion.bench_function(name, |b| {
                b.iter(|| {
                    evaluate(&program, &self.bootstrap, &shard, &Timings::default()).unwrap()
                });
            });
        }
        let program = of_stages(vec![
            looked_up(BATCH, one_each(BATCH)),
            looked_up(BATCH, one_each(BATCH)),
            last(1, BATCH),
        ]);
        let partial = self.evaluated(&program, &self.shard(&program));
        let step = advance(&program, 0, &[&partial], ONE_SHARD, &Timings::default()).unwrap();
        let shard = only_shard(step);
        self.counted(criterion, "keyswitch a batch", "keyswitch", |timings| {
            evaluate(&program, &self.bootstrap, &shard, timings).unwrap();
        });
    }

    fn linears(&self, criterion: &mut Criterion) {
        for (name, matrix) in [
            ("Linear, 784 to 128, dense", dense(128)),
            ("Linear, convolution 3 x 3", convolution()),
        ] {
            // All values of the stage before have the same input and the same lookup table, and so share one
            // bootstrap. That does not affect the Linear.
            let rows = matrix.rows();
            let linear = Stage { linear: Linear { matrix, bias: vec![0; rows] }, lookup: None };
            let program = of_stages(vec![looked_up(PIXELS, copies(PIXELS)), linear]);
            let partial = self.evaluated(&program, &self.shard(&program));
            self.counted(criterion, name, "linear", |timings| {
                advance(&program, 0, &[&partial], ONE_SHARD, timings).unwrap();
            });
        }
    }

    /// The first step and the last.
    fn ends(&self, criterion: &mut Criterion) {
        let program = of_stages(vec![last(10, PIXELS)]);
        let input = encrypt(&self.client, &program, &[vec![0; PIXELS]]).unwrap();
        criterion.bench_function("expand an input of 784", |b| {
            b.iter(|| begin(&program, &input, ONE_SHARD, &Timings::default()).unwrap());
        });
        let program = of_stages(vec![looked_up(BATCH, one_each(BATCH)), last(10, BATCH)]);
        let partial = self.evaluated(&program, &self.shard(&program));
        let step = advance(&program, 0, &[&partial], ONE_SHARD, &Timings::default()).unwrap();
        let Step::Outputs(outputs) = step else { panic!("a last stage") };
        criterion.bench_function("pack 10 outputs", |b| {
            b.iter(|| pack(&program, &self.packing, &outputs, &Timings::default()).unwrap());
        });
    }

    /// The only shard of the first stage.
    fn shard(&self, program: &Program) -> Vec<u8> {
        let input = encrypt(&self.client, program, &[vec![0; program.inputs()]]).unwrap();
        only_shard(begin(program, &input, ONE_SHARD, &Timings::default()).unwrap())
    }

    fn evaluated(&self, program: &Program, shard: &[u8]) -> Vec<u8> {
        evaluate(program, &self.bootstrap, shard, &Timings::default()).unwrap()
    }

    /// Benchmarks one operator of a step, by the time that the engine counts for it.
    fn counted(
        &self,
        criterion: &mut Criterion,
        name: &str,
        operator: &str,
        step: impl Fn(&Timings),
    ) {
        criterion.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let timings = Timings::default();
                (0..iterations).for_each(|_| step(&timings));
                let found = timings.iter().find(|(name, ..)| *name == operator);
                Duration::from_secs_f64(found.unwrap().1)
            });
        });
    }
}

fn only_shard(step: Step) -> Vec<u8> {
    let Step::Lookups { mut shards, .. } = step else { panic!("a stage of Lookups") };
    assert_eq!(shards.len(), 1);
    shards.remove(0).bytes
}

fn of_stages(stages: Vec<Stage>) -> Program {
    Program::new(SET, Precision::Approximate, stages).unwrap()
}

/// A stage whose values all use one lookup table.
fn looked_up(rows: usize, matrix: Matrix) -> Stage {
    let lookup = Lookup { tables: vec![vec![ENTRY; 2]], table_of: vec![0; rows] };
    Stage { linear: Linear { matrix, bias: vec![0; rows] }, lookup: Some(lookup) }
}

/// Outputs of one value each.
fn last(outputs: usize, columns: usize) -> Stage {
    let matrix = sparse(columns, outputs, 1, |row, _| row % columns);
    Stage { linear: Linear { matrix, bias: vec![0; outputs] }, lookup: None }
}

fn one_each(rows: usize) -> Matrix {
    sparse(rows, rows, 1, |row, _| row)
}

fn copies(rows: usize) -> Matrix {
    sparse(1, rows, 1, |_, _| 0)
}

fn dense(rows: usize) -> Matrix {
    let weights = (0..rows * PIXELS).map(|i| (i * 37 % 127) as i32 - 63).collect();
    Matrix::Dense { rows: rows as u32, columns: PIXELS as u32, weights }
}

/// A convolution from one channel to eight, at every second pixel of a digit.
fn convolution() -> Matrix {
    let (width, side, channels) = (28, 13, 8);
    sparse(PIXELS, channels * side * side, 9, |row, weight| {
        let place = row % (side * side);
        let (y, x) = (place / side * 2, place % side * 2);
        (y + weight / 3) * width + x + weight % 3
    })
}

/// A matrix with `each` weights in each row.
fn sparse(
    columns: usize,
    rows: usize,
    each: usize,
    column: impl Fn(usize, usize) -> usize,
) -> Matrix {
    let places = (0..rows).flat_map(|row| (0..each).map(move |weight| (row, weight)));
    Matrix::Sparse {
        columns: columns as u32,
        offsets: (0..=rows).map(|row| (row * each) as u32).collect(),
        indices: places.clone().map(|(row, weight)| column(row, weight) as u32).collect(),
        weights: places.map(|(row, weight)| ((row * 7 + weight * 5) as i32 % 15 - 7) | 1).collect(),
    }
}
