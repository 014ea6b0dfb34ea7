//! Accuracy to expect: the program in the clear with predicted noise, against the network.

use crate::Error;
use crate::model::{Model, apply, interpret};
use crate::network::{Label, Layer, Network};
use hermesh_engine::Noise;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

/// Simulations that a measurement makes, and how often it repeats a row to get there.
const MOST_SIMULATIONS: usize = 4000;
const MOST_DRAWS: usize = 20;

/// Standard normal values (Box and Muller, 1958).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// What a measurement found.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) accuracy: Option<f64>,
    pub(crate) agreement: f64,
    /// Root mean square of what noise does to each output, rounding of weights not included.
    pub(crate) noise: Vec<f64>,
}

/// Share of rows that the network labels right.
pub(crate) fn plain_accuracy(
    network: &Network,
    rows: &[&[f64]],
    labels: &[&Label],
) -> Result<f64, Error> {
    let right: usize = rows
        .par_iter()
        .zip(labels)
        .map(|(row, label)| {
            let prediction = interpret(network, &network.evaluate(row)?);
            Ok::<_, Error>(usize::from(prediction.label.as_ref() == Some(*label)))
        })
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(right as f64 / rows.len() as f64)
}

/// How well a network that stands for another agrees with it: the share of labels that are the same, or R² where there
/// are no labels.
pub(crate) fn same(
    network: &Network,
    prefix: &[Layer],
    core: &Network,
    rows: &[&[f64]],
) -> Result<f64, Error> {
    let compared = rows
        .par_iter()
        .map(|row| {
            let plain = network.evaluate(row)?;
            let other = core.evaluate(&apply(prefix, row))?;
            let (label, same) =
                (interpret(network, &plain).label, interpret(network, &other).label);
            Ok((label.is_some() && label == same, label.is_none(), plain, other))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    if !compared.iter().any(|(_, regression, ..)| *regression) {
        let same = compared.iter().filter(|(same, ..)| *same).count();
        return Ok(same as f64 / compared.len() as f64);
    }
    let pairs = || compared.iter().flat_map(|(.., plain, other)| plain.iter().zip(other));
    let count = pairs().count() as f64;
    let mean = pairs().map(|(x, _)| x).sum::<f64>() / count;
    let spread = pairs().map(|(x, _)| (x - mean).powi(2)).sum::<f64>();
    let error = pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>();
    Ok(1.0 - error / spread.max(f64::MIN_POSITIVE))
}

/// Simulates every row. Seeds are fixed: the same model and rows give the same report.
pub(crate) fn simulate(
    model: &Model,
    rows: &[&[f64]],
    labels: Option<&[&Label]>,
) -> Result<Measured, Error> {
    let stages = model.program().noise();
    // Few rows are simulated several times: what counts is how often noise changes an answer.
    let draws = MOST_SIMULATIONS.div_ceil(rows.len()).clamp(1, MOST_DRAWS);
    let sums = (0..rows.len() * draws)
        .into_par_iter()
        .map(|simulation| {
            let i = simulation % rows.len();
            let row = rows[i];
            let mut rng = StdRng::seed_from_u64(simulation as u64);
            let torus = model.encode_row(row)?;
            let mut normal = || normal(&mut rng);
            let noisy = model
                .program()
                .simulate(&torus, &mut Noise::Predicted { stages: &stages, normal: &mut normal });
            let quiet = model.program().simulate(&torus, &mut Noise::Absent);
            let (noisy, quiet) = (model.decode_outputs(&noisy), model.decode_outputs(&quiet));
            let plain_outputs = model.network().evaluate(row)?;
            let plain = model.interpret(&plain_outputs);
            let simulated = model.interpret(&noisy);
            let squared =
                |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let right = labels.is_some_and(|labels| simulated.label.as_ref() == Some(labels[i]));
            Ok(Sums {
                right: f64::from(u8::from(right)),
                same: f64::from(u8::from(simulated.label == plain.label)),
                noise: noisy.iter().zip(&quiet).map(|(a, b)| (a - b).powi(2)).collect(),
                error: squared(&noisy, &plain_outputs),
                sum: plain_outputs.iter().sum(),
                squares: plain_outputs.iter().map(|x| x * x).sum(),
                regression: plain.label.is_none(),
            })
        })
        .collect::<Result<Vec<Sums>, Error>>()?;
    let n = sums.len() as f64;
    let total = |f: fn(&Sums) -> f64| sums.iter().map(f).sum::<f64>();
    let values = n * model.program().outputs() as f64;
    let agreement = if sums.iter().any(|s| s.regression) {
        let spread = total(|s| s.squares) - total(|s| s.sum).powi(2) / values;
        (1.0 - total(|s| s.error) / spread.max(f64::MIN_POSITIVE)).max(0.0)
    } else {
        total(|s| s.same) / n
    };
    Ok(Measured {
        accuracy: labels.map(|_| total(|s| s.right) / n),
        agreement,
        noise: (0..model.program().outputs())
            .map(|i| (sums.iter().map(|s| s.noise[i]).sum::<f64>() / n).sqrt())
            .collect(),
    })
}

struct Sums {
    right: f64,
    same: f64,
    noise: Vec<f64>,
    error: f64,
    sum: f64,
    squares: f64,
    regression: bool,
}
