//! The client of hermesh's pipeline.

use anyhow::Result;
use hermesh_client::data::Table;
use hermesh_client::model;
use hermesh_compiler::network::Label;
use hermesh_compiler::{Model, OutOfRange};
use hermesh_engine::ClientKey;

/// A client with its client key.
pub(crate) struct Client<'a> {
    model: &'a Model,
    key: ClientKey,
}

impl<'a> Client<'a> {
    /// Makes keys. The bytes are the evaluation key.
    pub(crate) fn generate(model: &'a Model) -> (Self, Vec<u8>) {
        let (key, evaluation) = ClientKey::generate(model.program().parameter_set());
        (Self { model, key }, evaluation.encode().to_vec())
    }
}

impl crate::compare::Client for Client<'_> {
    fn encrypt(&mut self, row: &[f64]) -> Result<Vec<u8>> {
        // Rows are not checked, as peers do not check them either.
        Ok(model::encrypt(self.model, &self.key, &Table::of_row(row), OutOfRange::Keep)?.bytes)
    }

    fn label(&self, answer: &[u8]) -> Result<Option<Label>> {
        let predictions = model::decrypt(self.model, &self.key, answer, self.model.resolution())?;
        Ok(predictions.into_iter().next().and_then(|prediction| prediction.label))
    }
}
