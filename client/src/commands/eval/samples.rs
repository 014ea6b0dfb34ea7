//! What happens to each row: in floating point, simulated, and encrypted.

use std::time::Instant;

use anyhow::Result;
use hermesh_client::compute::Evaluator;
use hermesh_client::data::Table;
use hermesh_client::model;
use hermesh_compiler::Model;
use hermesh_compiler::network::Prediction;
use hermesh_engine::ClientKey;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// One of each for each row. Scores of what has noise are rounded as `decrypt` rounds them.
pub(super) struct Samples {
    pub(super) plain: Vec<Prediction>,
    pub(super) simulated: Vec<Prediction>,
    /// None if nothing was encrypted.
    pub(super) encrypted: Option<Vec<Prediction>>,
}

/// What encryption took, row by row.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) encrypt_seconds: Vec<f64>,
    pub(super) compute_seconds: Vec<f64>,
    pub(super) decrypt_seconds: Vec<f64>,
    pub(super) input_bytes: usize,
    pub(super) answer_bytes: usize,
}

impl Samples {
    /// Those of the model in floating point, and of the simulation with noise. Its seeds are fixed, so
    /// that the same rows give the same predictions every time.
    pub(super) fn foresee(model: &Model, table: &Table) -> Result<Self> {
        let noise = model.program().noise();
        let rows = || table.values.chunks_exact(table.columns);
        let simulate = |(index, row)| {
            let mut rng = StdRng::seed_from_u64(index as u64);
            let mut normal = || hermesh_compiler::normal(&mut rng);
            model::simulate(model, row, &noise, &mut normal, model.resolution())
        };
        Ok(Self {
            plain: rows().map(|row| model.plain(row)).collect::<Result<_, _>>()?,
            simulated: rows().enumerate().map(simulate).collect::<Result<_, _>>()?,
            encrypted: None,
        })
    }
}

/// One row, encrypted.
pub(super) fn infer(
    model: &Model,
    client: &ClientKey,
    evaluator: &Evaluator<'_>,
    row: &[f64],
    spent: &mut Spent,
    done: impl FnMut(u64) + Send,
) -> Result<Vec<Prediction>> {
    let table = Table { rows: 1, columns: row.len(), shape: vec![row.len()], values: row.to_vec() };
    let start = Instant::now();
    let input = model::encrypt(model, client, &table)?;
    spent.encrypt_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let answer = evaluator.compute(&input, done)?;
    spent.compute_seconds.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    let predictions = model::decrypt(model, client, &answer, model.resolution())?;
    spent.decrypt_seconds.push(start.elapsed().as_secs_f64());
    (spent.input_bytes, spent.answer_bytes) = (input.len(), answer.len());
    Ok(predictions)
}
