//! Reads compiled models, turns rows into an encrypted input, and answers into predictions.

use std::path::Path;

use hermesh_compiler::network::{Decision, Head, Label, Prediction};
use hermesh_compiler::{Admit, Artifact, Client, MAX_MODEL_BYTES, Model, OutOfRange};
use hermesh_engine::{Answer, ClientKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::data::{Labels, Table};
use crate::{Error, Result, files};

/// Largest file of a job or an answer, in bytes: the largest input of the widest program.
pub const MAX_CIPHERTEXT: u64 = 1 << 30;

/// Reads a compiled model, whole or a client model.
pub fn read(path: &Path) -> Result<Artifact> {
    let bytes = files::read(path, MAX_MODEL_BYTES)?;
    Artifact::decode(&bytes).map_err(|error| Error::in_file(path)(error.into()))
}

/// Reads a whole model.
pub fn read_whole(path: &Path) -> Result<Model> {
    match read(path)? {
        Artifact::Whole(model) => Ok(*model),
        Artifact::Client(_) => {
            Err(Error::in_file(path)(hermesh_compiler::Error::ClientHalf.into()))
        }
    }
}

/// Converts the labels of a file to the model's type: `7` in a file may be a number or a name in the model.
pub fn labels(head: &Head, labels: &Labels) -> Vec<Label> {
    let known: &[Label] = match &head.decision {
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

/// Rows that were encrypted.
pub struct Encrypted {
    /// The input.
    pub bytes: Vec<u8>,
    /// Changes made to rows.
    pub moved: Moved,
}

/// Changes made to rows before they were encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Values outside the range of their encoding, moved to its edge.
    pub clamped_values: usize,
    /// Rows that were kept although their answers will be wrong.
    pub rows_out_of_frame: usize,
}

/// Checks rows and encrypts them into one input.
pub fn encrypt(
    model: &impl Admit,
    key: &ClientKey,
    table: &Table,
    policy: OutOfRange,
) -> Result<Encrypted> {
    let outline = model.as_ref().outline();
    let limit = outline.max_rows;
    if table.rows > limit {
        return Err(Error::TooManyRows { limit, found: table.rows });
    }
    let mut rows = Zeroizing::new(Vec::with_capacity(table.rows));
    let mut moved = Moved::default();
    for (index, row) in table.values.chunks_exact(table.columns).enumerate() {
        let admitted = model.admit(row, policy).map_err(|error| refused(index, error))?;
        moved.clamped_values += admitted.clamped;
        moved.rows_out_of_frame += usize::from(admitted.kept.is_some());
        rows.push(admitted.torus);
    }
    Ok(Encrypted { bytes: hermesh_engine::encrypt(key, outline, &rows)?, moved })
}

fn refused(row: usize, error: hermesh_compiler::Error) -> Error {
    match error {
        hermesh_compiler::Error::Refused(reason) => Error::RowRefused { row, reason },
        other => other.into(),
    }
}

/// Decrypts an answer to one prediction per row. Labels come from the unrounded outputs; scores come from outputs
/// rounded to multiples of their `resolution`, unless it is 0.
///
/// The noise in the outputs of an `approximate` program depends on the client key (Li and Micciancio 2021). Scores and
/// labels reveal something about the key wherever the noise changes them; rounding makes that rarer but does not
/// prevent it. Count output that others see with [`crate::revealed`].
pub fn decrypt(
    model: &impl AsRef<Client>,
    key: &ClientKey,
    answer: &[u8],
    resolution: &[f64],
) -> Result<Vec<Prediction>> {
    let outputs = decrypt_outputs(model, key, answer)?;
    Ok(outputs.iter().map(|outputs| predict(model, outputs, resolution)).collect())
}

/// Decrypts an answer to the outputs of each row, before the model's head, with their noise.
pub fn decrypt_outputs(
    model: &impl AsRef<Client>,
    key: &ClientKey,
    answer: &[u8],
) -> Result<Zeroizing<Vec<Vec<f64>>>> {
    let model = model.as_ref();
    let answer = Answer::decode(answer, model.outline())?;
    let rows = hermesh_engine::decrypt(key, &answer)?;
    Ok(Zeroizing::new(rows.iter().map(|row| model.decode_outputs(row)).collect()))
}

/// The prediction of one row: the label of the unrounded outputs, and scores of the rounded outputs.
pub fn predict(model: &impl AsRef<Client>, outputs: &[f64], resolution: &[f64]) -> Prediction {
    let model = model.as_ref();
    let rounded: Vec<f64> =
        outputs.iter().zip(resolution).map(|(&x, &step)| round(x, step)).collect();
    let scores = model.interpret(&rounded).scores;
    Prediction { label: model.interpret(outputs).label, scores }
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
