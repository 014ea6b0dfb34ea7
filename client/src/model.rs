//! Compiled models, and the way from rows to an encrypted input and from an answer to predictions.

use std::path::Path;

use hermesh_compiler::network::{Decision, Label, Network, Prediction};
use hermesh_compiler::{MAX_MODEL_BYTES, Model};
use hermesh_engine::noise::StageNoise;
use hermesh_engine::{Answer, ClientKey, Noise};

use crate::data::{Labels, Table};
use crate::{Error, Result, files};

/// Bound on a job's or an answer's file, in bytes: the largest input of the widest program.
pub const MAX_CIPHERTEXT: u64 = 1 << 30;

/// Reads a compiled model.
pub fn read(path: &Path) -> Result<Model> {
    let bytes = files::read(path, MAX_MODEL_BYTES)?;
    Model::decode(&bytes).map_err(|error| Error::in_file(path)(error.into()))
}

/// The labels of a file as the model's own: `7` in a file may be the model's number or its name.
pub fn labels(network: &Network, labels: &Labels) -> Vec<Label> {
    let known: &[Label] = match &network.head.decision {
        Decision::Scores => &[],
        Decision::ArgMax { labels } => labels,
        Decision::Threshold { labels, .. } => labels,
    };
    let as_name = known.iter().any(|label| matches!(label, Label::String(_)));
    match labels {
        Labels::Integers(all) if as_name => {
            all.iter().map(|label| Label::String(label.to_string())).collect()
        }
        Labels::Integers(all) => all.iter().copied().map(Label::Int).collect(),
        Labels::Names(all) => all.iter().cloned().map(Label::String).collect(),
    }
}

/// Encrypts rows into one input.
pub fn encrypt(model: &Model, key: &ClientKey, table: &Table) -> Result<Vec<u8>> {
    let limit = model.program().max_rows();
    if table.rows > limit {
        return Err(Error::TooManyRows { limit, found: table.rows });
    }
    let rows = table.values.chunks_exact(table.columns).map(|row| model.encode_row(row));
    let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(hermesh_engine::encrypt(key, model.program(), &rows)?)
}

/// Decrypts an answer to one prediction per row. Labels are those of the outputs as they are;
/// scores are those of outputs rounded to multiples of their `resolution`, unless it is 0.
///
/// Noise in the outputs depends on the secret key, so whoever sees enough raw outputs of an
/// `approximate` program learns about the key (Li and Micciancio 2021). Rounding hides most of
/// the noise.
pub fn decrypt(
    model: &Model,
    key: &ClientKey,
    answer: &[u8],
    resolution: &[f64],
) -> Result<Vec<Prediction>> {
    let answer = Answer::decode(answer, model.program())?;
    let rows = hermesh_engine::decrypt(key, &answer)?;
    Ok(rows.iter().map(|row| predict(model, row, resolution)).collect())
}

/// What [`decrypt`] is to be expected to give for a row, by the program in the clear with noise of the
/// predicted variance. `normal` is a source of standard normal values.
pub fn simulate(
    model: &Model,
    row: &[f64],
    stages: &[StageNoise],
    normal: &mut dyn FnMut() -> f64,
    resolution: &[f64],
) -> Result<Prediction> {
    let row = model.encode_row(row)?;
    let outputs = model.program().simulate(&row, &mut Noise::Predicted { stages, normal });
    Ok(predict(model, &outputs, resolution))
}

fn predict(model: &Model, row: &[u64], resolution: &[f64]) -> Prediction {
    let outputs = model.decode_outputs(row);
    let rounded: Vec<f64> =
        outputs.iter().zip(resolution).map(|(&x, &step)| round(x, step)).collect();
    let scores = model.interpret(&rounded).scores;
    Prediction { label: model.interpret(&outputs).label, scores }
}

fn round(x: f64, resolution: f64) -> f64 {
    // Adding zero turns −0 into 0.
    if resolution > 0.0 { (x / resolution).round() * resolution + 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_rounded_to_multiples() {
        assert_eq!([0.26, -0.26, 0.1].map(|x| round(x, 0.25)), [0.25, -0.25, 0.0]);
        assert_eq!(round(0.26, 0.0), 0.26);
    }
}
