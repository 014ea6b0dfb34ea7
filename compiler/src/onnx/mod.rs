//! Imports ONNX: from a model file to a [`Network`].
//!
//! The nodes are lowered one by one. Consecutive linear nodes fold into one affine function, an activation begins a new
//! stage, and values of several stages are joined where a node reads them together. Nodes after the last layer
//! (probabilities, the choice of a class) become the network's head. At the end the stages are ordered: a layer
//! computes all stages that can be computed by then, and carries values that later layers need. Nodes that no output
//! needs are ignored. Memory and time are bounded whatever the file contains.
//!
//! Several inputs form one row: their features in the order in which the graph declares them. An integer input may be
//! an index into a constant table (`Gather`, an embedding). The client then encrypts it as a one-hot code, so that the
//! table is a matrix, and refuses rows with an index that is outside the table, negative or a fraction.

mod budget;
mod context;
mod finish;
mod graph;
mod join;
mod layers;
mod ops;
mod pointwise;
mod proto;
mod tensor;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use prost::Message;

use crate::Error;
use crate::network::{Affine, Network};
use budget::Budget;
use context::{Context, Import, label};
use graph::{Definition, Graph};
use ops::OneHots;
pub use ops::supported;
use tensor::{Tensor, abbreviate};
use value::{Features, Value};

/// Metadata key under which a model declares the domain of its features: see [`crate::Domain::parse`].
const DOMAIN: &str = "hermesh.domain";
/// The element type of bytes.
const UINT8: i32 = 2;

/// Imports the ONNX model in a file.
pub fn read(path: &Path) -> Result<Network, Error> {
    let mut network = import(&load(path)?)?;
    // Exporters name graphs `main_graph` or with random digits.
    if let Some(stem) = path.file_stem() {
        network.name = stem.to_string_lossy().into_owned();
    }
    Ok(network)
}

fn load(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    // Reads one byte more than allowed, to detect a larger file.
    File::open(path)
        .and_then(|file| file.take(wire::MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

/// The domain that an ONNX file declares: by the metadata `hermesh.domain`, or by an input of bytes.
pub fn declared_domain(path: &Path) -> Result<Option<String>, Error> {
    let bytes = load(path)?;
    wire::check(&bytes)?;
    let model = decode(&bytes)?;
    if let Some(entry) = model.metadata_props.iter().find(|entry| entry.key == DOMAIN) {
        return Ok(Some(entry.value.clone()));
    }
    let Some(graph) = &model.graph else {
        return Ok(None);
    };
    let bytes = graph::inputs(graph)?.iter().all(|input| input.element == UINT8);
    Ok(bytes.then(|| "0..255".into()))
}

fn decode(bytes: &[u8]) -> Result<proto::ModelProto, Error> {
    proto::ModelProto::decode(bytes).map_err(|error| Error::Malformed { reason: error.to_string() })
}

/// Imports an ONNX model.
pub fn import(bytes: &[u8]) -> Result<Network, Error> {
    import_within(bytes, Budget::new())
}

fn import_within(bytes: &[u8], mut budget: Budget) -> Result<Network, Error> {
    wire::check(bytes)?;
    let model = decode(bytes)?;
    let proto = model
        .graph
        .as_ref()
        .ok_or_else(|| Error::Malformed { reason: "it has no graph".into() })?;
    let declared = graph::inputs(proto)?;
    let Graph { definitions, order, uses } = Graph::new(proto, &declared)?;
    let mut widths = Vec::new();
    for input in &declared {
        widths.push(budget.allocate(&input.shape)?);
    }
    let inputs = budget.allocate(&[widths.iter().sum()])?;
    let integers = declared.iter().zip(&widths);
    let integers = integers.flat_map(|(input, &width)| std::iter::repeat_n(input.integer, width));
    let mut import = Import {
        stages: join::input(inputs),
        joins: HashMap::new(),
        budget,
        opset: graph::opset(&model),
        integers: integers.collect(),
        one_hots: OneHots::default(),
        single_row: declared.iter().any(|input| input.single_row),
        // A classifier of scikit-learn has a label output.
        regression: model.producer_name == "skl2onnx",
    };
    let mut known = HashMap::new();
    let mut start = 0;
    for (input, &width) in declared.iter().zip(&widths) {
        let columns = (start..start + width).collect::<Vec<_>>();
        start += width;
        let alone = declared.len() == 1;
        let features = Features {
            stage: 0,
            shape: input.shape.clone(),
            affine: if alone { None } else { Some(Rc::new(Affine::selection(&columns, inputs))) },
            nodes: String::new(),
            bounds: None,
        };
        known.insert(input.name, Value::Features(features));
    }
    let mut values = Values { values: known, definitions, uses };
    for index in order {
        let node = &proto.node[index];
        let lower =
            ops::find(&node.domain, &node.op_type).ok_or_else(|| Error::UnsupportedOperator {
                node: label(node),
                operator: abbreviate(&node.op_type),
                supported: supported().collect::<Vec<_>>().join(", "),
            })?;
        let inputs = node.input.iter().map(|name| values.take(name, &mut import));
        let inputs = inputs.collect::<Result<_, _>>()?;
        let outputs = lower(&mut Context { import: &mut import, node, inputs })?;
        values.values.extend(node.output.iter().map(String::as_str).zip(outputs));
    }
    let outputs =
        proto.output.iter().filter_map(|output| values.take(&output.name, &mut import).transpose());
    let outputs = outputs.collect::<Result<_, _>>()?;
    let (layers, head) = finish::finish(&mut import, outputs)?;
    let input_shape = match &declared[..] {
        [input] => input.shape.clone(),
        _ => vec![inputs],
    };
    let (name, indices) = (abbreviate(&proto.name), import.one_hots.indices());
    let network = Network { name, inputs, input_shape, layers, head, indices };
    network.validate()?;
    Ok(network)
}

/// The values that will still be read.
struct Values<'a> {
    values: HashMap<&'a str, Value>,
    definitions: HashMap<&'a str, Definition<'a>>,
    /// Number of remaining reads of each.
    uses: HashMap<&'a str, usize>,
}

impl<'a> Values<'a> {
    /// The value of a name. The last reader gets the only reference, so that it can change the value in place.
    fn take(&mut self, name: &'a str, import: &mut Import) -> Result<Option<Value>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        let uses = self.uses.entry(name).or_default();
        *uses = uses.saturating_sub(1);
        let last = *uses == 0;
        let found = match (self.values.remove(name), self.definitions.get(name)) {
            (Some(value), _) => value,
            (None, Some(Definition::Initializer(tensor))) => {
                Value::Constant(Rc::new(Tensor::decode(tensor, &mut import.budget)?))
            }
            _ => {
                let reason = format!(
                    "value `{}` is an output that its node has only in training",
                    abbreviate(name)
                );
                return Err(Error::Model { reason });
            }
        };
        if !last {
            self.values.insert(name, found.clone());
        }
        Ok(Some(found))
    }
}
