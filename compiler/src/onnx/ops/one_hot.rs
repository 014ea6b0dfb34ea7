//! Indices among the inputs: the client encrypts each as a one-hot code, so a table is a matrix applied to the code.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::Error;
use crate::domain::Index;
use crate::network::{Activation, Affine, Matrix, Sparse};
use crate::onnx::context::{Context, Import};
use crate::onnx::tensor::Tensor;
use crate::onnx::value::{Features, Value};
use hermesh_engine::MAX_WIDTH;

/// Largest offset of an index: floating point then computes indices and their limits exactly.
const MOST_OFFSET: f64 = (1u64 << 52) as f64;

/// The one-hot codes made so far.
#[derive(Default)]
pub(in crate::onnx) struct OneHots {
    width: usize,
    /// Indices, number of values, code.
    all: Vec<(Features, usize, Features)>,
    /// For each input that is an index: the smallest and the largest value that is one for all nodes that read it.
    ranges: BTreeMap<usize, (f64, f64)>,
}

impl OneHots {
    /// The inputs that are indices.
    pub(in crate::onnx) fn indices(&self) -> Vec<Index> {
        let index = |(&feature, &(low, high)): (&usize, &(f64, f64))| Index {
            feature: feature as u32,
            low,
            high,
        };
        self.ranges.iter().map(index).collect()
    }
}

impl Import {
    /// Whether features are whole numbers for all integer inputs of the model. Only such features can be indices.
    pub(in crate::onnx) fn is_integer(&mut self, features: &Features) -> Result<bool, Error> {
        let entries = features.affine.as_ref().map_or(0, |affine| affine.matrix.entries());
        self.budget.work((features.len() + entries) as u64)?;
        let whole = |value: f64| value.fract() == 0.0;
        let integer = features.stage == 0
            && match &features.affine {
                None => self.integers.iter().all(Option::is_some),
                Some(affine) => {
                    let mut entries = (0..affine.rows()).flat_map(|r| affine.matrix.row(r));
                    affine.bias.iter().all(|&bias| whole(bias))
                        && entries.all(|(c, w)| w == 0.0 || whole(w) && self.integers[c].is_some())
                }
            };
        Ok(integer)
    }
}

/// Rows of a constant table at encrypted indices. Rows of features with an index outside the table, or a negative one,
/// which ONNX counts from the end, are refused ([`Index`]).
pub(super) fn gather(
    cx: &mut Context<'_>,
    table: Rc<Tensor>,
    index: Features,
) -> Result<Vec<Value>, Error> {
    let axis = cx.axis(cx.int("axis", 0), table.shape.len())?;
    let (Some((&depth, rest)), 0, Some(values)) =
        (table.shape.split_first(), axis, table.to_floats())
    else {
        return Err(cx.error("an index from the input needs a table of numbers, and axis 0"));
    };
    let (count, shape) = (index.len(), [&index.shape, rest].concat());
    let code = one_hot(cx, index.clone(), depth)?;
    limit(cx, &index, (depth - 1) as f64)?;
    let size = rest.iter().product::<usize>();
    cx.allocate(&[count, depth, size])?;
    let mut matrix = Sparse::new(count * depth);
    for i in 0..count {
        for column in 0..size {
            let rows = (0..depth).map(|row| (i * depth + row, values[row * size + column]));
            rows.for_each(|(place, value)| matrix.push(place, value));
            matrix.end_row();
        }
    }
    let affine = Affine { bias: vec![0.0; count * size], matrix: Matrix::Sparse(matrix) };
    Ok(vec![Value::Features(cx.then(code, affine, shape)?)])
}

/// The operator OneHot, along a new last axis. An index of `depth` or more gives a code without a one; negative ones,
/// which ONNX counts from the end, are refused.
pub(super) fn operator(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let index = cx.features(0)?;
    let depth = cx.optional_scalar(1)?.unwrap_or(0.0);
    let values = cx.optional_floats(2)?.unwrap_or_default();
    let rank = index.shape.len() as i64 + 1;
    if !matches!(cx.int("axis", -1), axis if axis == -1 || axis == rank) {
        return Err(cx.error("expected axis -1"));
    }
    let (&[off, on], true) = (values.as_slice(), depth >= 1.0 && depth <= MAX_WIDTH as f64) else {
        return Err(cx.error(format!("expected a depth of 1 to {MAX_WIDTH}, and two values")));
    };
    let code = one_hot(cx, index.clone(), depth as usize)?;
    limit(cx, &index, f64::INFINITY)?;
    let (scale, shift) = (vec![on - off; code.len()], vec![off; code.len()]);
    Ok(vec![Value::Features(cx.rescale(code, Some(&scale), Some(&shift))?)])
}

/// The one-hot code of each index: `depth` values, 1 at the index, else 0.
fn one_hot(cx: &mut Context<'_>, index: Features, depth: usize) -> Result<Features, Error> {
    if !cx.import.is_integer(&index)? || !cx.is_unary(&index)? {
        return Err(cx.error(
            "an index must be one of the model's integer inputs: the client encrypts it as a one-hot code",
        ));
    }
    if let Some((.., code)) =
        cx.import.one_hots.all.iter().find(|(known, d, _)| *d == depth && known.same(&index))
    {
        let shape = [index.shape.as_slice(), &[depth]].concat();
        let code = code.clone();
        return Ok(cx.reshape(code, shape));
    }
    let width = index.len().checked_mul(depth);
    let total = width.and_then(|width| width.checked_add(cx.import.one_hots.width));
    let Some(total) = total.filter(|&total| total <= MAX_WIDTH) else {
        return Err(cx.error(format!(
            "{} indices of {depth} values each, as one-hot codes, are with those of other nodes more than the \
             {MAX_WIDTH} values that can be encrypted",
            index.len()
        )));
    };
    cx.import.one_hots.width = total;
    let count = index.len();
    cx.allocate(&[count, depth, 2])?;
    let differences = Affine {
        matrix: Matrix::Sparse(Sparse::one_per_row(
            count,
            (0..count * depth).map(|row| (row / depth, 1.0)),
        )),
        bias: (0..count * depth).map(|row| -((row % depth) as f64)).collect(),
    };
    let shape = [index.shape.as_slice(), &[depth]].concat();
    let differences = cx.then(index.clone(), differences, shape)?;
    let code = cx.activate(differences, Activation::Equal)?;
    cx.import.one_hots.all.push((index, depth, code.clone()));
    Ok(code)
}

/// Limits the inputs that are indices to those values that give an index from 0 to `most`.
fn limit(cx: &mut Context<'_>, index: &Features, most: f64) -> Result<(), Error> {
    for i in 0..index.len() {
        let (term, offset) = match &index.affine {
            None => (Some((i, 1.0)), 0.0),
            Some(affine) => {
                (affine.matrix.row(i).find(|(_, weight)| *weight != 0.0), affine.bias[i])
            }
        };
        let Some((input, factor)) = term else {
            return Err(cx.error("an index does not depend on the input"));
        };
        let (least_value, most_value) = cx.import.integers[input].unwrap_or_default();
        if (factor, offset) != (1.0, 0.0) && most_value < f64::from(i32::MAX) {
            return Err(cx.error(
                "integers of 8 or 16 bits wrap around before they are an index: expected the input itself, or \
                 integers of 32 or 64 bits",
            ));
        }
        if offset.abs() > MOST_OFFSET {
            return Err(cx.error(format!("an index less {offset} is not computed exactly")));
        }
        let ends = [-offset / factor, (most - offset) / factor];
        // Adding zero makes a negative one positive, for people.
        let (low, high) = (ends[0].min(ends[1]).ceil() + 0.0, ends[0].max(ends[1]).floor() + 0.0);
        let known = cx.import.one_hots.ranges.entry(input).or_insert((least_value, most_value));
        *known = (known.0.max(low), known.1.min(high));
        if known.0 > known.1 {
            return Err(cx.error(format!("no value of feature {input} is an index for all nodes")));
        }
    }
    Ok(())
}
