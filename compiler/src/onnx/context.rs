//! The state of an import and of the lowering of one node: its attributes, its inputs, and the stages built so far.

use std::collections::HashMap;
use std::rc::Rc;

use super::budget::Budget;
use super::ops::OneHots;
use super::proto::{AttributeProto, NodeProto};
use super::tensor::{Tensor, abbreviate};
use super::value::{Features, Scores, Source, Stage, Value};
use crate::Error;
use crate::network::{Activations, Affine, Label};

/// Maximum length of the node names in a layer's name.
pub(super) const MAX_LAYER_NAME: usize = 120;

/// The state of an import.
pub(super) struct Import {
    pub(super) stages: Vec<Stage>,
    /// The joins among the stages, by the stages that they join.
    pub(super) joins: HashMap<Vec<usize>, usize>,
    pub(super) budget: Budget,
    /// Version of the default operator set.
    pub(super) opset: i64,
    /// Whether each value of the input is a whole number.
    pub(super) integers: Vec<Option<(f64, f64)>>,
    pub(super) one_hots: OneHots,
    /// The batch axis has the fixed size 1.
    pub(super) single_row: bool,
    /// The model's outputs are values, not the scores of classes.
    pub(super) regression: bool,
}

/// One node, its inputs and the state of the import.
pub(super) struct Context<'a> {
    pub(super) import: &'a mut Import,
    pub(super) node: &'a NodeProto,
    pub(super) inputs: Vec<Option<Value>>,
}

/// The node's name, or a substitute.
pub(super) fn label(node: &NodeProto) -> String {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => format!("`{}` (unnamed)", abbreviate(output)),
        (name, _) => format!("`{}`", abbreviate(name)),
    }
}

impl Context<'_> {
    /// An error about this node.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Node {
            node: label(self.node),
            operator: abbreviate(&self.node.op_type),
            reason: reason.into(),
        }
    }

    // Inputs

    /// Input `index`, if given.
    pub(super) fn optional(&mut self, index: usize) -> Option<Value> {
        self.inputs.get_mut(index).and_then(Option::take)
    }

    /// Input `index`.
    pub(super) fn value(&mut self, index: usize) -> Result<Value, Error> {
        self.optional(index).ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    /// Input `index`, if given, which must be a constant.
    pub(super) fn optional_constant(&mut self, index: usize) -> Result<Option<Rc<Tensor>>, Error> {
        match self.optional(index) {
            None => Ok(None),
            Some(Value::Constant(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(self.error(format!(
                "input {index} must be a constant, but depends on the model's input"
            ))),
        }
    }

    /// Input `index`, a constant.
    pub(super) fn constant(&mut self, index: usize) -> Result<Rc<Tensor>, Error> {
        self.optional_constant(index)?
            .ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    /// The numbers of the constant in input `index`, if given.
    pub(super) fn optional_floats(&mut self, index: usize) -> Result<Option<Vec<f64>>, Error> {
        match self.optional_constant(index)? {
            None => Ok(None),
            Some(tensor) => match tensor.to_floats() {
                Some(values) => Ok(Some(values)),
                None => Err(self.error(format!("input {index} must be numbers, not strings"))),
            },
        }
    }

    /// The integers of the constant in input `index`, if given.
    pub(super) fn optional_ints(&mut self, index: usize) -> Result<Option<Vec<i64>>, Error> {
        match self.optional_constant(index)? {
            None => Ok(None),
            Some(tensor) => match tensor.as_ints() {
                Some(values) => Ok(Some(values.to_vec())),
                None => Err(self.error(format!("input {index} must be integers"))),
            },
        }
    }

    /// The one number of the constant in input `index`, if given.
    pub(super) fn optional_scalar(&mut self, index: usize) -> Result<Option<f64>, Error> {
        match self.optional_floats(index)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(values) => {
                Err(self.error(format!("input {index} must be one number, not {}", values.len())))
            }
        }
    }

    /// Input `index`, which must be encrypted features.
    pub(super) fn features(&mut self, index: usize) -> Result<Features, Error> {
        match self.value(index)? {
            Value::Features(features) => Ok(features),
            Value::Constant(_) => Err(self.error(format!("input {index} must depend on the model's input"))),
            Value::Scores(_) | Value::Choice(_) => Err(self.error(
                "it follows a Softmax, ArgMax, Normalizer or classifier, after which only nodes that choose or name \
                 classes are supported",
            )),
        }
    }

    /// Input `index`, which must be features or scores.
    pub(super) fn scores(&mut self, index: usize) -> Result<Scores, Error> {
        match self.value(index)? {
            Value::Scores(scores) if scores.columns.is_none() => Ok(scores),
            Value::Features(features) => Ok(Scores::plain(features)),
            _ => Err(self.error(format!("input {index} must be the model's scores"))),
        }
    }

    // Attributes

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    /// A finite number.
    pub(super) fn float(&self, name: &str, default: f64) -> Result<f64, Error> {
        let value = self.attribute(name).map_or(default, |attribute| attribute.f.into());
        if value.is_finite() { Ok(value) } else { Err(self.not_finite(name)) }
    }

    /// Finite numbers.
    pub(super) fn floats(&self, name: &str) -> Result<Vec<f64>, Error> {
        let values = self.attribute(name).map_or(&[][..], |attribute| &attribute.floats);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.not_finite(name));
        }
        Ok(values.iter().map(|&value| value.into()).collect())
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name)
            .map_or(default.into(), |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let texts = self.attribute(name).map_or(&[][..], |attribute| &attribute.strings);
        texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, Error> {
        let node = self.node;
        let proto = node
            .attribute
            .iter()
            .find(|attribute| attribute.name == name)
            .and_then(|found| found.t.as_ref());
        proto.map(|proto| Tensor::decode(proto, &mut self.import.budget)).transpose()
    }

    /// The classes named by the attribute `ints` or else by `strings`.
    pub(super) fn labels(&self, ints: &str, strings: &str) -> Vec<Label> {
        let text = |bytes: &Vec<u8>| Label::String(String::from_utf8_lossy(bytes).into_owned());
        match self.ints(ints) {
            Some(values) if !values.is_empty() => values.iter().copied().map(Label::Int).collect(),
            _ => self
                .attribute(strings)
                .map_or(Vec::new(), |found| found.strings.iter().map(text).collect()),
        }
    }

    fn not_finite(&self, attribute: &str) -> Error {
        Error::NotFinite { what: format!("attribute {attribute} of node {}", label(self.node)) }
    }

    // Axes

    /// An axis that may count from the end, as an index below `rank`.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Error> {
        let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        let index = counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
        index.ok_or_else(|| self.error(format!("axis {axis} is out of range for {rank} axes")))
    }

    // Results

    /// A constant as the only output.
    pub(super) fn emit(&mut self, tensor: Tensor) -> Result<Vec<Value>, Error> {
        // Otherwise the other sizes of an empty tensor would be unbounded.
        if self.import.budget.allocate(&[tensor.len()])? == 0 && tensor.shape != [0] {
            return Err(self.error(format!("the result is empty: its shape is {:?}", tensor.shape)));
        }
        Ok(vec![Value::Constant(Rc::new(tensor))])
    }

    /// Charges for a tensor of this shape, which must not be empty.
    pub(super) fn allocate(&mut self, shape: &[usize]) -> Result<usize, Error> {
        match self.import.budget.allocate(shape)? {
            0 => Err(self.error(format!("the result is empty: its shape is {shape:?}"))),
            count => Ok(count),
        }
    }

    /// An affine function of features.
    pub(super) fn then(
        &mut self,
        features: Features,
        affine: Affine,
        shape: Vec<usize>,
    ) -> Result<Features, Error> {
        let affine = match &features.affine {
            None => affine,
            Some(inner) => {
                let work = affine.cost_after(inner);
                self.import.budget.work(work)?;
                let dense = (affine.rows() as u64).saturating_mul(inner.cols() as u64);
                self.import.budget.allocate(&[dense.min(work) as usize])?;
                affine.after(inner)
            }
        };
        Ok(self.derive(features, Some(Rc::new(affine)), shape))
    }

    /// Scales and shifts each feature.
    pub(super) fn rescale(
        &mut self,
        features: Features,
        scale: Option<&[f64]>,
        shift: Option<&[f64]>,
    ) -> Result<Features, Error> {
        let mut features = features;
        let mut affine = match features.affine.take() {
            None => {
                self.allocate(&[features.len(), 2])?;
                Rc::new(Affine::diagonal(&vec![1.0; features.len()]))
            }
            Some(affine) => affine,
        };
        self.import.budget.work(affine.matrix.entries() as u64 + features.len() as u64)?;
        if Rc::strong_count(&affine) > 1 {
            self.allocate(&[affine.matrix.entries() + affine.rows()])?;
        }
        let changed = Rc::make_mut(&mut affine);
        if let Some(scale) = scale {
            changed.scale(scale);
        }
        if let Some(shift) = shift {
            changed.shift(shift);
        }
        let shape = features.shape.clone();
        Ok(self.derive(features, Some(affine), shape))
    }

    /// The features at `indices`, in a new shape.
    pub(super) fn select(
        &mut self,
        features: Features,
        indices: &[usize],
        shape: Vec<usize>,
    ) -> Result<Features, Error> {
        self.allocate(&[indices.len(), 2])?;
        let width = self.import.stages[features.stage].width;
        let affine = match &features.affine {
            None => Affine::selection(indices, width),
            Some(affine) => {
                let entries = indices
                    .iter()
                    .map(|&index| affine.matrix.row(index).len())
                    .fold(0, usize::saturating_add);
                self.allocate(&[entries.max(1)])?;
                affine.select(indices)
            }
        };
        Ok(self.derive(features, Some(Rc::new(affine)), shape))
    }

    /// The same values in a new shape.
    pub(super) fn reshape(&mut self, features: Features, shape: Vec<usize>) -> Features {
        let (affine, bounds) = (features.affine.clone(), features.bounds.clone());
        Features { bounds, ..self.derive(features, affine, shape) }
    }

    /// Whether each feature depends on at most one value of its stage.
    pub(super) fn is_unary(&mut self, features: &Features) -> Result<bool, Error> {
        let Some(affine) = &features.affine else { return Ok(true) };
        self.import.budget.work(affine.matrix.entries() as u64)?;
        Ok(affine.is_unary())
    }

    /// An activation of each feature, which begins a new stage.
    pub(super) fn activate(
        &mut self,
        features: Features,
        activations: impl Into<Activations>,
    ) -> Result<Features, Error> {
        let shape = features.shape.clone();
        self.allocate(&shape)?;
        let (features, activations) = self.fuse(features, activations.into())?;
        let source = self.reshape(features, shape.clone());
        let plain = self.import.stages[source.stage].plain && self.is_unary(&source)?;
        let width = source.len();
        let source = Source::Activation(source, activations);
        self.import.stages.push(Stage { width, source, plain });
        let stage = self.import.stages.len() - 1;
        Ok(Features { stage, shape, affine: None, nodes: String::new(), bounds: None })
    }

    fn derive(
        &self,
        features: Features,
        affine: Option<Rc<Affine>>,
        shape: Vec<usize>,
    ) -> Features {
        let mut nodes = features.nodes;
        let name = if self.node.name.is_empty() { &self.node.op_type } else { &self.node.name };
        let name = abbreviate(name);
        // A node may need several steps.
        if nodes.len() < MAX_LAYER_NAME && !nodes.ends_with(&name) {
            if !nodes.is_empty() {
                nodes.push('+');
            }
            nodes.push_str(&name);
        }
        Features { stage: features.stage, shape, affine, nodes, bounds: None }
    }
}
