//! Models built node by node. `tests/onnx_golden.rs` checks values against onnxruntime; these tests check the resulting
//! layers, and refusals.

mod graphs;
mod limits;
mod refusals;
mod structure;

use prost::Message;

use super::proto::*;
use crate::Error;
use crate::network::Network;

const ML: &str = "ai.onnx.ml";

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        name: format!("the_{operator}"),
        op_type: operator.into(),
        ..NodeProto::default()
    }
}

impl NodeProto {
    fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }

    fn int(self, name: &str, i: i64) -> NodeProto {
        self.with(AttributeProto { name: name.into(), i, ..AttributeProto::default() })
    }

    fn ints(self, name: &str, ints: &[i64]) -> NodeProto {
        self.with(AttributeProto {
            name: name.into(),
            ints: ints.into(),
            ..AttributeProto::default()
        })
    }

    fn float(self, name: &str, f: f32) -> NodeProto {
        self.with(AttributeProto { name: name.into(), f, ..AttributeProto::default() })
    }

    fn floats(self, name: &str, floats: &[f32]) -> NodeProto {
        self.with(AttributeProto {
            name: name.into(),
            floats: floats.into(),
            ..AttributeProto::default()
        })
    }

    fn text(self, name: &str, s: &str) -> NodeProto {
        self.with(AttributeProto { name: name.into(), s: s.into(), ..AttributeProto::default() })
    }

    fn domain(mut self, domain: &str) -> NodeProto {
        self.domain = domain.into();
        self
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.into(),
        data_type: 1,
        float_data: values.into(),
        ..TensorProto::default()
    }
}

/// A tensor whose values are 1, 2, 3, …
fn counting(name: &str, dims: &[i64]) -> TensorProto {
    let values = (1..=dims.iter().product::<i64>()).map(|value| value as f32).collect::<Vec<_>>();
    tensor(name, dims, &values)
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.into(),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims.iter().map(|&dim_value| DimensionProto { dim_value }).collect();
    let tensor_type = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// A model from rows `x` of this shape to the output `y`.
fn model(shape: &[i64], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let dims = std::iter::once(None).chain(shape.iter().copied().map(Some)).collect::<Vec<_>>();
    let graph = GraphProto {
        name: "test".into(),
        node,
        initializer,
        input: vec![value_info("x", &dims)],
        output: vec![value_info("y", &[])],
    };
    ModelProto {
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..ModelProto::default()
    }
}

impl ModelProto {
    fn outputs(mut self, names: &[&str]) -> ModelProto {
        let graph = self.graph.as_mut().unwrap();
        graph.output = names.iter().map(|name| value_info(name, &[])).collect();
        self
    }

    fn import(&self) -> Result<Network, Error> {
        super::import(&self.encode_to_vec())
    }
}
