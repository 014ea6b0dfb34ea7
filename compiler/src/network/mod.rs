//! A model in floating point: a chain of affine functions and activations. Its plain-text evaluation is the reference
//! for quantisation and noise simulation.

mod activation;
mod affine;
mod formula;
mod groups;
mod head;
mod matrix;
#[cfg(test)]
mod tests;

pub use activation::{Activation, Activations};
pub use affine::Affine;
pub use formula::{Formula, Term};
pub(crate) use groups::shared_rows;
pub use head::{Decision, Head, Label, Prediction, Transform};
pub use matrix::{Matrix, Sparse};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::bounded;
use crate::domain::Index;

/// Maximum number of layers of a model that is read: a program has no more stages.
pub(crate) const MAX_LAYERS: usize = 1024;
/// Maximum number of dimensions of a row that is read.
const MAX_RANK: usize = 64;

/// Affine, activation, affine, activation, …, affine; then the head, on the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The model's own name.
    pub name: String,
    /// Features per row.
    pub inputs: usize,
    /// The shape of a row, for example `[channels, height, width]` of an image; its product is `inputs`.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_RANK>")]
    pub input_shape: Vec<usize>,
    /// The layers in order, at least one.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    pub layers: Vec<Layer>,
    /// The steps that the client applies to the outputs.
    pub head: Head,
    /// Features that are indices, in ascending order.
    #[serde(deserialize_with = "bounded::list::<_, _, { hermesh_engine::MAX_WIDTH }>")]
    pub indices: Vec<Index>,
}

/// An affine function followed by an activation of each value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The model's nodes that it was made from.
    pub name: String,
    /// Applied to the values of the layer before.
    pub affine: Affine,
    /// The activation of each row; `None` only in the last layer.
    pub activation: Option<Activations>,
    /// For a convolution: the group of each row. Rows of one group have the same bias and the same weights up to a
    /// shift of the columns (at the edges without those that fall on padding), so one lookup table serves them all.
    #[serde(deserialize_with = "bounded::some::<_, _, { hermesh_engine::MAX_WIDTH }>")]
    pub groups: Option<Vec<u32>>,
    /// The lowest and the highest value of each row for any input, if known.
    pub bounds: Option<Vec<(f64, f64)>>,
}

impl Network {
    /// Number of outputs, before the head.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.affine.rows())
    }

    /// The outputs for one row, before the head.
    pub fn evaluate(&self, x: &[f64]) -> Result<Vec<f64>, Error> {
        self.check_row(x)?;
        let mut values = x.to_vec();
        for layer in &self.layers {
            values = layer.apply(&values);
        }
        Ok(values)
    }

    /// For one row: the values that each layer's activation is applied to. The last entry is the outputs if the last
    /// layer has no activation.
    pub fn trace(&self, x: &[f64]) -> Result<Vec<Vec<f64>>, Error> {
        self.check_row(x)?;
        let mut values = x.to_vec();
        let mut trace = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let before = layer.affine.apply(&values);
            values.clone_from(&before);
            layer.activate(&mut values);
            trace.push(before);
        }
        Ok(trace)
    }

    /// The prediction for one row: outputs and head.
    pub fn predict(&self, x: &[f64]) -> Result<Prediction, Error> {
        Ok(self.head.apply(&self.evaluate(x)?))
    }

    /// Number of leading layers whose values each depend on one feature. The client can compute them before it
    /// encrypts, where they are free: for example `MinMaxScaler(clip=True)`, or the comparisons of trees.
    pub fn elementwise_prefix(&self) -> usize {
        let rest = self.layers.len().saturating_sub(1);
        self.layers[..rest].iter().take_while(|layer| layer.affine.is_unary()).count()
    }

    /// Checks that sizes agree from the first layer to the head, and that every number is finite.
    pub fn validate(&self) -> Result<(), Error> {
        let malformed = |reason: String| Err(Error::Network { reason });
        let product =
            self.input_shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if self.inputs == 0 || product != Some(self.inputs) {
            return malformed(format!(
                "{} inputs in the shape {:?}",
                self.inputs, self.input_shape
            ));
        }
        if self.layers.is_empty() {
            return malformed("no layer".into());
        }
        Index::validate(&self.indices, self.inputs)?;
        let mut width = self.inputs;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.validate(width)?;
            if layer.activation.is_none() && index + 1 < self.layers.len() {
                return malformed(format!(
                    "layer {} has no activation, but is not the last",
                    layer.name
                ));
            }
            width = layer.affine.rows();
        }
        self.head.validate(width)
    }

    pub(crate) fn check_row(&self, x: &[f64]) -> Result<(), Error> {
        if x.len() == self.inputs {
            Ok(())
        } else {
            Err(Error::RowLength { expected: self.inputs, found: x.len() })
        }
    }
}

impl Layer {
    fn activate(&self, values: &mut [f64]) {
        for (row, value) in values.iter_mut().enumerate() {
            *value = self.activated(row, *value);
        }
    }

    /// Applies the activation of a row to a value.
    pub fn activated(&self, row: usize, value: f64) -> f64 {
        self.activation.as_ref().map_or(value, |activations| activations.at(row).apply(value))
    }

    /// For each row: whether its value is always 0 or 1.
    pub(crate) fn switches(&self) -> Vec<bool> {
        let switch = |row: usize| {
            self.activation.as_ref().is_some_and(|activations| {
                matches!(activations.at(row), Activation::Step | Activation::Equal)
            })
        };
        (0..self.affine.rows()).map(switch).collect()
    }

    /// Bits of the integers that the layer's tables take; `None` if an activation is not a table.
    pub(crate) fn table_bits(&self) -> Option<u32> {
        let kinds = self.activation.as_ref()?.kinds();
        let bits = |kind: &Activation| match kind {
            Activation::Table(values) => Some(values.len().next_power_of_two().ilog2().max(1)),
            _ => None,
        };
        kinds.iter().map(bits).try_fold(1, |most, bits| Some(bits?.max(most)))
    }

    /// Applies the layer to the values of the layer before.
    pub fn apply(&self, values: &[f64]) -> Vec<f64> {
        let mut values = self.affine.apply(values);
        self.activate(&mut values);
        values
    }

    pub(crate) fn validate(&self, inputs: usize) -> Result<(), Error> {
        let Affine { matrix, bias } = &self.affine;
        matrix.validate()?;
        let (rows, cols) = (matrix.rows(), matrix.cols());
        if rows == 0 || cols != inputs || bias.len() != rows {
            let found = bias.len();
            let reason = format!(
                "layer {} has {rows} rows, {cols} columns, {found} biases for {inputs} inputs",
                self.name
            );
            return Err(Error::Network { reason });
        }
        if self.groups.as_ref().is_some_and(|groups| groups.len() != rows) {
            return Err(Error::Network {
                reason: format!("layer {} does not group all of its {rows} rows", self.name),
            });
        }
        if self.activation.as_ref().is_some_and(|activations| !activations.fits(rows)) {
            return Err(Error::Network {
                reason: format!("layer {} lacks activations for its {rows} rows", self.name),
            });
        }
        let ordered = |&(low, high): &(f64, f64)| low <= high && (high - low).is_finite();
        if self.bounds.as_ref().is_some_and(|b| b.len() != rows || !b.iter().all(ordered)) {
            return Err(Error::Network {
                reason: format!("layer {} does not bound its {rows} rows", self.name),
            });
        }
        let finite = matrix.values().iter().chain(bias).all(|value| value.is_finite());
        if finite { Ok(()) } else { Err(Error::NotFinite { what: format!("layer {}", self.name) }) }
    }
}
