//! Jobs under real encryption, with production parameters: a program of three stages of Lookups.

use std::sync::Mutex;

use hermesh_engine::{
    Answer, ClientKey, Linear, Lookup, Matrix, Noise, Precision, Program, Stage, decrypt, encrypt,
    parameters::T3X512,
};

use crate::history::workload::Workload;

/// Values of one row.
pub const INPUTS: usize = 70;
const WIDTH: usize = 8;
/// Enough outputs for answers to differ in some.
const OUTPUTS: usize = 8;
/// How far a right answer may be off: more than six standard deviations of the noise in most outputs, five
/// in the worst.
pub const BOUND: f64 = 0.12;

/// Weights of −1, 0 and 1 without a regular pattern.
pub fn linear(rows: usize, columns: usize, bias: u64) -> Linear {
    let weight = |i: usize| i32::try_from((i * i + i / 3) % 3).expect("small") - 1;
    Linear {
        matrix: Matrix::Dense {
            rows: u32::try_from(rows).expect("small"),
            columns: u32::try_from(columns).expect("small"),
            weights: (0..rows * columns).map(weight).collect(),
        },
        bias: vec![bias; rows],
    }
}

/// `stages` stages of Lookups; each table is x ↦ (x − ¼) / 2.
pub fn program(stages: usize) -> Program {
    let entries = 512_i64;
    let table = (0..entries).map(|i| (i - entries / 2) << 53).map(|x| x as u64);
    let lookup = Lookup { tables: vec![table.collect()], table_of: vec![0; WIDTH] };
    let stage =
        |columns| Stage { linear: linear(WIDTH, columns, 1 << 62), lookup: Some(lookup.clone()) };
    let mut all = vec![stage(INPUTS)];
    all.extend((1..stages).map(|_| stage(WIDTH)));
    all.push(Stage { linear: linear(OUTPUTS, WIDTH, 0), lookup: None });
    Program::new(&T3X512, Precision::Approximate, all).expect("a valid program")
}

/// Each of `WIDTH` values nine times in neighbouring rows. The next stage looks up one of each nine again,
/// and passes the others unchanged.
pub fn passing() -> Program {
    let one = program(1).stages()[0].clone();
    let (Matrix::Dense { weights, .. }, Some(lookup)) = (&one.linear.matrix, &one.lookup) else {
        unreachable!("is dense and looks up")
    };
    let count = 9 * WIDTH;
    let rows = weights.chunks_exact(INPUTS).flat_map(|row| row.repeat(9)).collect();
    let stage = |linear: Linear, table_of: Vec<u32>| {
        let tables = lookup.tables.clone();
        Stage { linear, lookup: Some(Lookup { tables, table_of }) }
    };
    let first = Matrix::Dense { rows: count as u32, columns: INPUTS as u32, weights: rows };
    let looked_up = |value: usize| value.is_multiple_of(9);
    let bias = |value: usize| if looked_up(value) { 1 << 62 } else { 0 };
    let selection = Matrix::Sparse {
        columns: count as u32,
        offsets: (0..=count as u32).collect(),
        indices: (0..count as u32).collect(),
        weights: vec![1; count],
    };
    // Of each value, the output looked up again and one of those passed unchanged.
    let last = Matrix::Sparse {
        columns: count as u32,
        offsets: (0..=WIDTH as u32).map(|row| 2 * row).collect(),
        indices: (0..WIDTH as u32).flat_map(|value| [9 * value, 9 * value + 1]).collect(),
        weights: [2, 4].repeat(WIDTH),
    };
    let table = |value: usize| if looked_up(value) { 0 } else { Lookup::PASS };
    let stages = vec![
        stage(Linear { matrix: first, bias: vec![1 << 62; count] }, vec![0; count]),
        stage(
            Linear { matrix: selection, bias: (0..count).map(bias).collect() },
            (0..count).map(table).collect(),
        ),
        Stage { linear: Linear { matrix: last, bias: vec![0; WIDTH] }, lookup: None },
    ];
    Program::new(&T3X512, Precision::Approximate, stages).expect("a valid program")
}

/// A client with one key; a job's number determines its input.
pub struct RealWorkload {
    client: ClientKey,
    evaluation: Vec<u8>,
    program: Program,
    // One encryption per job: a job submitted again has the same ciphertext.
    inputs: Mutex<std::collections::BTreeMap<usize, Vec<u8>>>,
}

impl RealWorkload {
    /// Makes the keys, which takes seconds.
    pub fn new() -> Self {
        let (client, evaluation) = ClientKey::generate(&T3X512);
        let evaluation = evaluation.encode().to_vec();
        Self { client, evaluation, program: program(3), inputs: Mutex::default() }
    }

    fn row(number: usize) -> Vec<u64> {
        let value = |i: usize| ((i * 2_654_435_761) as u64 % 1024) << 52;
        (0..INPUTS).map(|column| value(number * INPUTS + column)).collect()
    }
}

impl Default for RealWorkload {
    fn default() -> Self {
        Self::new()
    }
}

impl Workload for RealWorkload {
    fn key(&self, _: &str) -> Vec<u8> {
        self.evaluation.clone()
    }

    fn model(&self) -> Vec<u8> {
        self.program.encode().to_vec()
    }

    fn input(&self, number: usize) -> Vec<u8> {
        let mut inputs = self.inputs.lock().expect("not poisoned");
        let encrypted =
            || encrypt(&self.client, &self.program, &[Self::row(number)]).expect("encrypts");
        inputs.entry(number).or_insert_with(encrypted).clone()
    }

    fn is_right(&self, number: usize, answer: &[u8]) -> bool {
        let Ok(answer) = Answer::decode(answer, &self.program) else { return false };
        let Ok(decrypted) = decrypt(&self.client, &answer) else { return false };
        let expected = self.program.simulate(&Self::row(number), &mut Noise::Absent);
        let got = decrypted.concat();
        got.len() == expected.len() && distance(&got, &expected) < BOUND
    }
}

/// The largest distance on the torus between corresponding values.
fn distance(a: &[u64], b: &[u64]) -> f64 {
    let apart = |(a, b): (&u64, &u64)| (a.wrapping_sub(*b) as i64 as f64 / 2f64.powi(64)).abs();
    a.iter().zip(b).map(apart).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    /// If this fails, right answers would be called wrong.
    #[test]
    fn noise_stays_within_the_bound() {
        let (program, rng) = (program(3), &mut StdRng::seed_from_u64(1));
        let stages = program.noise();
        let mut normal = || {
            let (radius, angle): (f64, f64) = (rng.random(), rng.random());
            (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        };
        for number in 0..50 {
            let row = RealWorkload::row(number);
            let right = program.simulate(&row, &mut Noise::Absent);
            for _ in 0..200 {
                let mut noise = Noise::Predicted { stages: &stages, normal: &mut normal };
                let off = distance(&program.simulate(&row, &mut noise), &right);
                assert!(off < BOUND, "job {number} is off by {off}");
            }
        }
    }

    /// If this fails, any answer would be called right.
    #[test]
    fn the_answer_to_another_job_is_seldom_right() {
        let program = program(3);
        let answers: Vec<Vec<u64>> = (0..50)
            .map(|number| program.simulate(&RealWorkload::row(number), &mut Noise::Absent))
            .collect();
        let alike = |a: &[u64], b: &[u64]| distance(a, b) < BOUND;
        let pairs =
            answers.iter().enumerate().flat_map(|(i, a)| answers[..i].iter().map(move |b| (a, b)));
        let (total, same) =
            pairs.fold((0, 0), |(n, same), (a, b)| (n + 1, same + usize::from(alike(a, b))));
        assert!(same * 8 < total, "{same} of {total} pairs of answers are too alike");
    }
}
