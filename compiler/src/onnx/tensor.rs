//! Constant tensors and the index arithmetic of ONNX shapes.

use super::budget::Budget;
use super::proto::TensorProto;
use crate::Error;

/// A constant of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Floats(Vec<f64>),
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Tensor {
    pub(super) fn floats(shape: Vec<usize>, values: Vec<f64>) -> Tensor {
        Tensor { shape, data: Data::Floats(values) }
    }

    pub(super) fn ints(shape: Vec<usize>, values: Vec<i64>) -> Tensor {
        Tensor { shape, data: Data::Ints(values) }
    }

    /// Decodes a tensor of the file. Memory grows with its data, not with its declared shape.
    pub(super) fn decode(proto: &TensorProto, budget: &mut Budget) -> Result<Tensor, Error> {
        let invalid = |reason: String| Error::Tensor { tensor: abbreviate(&proto.name), reason };
        if proto.data_location != 0 {
            return Err(invalid(
                "its data is in another file: export the model as one file".into(),
            ));
        }
        let sizes =
            proto.dims.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        let shape =
            sizes.ok_or_else(|| invalid(format!("it has a negative size: {:?}", proto.dims)))?;
        let count = budget.allocate(&shape)?;
        let data = match proto.data_type {
            1 => Data::Floats(match raw::<4>(proto) {
                Some(raw) => raw.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect(),
                None => proto.float_data.iter().map(|&value| value.into()).collect(),
            }),
            11 => Data::Floats(match raw::<8>(proto) {
                Some(raw) => raw.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
                None => proto.double_data.clone(),
            }),
            7 => Data::Ints(match raw::<8>(proto) {
                Some(raw) => raw.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect(),
                None => proto.int64_data.clone(),
            }),
            6 => Data::Ints(match raw::<4>(proto) {
                Some(raw) => raw.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect(),
                None => proto.int32_data.iter().map(|&value| value.into()).collect(),
            }),
            9 => Data::Ints(match raw::<1>(proto) {
                Some(raw) => raw.iter().map(|&[byte]| byte.into()).collect(),
                None => proto.int32_data.iter().map(|&value| value.into()).collect(),
            }),
            8 => Data::Strings(
                proto
                    .string_data
                    .iter()
                    .map(|text| String::from_utf8_lossy(text).into_owned())
                    .collect(),
            ),
            other => {
                return Err(invalid(format!(
                    "its element type is {other}; supported: float (1), int32 (6), int64 (7), string (8), bool (9), \
                     double (11)"
                )));
            }
        };
        let tensor = Tensor { shape, data };
        if tensor.len() != count {
            let found = tensor.len();
            return Err(invalid(format!(
                "its shape {:?} needs {count} values, its data has {found}",
                tensor.shape
            )));
        }
        // An empty shape tensor means a scalar. Other empty tensors have no use here.
        if count == 0 && tensor.shape.len() != 1 {
            return Err(invalid(format!("it is empty: its shape is {:?}", tensor.shape)));
        }
        match &tensor.data {
            Data::Floats(values) if values.iter().any(|value| !value.is_finite()) => {
                Err(Error::NotFinite { what: format!("tensor `{}`", abbreviate(&proto.name)) })
            }
            _ => Ok(tensor),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Floats(values) => values.len(),
            Data::Ints(values) => values.len(),
            Data::Strings(values) => values.len(),
        }
    }

    /// The values as floating point, unless they are strings.
    pub(super) fn to_floats(&self) -> Option<Vec<f64>> {
        match &self.data {
            Data::Floats(values) => Some(values.clone()),
            Data::Ints(values) => Some(values.iter().map(|&value| value as f64).collect()),
            Data::Strings(_) => None,
        }
    }

    pub(super) fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// The values at `indices`, in a new shape.
    pub(super) fn select(&self, indices: &[usize], shape: Vec<usize>) -> Tensor {
        let data = match &self.data {
            Data::Floats(values) => Data::Floats(indices.iter().map(|&i| values[i]).collect()),
            Data::Ints(values) => Data::Ints(indices.iter().map(|&i| values[i]).collect()),
            Data::Strings(values) => {
                Data::Strings(indices.iter().map(|&i| values[i].clone()).collect())
            }
        };
        Tensor { shape, data }
    }
}

/// The raw bytes in elements of `SIZE`. `None` if the tensor has none, or they are not whole elements.
fn raw<const SIZE: usize>(proto: &TensorProto) -> Option<&[[u8; SIZE]]> {
    let (elements, rest) = proto.raw_data.as_chunks();
    (!proto.raw_data.is_empty()).then_some(if rest.is_empty() { elements } else { &[] })
}

/// A name from the file, shortened for a message.
pub(super) fn abbreviate(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into(),
    }
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    let axis = |axis| match (size(a, axis), size(b, axis)) {
        (x, y) if x == y => Some(x),
        (1, x) | (x, 1) => Some(x),
        _ => None,
    };
    (0..rank).map(axis).collect()
}

/// For each element of shape `to`, the element of shape `from` that broadcasting puts there.
pub(super) fn broadcast_indices(from: &[usize], to: &[usize]) -> Vec<usize> {
    let offset = to.len() - from.len();
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for (axis, &size) in from.iter().enumerate().rev() {
        strides[offset + axis] = if size == 1 { 0 } else { stride };
        stride *= size;
    }
    strided(to, &strides)
}

/// For each element of the transposed tensor, its index in one of `shape`.
pub(super) fn transpose_indices(shape: &[usize], permutation: &[usize]) -> Vec<usize> {
    let strides = row_major(shape);
    let to = permutation.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
    strided(&to, &permutation.iter().map(|&axis| strides[axis]).collect::<Vec<_>>())
}

/// For each element of a tensor that keeps `picks` along `axis`, its index in one of `shape`.
pub(super) fn pick_indices(shape: &[usize], axis: usize, picks: &[usize]) -> Vec<usize> {
    let inner = shape[axis + 1..].iter().product::<usize>();
    let outer = shape[..axis].iter().product::<usize>();
    let row = |o: usize, pick: usize| (0..inner).map(move |i| (o * shape[axis] + pick) * inner + i);
    (0..outer).flat_map(|o| picks.iter().flat_map(move |&pick| row(o, pick))).collect()
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Index sums over all positions of `shape`, last axis fastest.
fn strided(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut indices = vec![0];
    for (&size, &stride) in shape.iter().zip(strides) {
        indices =
            indices.iter().flat_map(|&index| (0..size).map(move |i| index + i * stride)).collect();
    }
    indices
}
