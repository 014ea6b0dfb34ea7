//! The meaning of a name in the graph during lowering.

use std::rc::Rc;

use super::tensor::Tensor;
use crate::network::{Activations, Affine, Label, Transform};

/// The value of an ONNX name.
#[derive(Clone)]
pub(super) enum Value {
    /// Known at import.
    Constant(Rc<Tensor>),
    /// An affine function of the values of a stage.
    Features(Features),
    /// The result of a head's transforms on features, which the client computes.
    Scores(Scores),
    /// The label, or its index, that the client derives from features.
    Choice(Choice),
}

/// An affine function of the values of a stage: the result of consecutive linear nodes.
#[derive(Clone, PartialEq)]
pub(super) struct Features {
    /// Index into the stages.
    pub(super) stage: usize,
    /// The shape of one row, without the batch axis.
    pub(super) shape: Vec<usize>,
    /// `None` for the stage's values unchanged.
    pub(super) affine: Option<Rc<Affine>>,
    /// The nodes it came from.
    pub(super) nodes: String,
    /// Lower and upper bound of each value, if known.
    pub(super) bounds: Option<Rc<Vec<(f64, f64)>>>,
}

/// Features under the transforms of a head.
#[derive(Clone)]
pub(super) struct Scores {
    pub(super) features: Features,
    pub(super) transforms: Vec<Transform>,
    /// The classes, if a node names them.
    pub(super) labels: Option<Vec<Label>>,
    /// The selected scores; `None` for all.
    pub(super) columns: Option<Vec<usize>>,
}

/// A choice of class.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) features: Features,
    pub(super) rule: Rule,
    /// `None` for the index of the class.
    pub(super) labels: Option<Vec<Label>>,
}

/// How a class is chosen.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// The class of the greatest value.
    ArgMax,
    /// The second class if the only value is above this.
    Above(f64),
}

/// A stage: values that affine functions take.
pub(super) struct Stage {
    pub(super) width: usize,
    pub(super) source: Source,
    /// Whether each value is a function of one input. The client computes it before it encrypts, so it is free.
    pub(super) plain: bool,
}

/// The origin of a stage's values.
pub(super) enum Source {
    Input,
    Activation(Features, Activations),
    /// The concatenated values of other stages: their indices, ascending, none of them a join.
    Join(Vec<usize>),
}

impl Features {
    /// Number of values in one row.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether both are the same function, even if they come from different nodes.
    pub(super) fn same(&self, other: &Features) -> bool {
        self.stage == other.stage && self.len() == other.len() && self.affine == other.affine
    }
}

impl Scores {
    /// The features as they are.
    pub(super) fn plain(features: Features) -> Scores {
        Scores { features, transforms: Vec::new(), labels: None, columns: None }
    }
}
