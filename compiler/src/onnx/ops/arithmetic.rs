//! Add, Sub, Mul and Div with a constant on one side, or both; sums, differences and products of features.

use super::shape::BATCH;
use crate::Error;
use crate::network::{Affine, Matrix, Sparse};
use crate::onnx::context::Context;
use crate::onnx::tensor::{Data, Tensor, broadcast, broadcast_indices};
use crate::onnx::value::{Features, Value};

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

pub(super) fn add(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    binary(cx, Operation::Add)
}

pub(super) fn sub(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    binary(cx, Operation::Sub)
}

pub(super) fn mul(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    binary(cx, Operation::Mul)
}

pub(super) fn div(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    binary(cx, Operation::Div)
}

/// Adds any number of features and constants.
pub(super) fn sum(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let mut values = std::mem::take(&mut cx.inputs);
    if values.iter().any(Option::is_none) || values.is_empty() {
        return Err(cx.error("an input is missing"));
    }
    // Constants first: they fold into one.
    values.sort_by_key(|value| !matches!(value, Some(Value::Constant(_))));
    let mut values = values.into_iter();
    let mut total = values.next().flatten();
    for value in values {
        cx.inputs = vec![total, value];
        total = binary(cx, Operation::Add)?.pop();
    }
    Ok(total.into_iter().collect())
}

fn binary(cx: &mut Context<'_>, operation: Operation) -> Result<Vec<Value>, Error> {
    if cx.has("broadcast") || cx.has("axis") {
        return Err(cx.error(
            "broadcasting by attribute is from before opset 7: export with opset 13 or newer",
        ));
    }
    if let (Some(Some(Value::Constant(a))), Some(Some(Value::Constant(b)))) =
        (cx.inputs.first(), cx.inputs.get(1))
    {
        let (a, b) = (a.clone(), b.clone());
        let folded = fold(cx, operation, &a, &b)?;
        return cx.emit(folded);
    }
    let both = cx.inputs.iter().all(|input| !matches!(input, Some(Value::Constant(_))));
    if both && cx.inputs.len() == 2 {
        let (a, b) = (cx.features(0)?, cx.features(1)?);
        return match operation {
            Operation::Add => Ok(vec![Value::Features(sum_of(cx, a, b, 1.0)?)]),
            Operation::Sub => Ok(vec![Value::Features(sum_of(cx, a, b, -1.0)?)]),
            Operation::Mul => {
                let [a, b]: [_; 2] = broadcast_all(cx, vec![a, b])?
                    .try_into()
                    .map_err(|_| cx.error("two factors were expected"))?;
                Ok(vec![Value::Features(cx.product(a, b)?)])
            }
            Operation::Div => {
                Err(cx.error("the divisor depends on the model's input; it must be a constant"))
            }
        };
    }
    let constant_first = matches!(cx.inputs.first(), Some(Some(Value::Constant(_))));
    let features = cx.features(usize::from(constant_first))?;
    let constant = cx.constant(usize::from(!constant_first))?;
    if operation == Operation::Div {
        if constant_first {
            return Err(cx.error("the divisor depends on the model's input; it must be a constant"));
        }
        if matches!(constant.data, Data::Ints(_)) {
            return Err(cx.error(
                "the divisor is an integer, so the division rounds; it must be floating point",
            ));
        }
    }
    let (features, values) = broadcast_to_features(cx, features, &constant)?;
    let negated = || values.iter().map(|value| -value).collect::<Vec<_>>();
    let features = match operation {
        Operation::Add => cx.rescale(features, None, Some(&values)),
        Operation::Sub if constant_first => {
            cx.rescale(features, Some(&vec![-1.0; values.len()]), Some(&values))
        }
        Operation::Sub => cx.rescale(features, None, Some(&negated())),
        Operation::Mul => cx.rescale(features, Some(&values), None),
        Operation::Div => {
            let inverse = values.iter().map(|value| 1.0 / value).collect::<Vec<_>>();
            if inverse.iter().any(|value| !value.is_finite()) {
                return Err(cx.error("it divides by zero"));
            }
            cx.rescale(features, Some(&inverse), None)
        }
    }?;
    Ok(vec![Value::Features(features)])
}

/// a + sign · b.
fn sum_of(cx: &mut Context<'_>, a: Features, b: Features, sign: f64) -> Result<Features, Error> {
    let parts = broadcast_all(cx, vec![a, b])?;
    let (count, shape) = (parts[0].len(), parts[0].shape.clone());
    let both = cx.combine(parts)?;
    let mut matrix = Sparse::new(2 * count);
    for i in 0..count {
        matrix.push(i, 1.0);
        matrix.push(count + i, sign);
        matrix.end_row();
    }
    cx.allocate(&[count, 2])?;
    cx.then(both, Affine { matrix: Matrix::Sparse(matrix), bias: vec![0.0; count] }, shape)
}

/// Broadcasts features to their common shape.
pub(super) fn broadcast_all(
    cx: &mut Context<'_>,
    parts: Vec<Features>,
) -> Result<Vec<Features>, Error> {
    let mut shape = parts.first().map_or_else(Vec::new, |part| part.shape.clone());
    for part in &parts {
        // The batch is the first axis of all, so none may have fewer axes.
        let joint = broadcast(&shape, &part.shape).filter(|_| shape.len() == part.shape.len());
        shape = joint.ok_or_else(|| {
            cx.error(format!("rows of shapes {shape:?} and {:?} do not broadcast", part.shape))
        })?;
    }
    let broadcast = parts.into_iter().map(|part| {
        if part.shape == shape {
            return Ok(part);
        }
        cx.allocate(&shape)?;
        let indices = broadcast_indices(&part.shape, &shape);
        cx.select(part, &indices, shape.clone())
    });
    broadcast.collect()
}

/// Broadcasts both sides to their common shape. The constant must be the same for every row of the batch.
fn broadcast_to_features(
    cx: &mut Context<'_>,
    features: Features,
    constant: &Tensor,
) -> Result<(Features, Vec<f64>), Error> {
    let row = [&[1], features.shape.as_slice()].concat();
    let shape =
        broadcast(&row, &constant.shape).filter(|shape| shape.len() == row.len() && shape[0] == 1);
    let (Some(shape), Some(values)) = (shape, constant.to_floats()) else {
        return Err(cx.error(format!(
            "a constant of shape {:?} does not broadcast to rows of shape {:?}",
            constant.shape, features.shape
        )));
    };
    cx.allocate(&shape)?;
    let values = broadcast_indices(&constant.shape, &shape).iter().map(|&i| values[i]).collect();
    let features = if shape == row {
        features
    } else {
        let indices = broadcast_indices(&row, &shape);
        cx.select(features, &indices, shape[1..].to_vec())?
    };
    Ok((features, values))
}

fn fold(
    cx: &mut Context<'_>,
    operation: Operation,
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor, Error> {
    let shape = broadcast(&a.shape, &b.shape);
    let shape = shape.ok_or_else(|| {
        cx.error(format!("shapes {:?} and {:?} do not broadcast", a.shape, b.shape))
    })?;
    cx.allocate(&shape)?;
    let indices =
        broadcast_indices(&a.shape, &shape).into_iter().zip(broadcast_indices(&b.shape, &shape));
    if let (Some(a), Some(b)) = (a.as_ints(), b.as_ints()) {
        if a.contains(&BATCH) || b.contains(&BATCH) {
            return Err(cx.error("it computes with the size of the batch, which is not known"));
        }
        let values = indices.map(|(i, j)| match operation {
            Operation::Add => a[i].checked_add(b[j]),
            Operation::Sub => a[i].checked_sub(b[j]),
            Operation::Mul => a[i].checked_mul(b[j]),
            Operation::Div => a[i].checked_div(b[j]),
        });
        let values = values.collect::<Option<Vec<_>>>();
        return Ok(Tensor::ints(
            shape,
            values.ok_or_else(|| cx.error("integer overflow or division by zero"))?,
        ));
    }
    let (Some(a), Some(b)) = (a.to_floats(), b.to_floats()) else {
        return Err(cx.error("it computes with strings"));
    };
    let values = indices.map(|(i, j)| match operation {
        Operation::Add => a[i] + b[j],
        Operation::Sub => a[i] - b[j],
        Operation::Mul => a[i] * b[j],
        Operation::Div => a[i] / b[j],
    });
    let values = values.collect::<Vec<_>>();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(cx.error("the result is not finite"));
    }
    Ok(Tensor::floats(shape, values))
}
