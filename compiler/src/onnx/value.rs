//! What a name in the graph stands for while the graph is lowered.

use std::rc::Rc;

use super::tensor::Tensor;
use crate::network::{Activations, Affine, Label, Transform};

/// The value of an ONNX name.
#[derive(Clone)]
pub(super) enum Value {
    /// Known now.
    Constant(Rc<Tensor>),
    /// An affine function of the values of a stage.
    Features(Features),
    /// What the client computes from features by the transforms of a head.
    Scores(Scores),
    /// The label, or its index, that the client derives from features.
    Choice(Choice),
}

/// An affine function of the values of a stage: what any number of linear nodes in a row amount to.
#[derive(Clone, PartialEq)]
pub(super) struct Features {
    /// Index into the stages.
    pub(super) stage: usize,
    /// The shape of one row, without the batch axis.
    pub(super) shape: Vec<usize>,
    /// `None` for the stage's values as they are.
    pub(super) affine: Option<Rc<Affine>>,
    /// The nodes it came from.
    pub(super) nodes: String,
    /// What no value leaves, where that is known.
    pub(super) bounds: Option<Rc<Vec<(f64, f64)>>>,
}

/// Features under the transforms of a head.
#[derive(Clone)]
pub(super) struct Scores {
    pub(super) features: Features,
    pub(super) transforms: Vec<Transform>,
    /// The classes, where a node names them.
    pub(super) labels: Option<Vec<Label>>,
    /// Which of the scores, if not all.
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
    /// The greatest value's.
    ArgMax,
    /// The second class if the only value is above this.
    Above(f64),
}

/// Values that affine functions are of.
pub(super) struct Stage {
    pub(super) width: usize,
    pub(super) source: Source,
    /// Each value is a function of one input, which costs nothing: the client computes it before it encrypts.
    pub(super) plain: bool,
}

/// Where a stage's values come from.
pub(super) enum Source {
    Input,
    Activation(Features, Activations),
    /// The values of other stages one after another: their indices, ascending, none of them a join.
    Join(Vec<usize>),
}

impl Features {
    /// Number of values in one row.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether both are the same function, whatever nodes they came from.
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
