//! The order in which to lower the nodes, and the shape of the input.

use std::collections::{HashMap, HashSet};

use super::context::label;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::tensor::abbreviate;
use crate::Error;

/// The definition of a name in the graph.
#[derive(Clone, Copy)]
pub(super) enum Definition<'a> {
    Input,
    Initializer(&'a TensorProto),
    /// Index of the node.
    Node(usize),
}

/// The graph's names, and the nodes that its outputs need.
pub(super) struct Graph<'a> {
    pub(super) definitions: HashMap<&'a str, Definition<'a>>,
    /// Node indices in an order in which each node follows those it reads from.
    pub(super) order: Vec<usize>,
    /// Number of reads of each name, by these nodes and as an output.
    pub(super) uses: HashMap<&'a str, usize>,
}

/// One row of an input.
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    /// The batch axis has the fixed size 1.
    pub(super) single_row: bool,
    /// The range of its elements if they are integers.
    pub(super) integer: Option<(f64, f64)>,
    /// Number of its element type in the schema.
    pub(super) element: i32,
}

impl<'a> Graph<'a> {
    pub(super) fn new(proto: &'a GraphProto, inputs: &[Input<'a>]) -> Result<Graph<'a>, Error> {
        let mut definitions = HashMap::new();
        for input in inputs {
            if definitions.insert(input.name, Definition::Input).is_some() {
                return Err(Error::DuplicateValue { value: abbreviate(input.name) });
            }
        }
        let initializers =
            proto.initializer.iter().map(|tensor| (&tensor.name, Definition::Initializer(tensor)));
        let nodes = proto.node.iter().enumerate();
        let outputs = nodes.flat_map(|(index, node)| {
            node.output.iter().map(move |name| (name, Definition::Node(index)))
        });
        for (name, definition) in initializers.chain(outputs).filter(|(name, _)| !name.is_empty()) {
            if definitions.insert(name, definition).is_some() {
                return Err(Error::DuplicateValue { value: abbreviate(name) });
            }
        }
        let mut graph = Graph { definitions, order: Vec::new(), uses: HashMap::new() };
        let mut state = vec![State::New; proto.node.len()];
        for output in &proto.output {
            *graph.uses.entry(&output.name).or_default() += 1;
            let user = || format!("the output `{}`", abbreviate(&output.name));
            if let Some(node) = graph.producer(&output.name, user)? {
                graph.visit(&proto.node, node, &mut state)?;
            }
        }
        Ok(graph)
    }

    /// The node that defines a name; `None` for an input or initialiser.
    fn producer(&self, name: &str, user: impl Fn() -> String) -> Result<Option<usize>, Error> {
        match self.definitions.get(name) {
            Some(Definition::Node(index)) => Ok(Some(*index)),
            Some(_) => Ok(None),
            None => Err(Error::UndefinedValue { user: user(), value: abbreviate(name) }),
        }
    }

    /// Depth-first search with an explicit stack, because a graph from outside may be deep.
    fn visit(
        &mut self,
        nodes: &'a [NodeProto],
        start: usize,
        state: &mut [State],
    ) -> Result<(), Error> {
        let mut stack = vec![(start, 0)];
        while let Some((index, read)) = stack.pop() {
            let node = &nodes[index];
            if read == 0 {
                match state[index] {
                    State::Done => continue,
                    State::Open => return Err(Error::Cycle { node: label(node) }),
                    State::New => state[index] = State::Open,
                }
            }
            match node.input.get(read) {
                None => {
                    state[index] = State::Done;
                    self.order.push(index);
                }
                Some(name) => {
                    stack.push((index, read + 1));
                    if !name.is_empty() {
                        *self.uses.entry(name).or_default() += 1;
                        let user = || format!("node {}", label(node));
                        if let Some(producer) = self.producer(name, user)? {
                            stack.push((producer, 0));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// The version of the default operator set.
pub(super) fn opset(model: &ModelProto) -> i64 {
    let default =
        model.opset_import.iter().filter(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    default.map(|set| set.version).max().unwrap_or(1)
}

/// The inputs: names declared as inputs, without initialisers.
pub(super) fn inputs(graph: &GraphProto) -> Result<Vec<Input<'_>>, Error> {
    // Older exporters declare every initialiser as an input as well.
    let given = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect::<HashSet<_>>();
    let inputs = graph.input.iter().filter(|input| !given.contains(input.name.as_str()));
    let inputs = inputs.map(input).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() {
        let reason = "expected an input, a tensor of rows of features; found none".into();
        return Err(Error::Model { reason });
    }
    Ok(inputs)
}

fn input(input: &ValueInfoProto) -> Result<Input<'_>, Error> {
    let name = abbreviate(&input.name);
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor =
        tensor.ok_or_else(|| Error::Model { reason: format!("input `{name}` is not a tensor") })?;
    // bool, strings and complex numbers are not features.
    if !matches!(tensor.elem_type, 1..=7 | 10..=13 | 16) {
        let reason =
            format!("input `{name}` has element type {}; expected numbers", tensor.elem_type);
        return Err(Error::Model { reason });
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let Some((batch, features)) = dims.split_first().filter(|(_, features)| !features.is_empty())
    else {
        let reason = format!(
            "input `{name}` has {} axes; expected a batch axis and at least one more",
            dims.len()
        );
        return Err(Error::Model { reason });
    };
    if batch.dim_value.is_some_and(|size| size > 1) {
        let size = batch.dim_value.unwrap_or_default();
        let reason = format!(
            "input `{name}` has a fixed batch of {size}; export with a dynamic batch, or a batch of 1"
        );
        return Err(Error::Model { reason });
    }
    let size = |(axis, dim): (usize, &super::proto::DimensionProto)| {
        let size =
            dim.dim_value.and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
        size.ok_or_else(|| Error::DynamicShape { input: name.clone(), axis: axis + 1 })
    };
    let shape = features.iter().enumerate().map(size).collect::<Result<_, _>>()?;
    let signed = |bits: i32| (-f64::from(bits - 1).exp2(), f64::from(bits - 1).exp2() - 1.0);
    let unsigned = |bits: i32| (0.0, f64::from(bits).exp2() - 1.0);
    let integer = match tensor.elem_type {
        2 => Some(unsigned(8)),
        3 => Some(signed(8)),
        4 => Some(unsigned(16)),
        5 => Some(signed(16)),
        6 => Some(signed(32)),
        7 => Some(signed(64)),
        12 => Some(unsigned(32)),
        13 => Some(unsigned(64)),
        _ => None,
    };
    let single_row = batch.dim_value == Some(1);
    Ok(Input { name: &input.name, shape, single_row, integer, element: tensor.elem_type })
}
