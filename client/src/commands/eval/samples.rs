//! Evaluates each row: in floating point, simulated, and encrypted.

use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::compute::Evaluator;
use hermesh_client::data::Table;
use hermesh_client::model::{self, Moved};
use hermesh_compiler::network::Prediction;
use hermesh_compiler::{Model, OutOfRange};
use hermesh_engine::{ClientKey, Noise};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde::Serialize;

/// Accepted and refused rows.
#[derive(Default)]
pub(super) struct Sieve {
    pub(super) answered: Vec<usize>,
    /// Refused rows, with reasons.
    pub(super) refused: Vec<(usize, String)>,
    pub(super) moved: Moved,
}

impl Sieve {
    pub(super) fn new(model: &Model, table: &Table, policy: OutOfRange) -> Result<Self> {
        let admit = |row| model.admit(row, policy);
        let rows: Vec<_> = table.values.par_chunks_exact(table.columns).map(admit).collect();
        let mut sieve = Self::default();
        for (index, admitted) in rows.into_iter().enumerate() {
            match admitted {
                Ok(admitted) => {
                    sieve.answered.push(index);
                    sieve.moved.clamped_values += admitted.clamped;
                    sieve.moved.rows_out_of_frame += usize::from(admitted.kept.is_some());
                }
                Err(hermesh_compiler::Error::Refused(reason)) => {
                    sieve.refused.push((index, reason.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sieve)
    }
}

/// One prediction of each kind for each accepted row. Simulated and encrypted scores are rounded as `decrypt` rounds
/// them.
pub(super) struct Samples {
    pub(super) plain: Vec<Prediction>,
    pub(super) simulated: Vec<Prediction>,
    /// `None` if nothing was encrypted.
    pub(super) encrypted: Option<Vec<Prediction>>,
    /// Largest difference of any output from the plain model, before the head and before rounding, in the standard
    /// deviations that the model states.
    pub(super) worst: Worst,
}

/// See [`Samples::worst`].
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Worst {
    pub(super) simulated: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encrypted: Option<f64>,
}

impl Worst {
    pub(super) fn text(&self) -> String {
        let encrypted =
            self.encrypted.map_or_else(String::new, |worst| format!(", {worst:.1} encrypted"));
        format!("{:.1} simulated{encrypted}", self.simulated)
    }
}

/// Largest difference of outputs from those of the plain model, in the standard deviations that the model states.
pub(super) fn deviation(model: &Model, outputs: &[f64], row: &[f64]) -> Result<f64> {
    let plain = model.network().evaluate(row)?;
    let off = outputs.iter().zip(&plain).zip(&model.report().deviation).map(|((a, b), std)| {
        // Only rounding of floating point is left.
        let off = (a - b).abs() - 1e-9 * (a.abs() + b.abs());
        match off.is_finite() {
            true if off <= 0.0 => 0.0,
            true => off / std,
            false => f64::INFINITY,
        }
    });
    Ok(off.fold(0.0, f64::max))
}

/// Times of the encrypted run, row by row.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) encrypt_seconds: Vec<f64>,
    pub(super) compute_seconds: Vec<f64>,
    pub(super) decrypt_seconds: Vec<f64>,
    pub(super) input_bytes: usize,
    pub(super) answer_bytes: usize,
}

impl Samples {
    /// Predictions of the model in floating point, and of the simulation with noise. The seeds are fixed, so the same
    /// rows always give the same predictions.
    pub(super) fn foresee(model: &Model, table: &Table) -> Result<Self> {
        let noise = model.program().noise();
        let rows = || table.values.chunks_exact(table.columns);
        let simulate = |(index, row)| {
            let mut rng = StdRng::seed_from_u64(index as u64);
            let mut normal = || hermesh_compiler::normal(&mut rng);
            let torus = model.encode_row(row)?;
            let mut noise = Noise::Predicted { stages: &noise, normal: &mut normal };
            let outputs = model.decode_outputs(&model.program().simulate(&torus, &mut noise));
            let off = deviation(model, &outputs, row)?;
            Ok((model::predict(model, &outputs, model.resolution()), off))
        };
        let simulated = table.values.par_chunks_exact(table.columns).enumerate().map(simulate);
        let (simulated, off): (Vec<_>, Vec<f64>) =
            simulated.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let worst = Worst { simulated: off.into_iter().fold(0.0, f64::max), encrypted: None };
        let plain = rows().map(|row| model.plain(row)).collect::<Result<_, _>>()?;
        Ok(Self { plain, simulated, encrypted: None, worst })
    }
}

/// Evaluates one row encrypted.
pub(super) fn infer(
    model: &Model,
    client: &ClientKey,
    evaluator: &Evaluator<'_>,
    row: &[f64],
    spent: &mut Spent,
    done: impl FnMut(u64) + Send,
) -> Result<Vec<f64>> {
    let table = Table::of_row(row);
    let start = Instant::now();
    // Rows that would be refused have been removed before.
    let input = model::encrypt(model, client, &table, OutOfRange::Keep)?.bytes;
    spent.encrypt_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let answer = evaluator.compute(&input, done)?;
    spent.compute_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let outputs =
        model::decrypt_outputs(model, client, &answer)?.pop().context("an answer without a row")?;
    spent.decrypt_seconds.push(start.elapsed().as_secs_f64());
    (spent.input_bytes, spent.answer_bytes) = (input.len(), answer.len());
    Ok(outputs)
}
