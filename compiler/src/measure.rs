//! Measures the expected accuracy: simulates the program in the clear with predicted noise and compares it with the
//! network.

use crate::Error;
use crate::client::{apply, interpret};
use crate::model::Model;
use crate::network::{Label, Layer, Network};
use hermesh_engine::Noise;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

/// Simulations of a measurement, and the maximum repetitions of each row.
pub(crate) const MOST_SIMULATIONS: usize = 4000;
const MOST_DRAWS: usize = 20;

/// Standard normal values (Box and Muller, 1958).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Results of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) accuracy: Option<f64>,
    pub(crate) agreement: f64,
    pub(crate) off: Off,
    /// Standard deviation of all outputs of the plain model.
    pub(crate) spread: f64,
}

/// Root mean square errors of the outputs against the plain model.
#[derive(Clone, Debug)]
pub(crate) struct Off {
    /// Error of each output by noise.
    pub(crate) noise: Vec<f64>,
    /// Error of each output by rounding and clamping, on rows whose sums all stay in their frames.
    pub(crate) rounding: Vec<f64>,
}

impl Off {
    /// Mean over the outputs of the combined error.
    pub(crate) fn mean(&self) -> f64 {
        let off =
            self.noise.iter().zip(&self.rounding).map(|(noise, rounding)| noise.hypot(*rounding));
        off.sum::<f64>() / self.noise.len() as f64
    }

    /// The larger of the two errors, for each output.
    pub(crate) fn worst(mut self, other: &Self) -> Self {
        let worst = |a: &mut Vec<f64>, b: &[f64]| {
            a.iter_mut().zip(b).for_each(|(a, &b)| *a = a.max(b));
        };
        worst(&mut self.noise, &other.noise);
        worst(&mut self.rounding, &other.rounding);
        self
    }
}

/// Fraction of rows that the network labels correctly.
pub(crate) fn plain_accuracy(
    network: &Network,
    rows: &[&[f64]],
    labels: &[&Label],
) -> Result<f64, Error> {
    let right: usize = rows
        .par_iter()
        .zip(labels)
        .map(|(row, label)| {
            let prediction = interpret(&network.head, &network.evaluate(row)?);
            Ok::<_, Error>(usize::from(prediction.label.as_ref() == Some(*label)))
        })
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(right as f64 / rows.len() as f64)
}

/// Agreement of a network with one that replaces it: the fraction of equal labels, or R² if there are no labels.
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
                (interpret(&network.head, &plain).label, interpret(&network.head, &other).label);
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

/// A row without noise.
struct Quiet {
    torus: Vec<u64>,
    outputs: Vec<f64>,
    plain: Vec<f64>,
    /// No sum leaves its frame.
    inside: bool,
}

impl Quiet {
    fn new(model: &Model, row: &[f64]) -> Result<Self, Error> {
        let (torus, outputs, inside) = model.quiet(row)?;
        Ok(Self { torus, outputs, plain: model.network().evaluate(row)?, inside })
    }
}

/// Simulates every row, about `simulations` runs in all. Seeds are fixed: the same model and rows give the same report.
pub(crate) fn simulate(
    model: &Model,
    rows: &[&[f64]],
    labels: Option<&[&Label]>,
    simulations: usize,
) -> Result<Measured, Error> {
    let stages = model.program().noise();
    let quiet: Vec<Quiet> =
        rows.par_iter().map(|row| Quiet::new(model, row)).collect::<Result<_, _>>()?;
    // Few rows are simulated several times, because the measured quantity is how often noise changes an answer.
    let draws = simulations.div_ceil(rows.len()).clamp(1, MOST_DRAWS);
    let sums = (0..rows.len() * draws)
        .into_par_iter()
        .map(|simulation| {
            let i = simulation % rows.len();
            let Quiet { torus, outputs, plain, .. } = &quiet[i];
            let mut rng = StdRng::seed_from_u64(simulation as u64);
            let mut normal = || normal(&mut rng);
            let noise = &mut Noise::Predicted { stages: &stages, normal: &mut normal };
            let noisy = model.decode_outputs(&model.program().simulate(torus, noise));
            let (label, simulated) = (model.interpret(plain).label, model.interpret(&noisy).label);
            let squared =
                |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let right = labels.is_some_and(|labels| simulated.as_ref() == Some(labels[i]));
            Sums {
                right: f64::from(u8::from(right)),
                same: f64::from(u8::from(simulated == label)),
                noise: noisy.iter().zip(outputs).map(|(a, b)| (a - b).powi(2)).collect(),
                error: squared(&noisy, plain),
                sum: plain.iter().sum(),
                squares: plain.iter().map(|x| x * x).sum(),
                regression: label.is_none(),
            }
        })
        .collect::<Vec<Sums>>();
    let n = sums.len() as f64;
    let total = |f: fn(&Sums) -> f64| sums.iter().map(f).sum::<f64>();
    let outputs = model.program().outputs();
    let agreement = if sums.iter().any(|s| s.regression) {
        let spread = total(|s| s.squares) - total(|s| s.sum).powi(2) / (n * outputs as f64);
        (1.0 - total(|s| s.error) / spread.max(f64::MIN_POSITIVE)).max(0.0)
    } else {
        total(|s| s.same) / n
    };
    let inside = || quiet.iter().filter(|row| row.inside);
    let rounding = |i: usize| {
        let off = inside().map(|row| (row.outputs[i] - row.plain[i]).powi(2)).sum::<f64>();
        (off / inside().count().max(1) as f64).sqrt()
    };
    let noise = |i: usize| (sums.iter().map(|s| s.noise[i]).sum::<f64>() / n).sqrt();
    let mean = total(|s| s.sum) / (n * outputs as f64);
    let variance = total(|s| s.squares) / (n * outputs as f64) - mean * mean;
    Ok(Measured {
        spread: variance.max(0.0).sqrt(),
        accuracy: labels.map(|_| total(|s| s.right) / n),
        agreement,
        off: Off {
            noise: (0..outputs).map(noise).collect(),
            rounding: (0..outputs).map(rounding).collect(),
        },
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
