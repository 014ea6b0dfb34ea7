//! Mutation of ONNX files field by field, with the importer's definition of the messages.

use prost::Message;

#[expect(dead_code, reason = "the module is the importer's; only part of it is used here")]
#[path = "../../compiler/src/onnx/proto.rs"]
mod messages;

use messages::{AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Boundary values for sizes, axes and counts.
const INTEGERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    3,
    -2,
    7,
    255,
    1 << 16,
    1 << 31,
    -(1 << 31),
    (1 << 32) + 1,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];
const FLOATS: [f32; 8] =
    [0.0, -0.0, 1.0, -1.0, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN];

/// The model with one to four fields changed; `None` if the file is not a model.
pub fn mutate(file: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(file).ok()?;
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    for _ in 0..=dice.below(4) {
        if dice.below(12) == 0 {
            let opset = dice.below(model.opset_import.len());
            model.opset_import.get_mut(opset)?.version = dice.integer();
        } else {
            change(model.graph.as_mut()?, &mut dice);
        }
    }
    Some(model.encode_to_vec())
}

/// Makes one change somewhere in the graph; does nothing if the chosen field is absent.
fn change(graph: &mut GraphProto, dice: &mut Dice) {
    let names = names(graph);
    match dice.below(12) {
        0 => dice.rearrange(&mut graph.node),
        1 => dice.rearrange(&mut graph.initializer),
        2 => dice.rearrange(&mut graph.output),
        3 => {
            let shape = dice
                .pick(&mut graph.input)
                .and_then(|input| input.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut());
            if let Some(shape) = shape {
                dimensions(&mut shape.dim, dice);
            }
        }
        4..=6 => {
            if let Some(tensor) = dice.pick(&mut graph.initializer) {
                change_tensor(tensor, dice);
            }
        }
        _ => {
            // Taken from another node, which may have another operator.
            let other = dice.pick(&mut graph.node).cloned();
            if let Some((node, other)) = dice.pick(&mut graph.node).zip(other) {
                change_node(node, &other, &names, dice);
            }
        }
    }
}

fn names(graph: &GraphProto) -> Vec<String> {
    let of_nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
    let of_tensors = graph.initializer.iter().map(|tensor| &tensor.name);
    of_nodes.chain(of_tensors).cloned().chain([String::new()]).collect()
}

fn dimensions(all: &mut Vec<DimensionProto>, dice: &mut Dice) {
    if dice.below(3) == 0 {
        dice.rearrange(all);
    } else if let Some(dimension) = dice.pick(all) {
        dimension.dim_value = (dice.below(4) > 0).then(|| dice.integer());
    }
}

fn change_tensor(tensor: &mut TensorProto, dice: &mut Dice) {
    match dice.below(6) {
        0 => dice.rearrange(&mut tensor.dims),
        1 | 2 => dice.replace(&mut tensor.dims, Dice::integer),
        3 => tensor.data_type = dice.below(17) as i32,
        4 => {
            let length = dice.below(tensor.raw_data.len() + 9);
            tensor.raw_data.resize(length, 0x7f);
        }
        _ => {
            // Four or eight bytes: a whole number of the tensor, or parts of two.
            let value = dice.float().to_le_bytes();
            let start = dice.below(tensor.raw_data.len() / 4) * 4;
            if let Some(place) = tensor.raw_data.get_mut(start..start + 4) {
                place.copy_from_slice(&value);
            }
        }
    }
}

fn change_node(node: &mut NodeProto, other: &NodeProto, names: &[String], dice: &mut Dice) {
    let name = |dice: &mut Dice| names[dice.below(names.len())].clone();
    match dice.below(8) {
        0 => dice.replace(&mut node.input, name),
        1 => dice.rearrange(&mut node.input),
        2 => dice.replace(&mut node.output, name),
        3 => {
            node.op_type.clone_from(&other.op_type);
            node.domain.clone_from(&other.domain);
        }
        4 => dice.rearrange(&mut node.attribute),
        5 => node.attribute.extend(other.attribute.iter().cloned()),
        _ => {
            if let Some(attribute) = dice.pick(&mut node.attribute) {
                change_attribute(attribute, dice);
            }
        }
    }
}

fn change_attribute(attribute: &mut AttributeProto, dice: &mut Dice) {
    match dice.below(7) {
        0 => attribute.i = dice.integer(),
        1 => attribute.f = dice.float(),
        2 => dice.rearrange(&mut attribute.ints),
        3 => dice.replace(&mut attribute.ints, Dice::integer),
        4 => dice.replace(&mut attribute.floats, Dice::float),
        5 => dice.rearrange(&mut attribute.floats),
        _ => match &mut attribute.t {
            Some(tensor) => change_tensor(tensor, dice),
            None => dice.rearrange(&mut attribute.strings),
        },
    }
}

/// Random numbers derived from libFuzzer's seed alone: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    fn integer(&mut self) -> i64 {
        match self.below(3) {
            0 => self.below(12) as i64,
            _ => INTEGERS[self.below(INTEGERS.len())],
        }
    }

    fn float(&mut self) -> f32 {
        FLOATS[self.below(FLOATS.len())]
    }

    fn pick<'a, T>(&mut self, all: &'a mut [T]) -> Option<&'a mut T> {
        let index = self.below(all.len());
        all.get_mut(index)
    }

    fn replace<T>(&mut self, all: &mut [T], by: impl Fn(&mut Self) -> T) {
        let value = by(self);
        if let Some(place) = self.pick(all) {
            *place = value;
        }
    }

    /// Removes an element, repeats it, or swaps it with another.
    fn rearrange<T: Clone>(&mut self, all: &mut Vec<T>) {
        if all.is_empty() {
            return;
        }
        let (from, to) = (self.below(all.len()), self.below(all.len()));
        match self.below(3) {
            0 => drop(all.remove(from)),
            1 => all.insert(to, all[from].clone()),
            _ => all.swap(from, to),
        }
    }
}
