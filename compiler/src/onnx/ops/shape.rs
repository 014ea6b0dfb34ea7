//! Operators that move values without computing. On features they relabel axes or select values; on constants they
//! fold.

use std::rc::Rc;

use crate::Error;
use crate::onnx::context::Context;
use crate::onnx::tensor::{Data, Tensor, pick_indices, transpose_indices};
use crate::onnx::value::{Scores, Value};

/// Represents the size of a dynamic batch axis in the result of `Shape`.
pub(super) const BATCH: i64 = i64::MIN;

/// ONNX's numbers for floating-point element types: float, float16, double, bfloat16.
const FLOATING: [i64; 4] = [1, 10, 11, 16];

/// ONNX's numbers for int32 and int64.
const INTEGERS: [i64; 2] = [6, 7];

pub(super) fn constant(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let tensor = if let Some(tensor) = cx.tensor("value")? {
        tensor
    } else if cx.has("value_float") {
        Tensor::floats(vec![], vec![cx.float("value_float", 0.0)?])
    } else if cx.has("value_floats") {
        let values = cx.floats("value_floats")?;
        Tensor::floats(vec![values.len()], values)
    } else if cx.has("value_int") {
        Tensor::ints(vec![], vec![cx.int("value_int", 0)])
    } else if let Some(values) = cx.ints("value_ints") {
        Tensor::ints(vec![values.len()], values.to_vec())
    } else {
        return Err(
            cx.error("expected one of value, value_float, value_floats, value_int, value_ints")
        );
    };
    cx.emit(tensor)
}

pub(super) fn cast(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let to = cx.int("to", 0);
    let floating = FLOATING.contains(&to);
    match cx.value(0)? {
        Value::Constant(tensor) => {
            let Tensor { shape, data } = Rc::unwrap_or_clone(tensor);
            let data = match data {
                Data::Floats(values) if !floating => {
                    Data::Ints(values.iter().map(|&value| value as i64).collect())
                }
                Data::Ints(values) if floating => {
                    Data::Floats(values.iter().map(|&value| value as f64).collect())
                }
                same => same,
            };
            cx.emit(Tensor { shape, data })
        }
        value @ Value::Choice(_) => Ok(vec![value]),
        value if floating => Ok(vec![value]),
        Value::Features(features)
            if INTEGERS.contains(&to) && cx.import.is_integer(&features)? =>
        {
            Ok(vec![Value::Features(features)])
        }
        _ => Err(cx.error(format!(
            "a cast to element type {to} rounds, only casts to floating point are supported"
        ))),
    }
}

pub(super) fn reshape(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let attribute = cx.ints("shape").map(<[i64]>::to_vec);
    let target =
        cx.optional_ints(1)?.or(attribute).ok_or_else(|| cx.error("it has no target shape"))?;
    let copy_zeros = cx.int("allowzero", 0) == 0;
    match value {
        Value::Constant(tensor) => {
            let shape = resolve(cx, &target, &tensor.shape, tensor.len(), copy_zeros)?;
            cx.emit(Tensor { shape, ..Rc::unwrap_or_clone(tensor) })
        }
        Value::Features(features) => {
            let keeps_batch = match target.first() {
                Some(&BATCH) | Some(&-1) => true,
                Some(0) => copy_zeros,
                Some(1) => cx.import.single_row,
                _ => false,
            };
            if !keeps_batch {
                return Err(cx.error(format!(
                    "the target {target:?} does not keep the batch as its first axis"
                )));
            }
            let mut whole = target;
            whole[0] = 1;
            let row = [&[1], features.shape.as_slice()].concat();
            let shape = resolve(cx, &whole, &row, features.len(), copy_zeros)?;
            Ok(vec![Value::Features(cx.reshape(features, shape[1..].to_vec()))])
        }
        value => Ok(vec![value]),
    }
}

/// The target of a reshape, with its 0 (copy the size) and −1 (the remaining size) filled in.
fn resolve(
    cx: &Context<'_>,
    target: &[i64],
    from: &[usize],
    count: usize,
    copy_zeros: bool,
) -> Result<Vec<usize>, Error> {
    let mismatch = || cx.error(format!("cannot reshape {from:?} to {target:?}"));
    let size = |(axis, &size): (usize, &i64)| match size {
        -1 => Some(1),
        0 if copy_zeros => from.get(axis).copied(),
        size => usize::try_from(size).ok(),
    };
    let mut shape =
        target.iter().enumerate().map(size).collect::<Option<Vec<_>>>().ok_or_else(mismatch)?;
    let known = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .ok_or_else(mismatch)?;
    let mut inferred =
        target.iter().enumerate().filter(|(_, size)| **size == -1).map(|(axis, _)| axis);
    if let Some(axis) = inferred.next() {
        shape[axis] = count.checked_div(known).ok_or_else(mismatch)?;
    }
    let total = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if inferred.next().is_some() || total != Some(count) { Err(mismatch()) } else { Ok(shape) }
}

pub(super) fn flatten(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let axis = cx.int("axis", 1);
    match cx.value(0)? {
        Value::Constant(tensor) => {
            let axis = if axis == tensor.shape.len() as i64 {
                tensor.shape.len()
            } else {
                cx.axis(axis, tensor.shape.len())?
            };
            let (before, after) = tensor.shape.split_at(axis);
            let shape = vec![before.iter().product(), after.iter().product()];
            cx.emit(Tensor { shape, ..Rc::unwrap_or_clone(tensor) })
        }
        Value::Features(features) => {
            let rank = features.shape.len() + 1;
            let axis = if axis == rank as i64 { rank } else { cx.axis(axis, rank)? };
            let merged = features.shape[..axis.saturating_sub(1)].iter().product::<usize>();
            if merged != 1 || axis == 0 && !cx.import.single_row {
                return Err(cx.error(format!(
                    "axis {axis} merges the batch with features; expected axis 1"
                )));
            }
            let shape = vec![features.len()];
            Ok(vec![Value::Features(cx.reshape(features, shape))])
        }
        value => Ok(vec![value]),
    }
}

/// The axes are an attribute before opset 13, an input since.
fn given_axes(cx: &mut Context<'_>) -> Result<Option<Vec<i64>>, Error> {
    let attribute = cx.ints("axes").map(<[i64]>::to_vec);
    Ok(cx.optional_ints(1)?.or(attribute))
}

pub(super) fn squeeze(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let axes = given_axes(cx)?;
    relabel(cx, value, |cx, shape, batched| {
        let mut keep = vec![true; shape.len()];
        match &axes {
            Some(axes) => {
                for &axis in axes {
                    keep[cx.axis(axis, shape.len())?] = false;
                }
            }
            None if batched && cx.import.single_row => {
                return Err(cx.error("it has no axes and would remove the batch"));
            }
            None => {
                keep = shape
                    .iter()
                    .enumerate()
                    .map(|(axis, &size)| size != 1 || batched && axis == 0)
                    .collect()
            }
        }
        if shape.iter().zip(&keep).any(|(&size, &keep)| !keep && size != 1) || batched && !keep[0] {
            return Err(cx.error(format!(
                "axes {axes:?} of {shape:?} are not all of size 1 (the first is the batch)"
            )));
        }
        Ok(shape.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(&size, _)| size).collect())
    })
}

pub(super) fn unsqueeze(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let axes = given_axes(cx)?.ok_or_else(|| cx.error("it has no axes"))?;
    relabel(cx, value, |cx, shape, batched| {
        let rank = shape.len() + axes.len();
        let mut new = vec![false; rank];
        for &axis in &axes {
            new[cx.axis(axis, rank)?] = true;
        }
        if new.iter().filter(|new| **new).count() != axes.len() || batched && new[0] {
            return Err(cx.error(format!("axes {axes:?} repeat or precede the batch")));
        }
        let mut old = shape.iter().copied();
        Ok(new.iter().map(|&new| if new { 1 } else { old.next().unwrap_or(1) }).collect())
    })
}

/// Applies a change of shape. Features have the batch as a first axis of size 1.
fn relabel(
    cx: &mut Context<'_>,
    value: Value,
    change: impl Fn(&Context<'_>, &[usize], bool) -> Result<Vec<usize>, Error>,
) -> Result<Vec<Value>, Error> {
    match value {
        Value::Constant(tensor) => {
            let shape = change(cx, &tensor.shape, false)?;
            cx.emit(Tensor { shape, ..Rc::unwrap_or_clone(tensor) })
        }
        Value::Features(features) => {
            let row = [&[1], features.shape.as_slice()].concat();
            let shape = change(cx, &row, true)?;
            Ok(vec![Value::Features(cx.reshape(features, shape[1..].to_vec()))])
        }
        value => Ok(vec![value]),
    }
}

pub(super) fn transpose(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let (shape, batched) = shape_of(cx, &value)?;
    let permutation = match cx.ints("perm") {
        Some(axes) => {
            axes.iter().map(|&axis| cx.axis(axis, shape.len())).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..shape.len()).rev().collect(),
    };
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len()) || batched && permutation[0] != 0 {
        return Err(
            cx.error(format!("{permutation:?} is not a permutation that keeps the batch first"))
        );
    }
    let to = permutation.iter().map(|&axis| shape[axis]).collect();
    let indices = transpose_indices(&shape, &permutation);
    pick(cx, value, &indices, to)
}

/// The shape of a value. Features have the batch as a first axis of size 1.
pub(super) fn shape_of(cx: &Context<'_>, value: &Value) -> Result<(Vec<usize>, bool), Error> {
    match value {
        Value::Constant(tensor) => Ok((tensor.shape.clone(), false)),
        Value::Features(features) => Ok(([&[1], features.shape.as_slice()].concat(), true)),
        Value::Scores(scores) => Ok((vec![1, scores.features.len()], true)),
        Value::Choice(_) => {
            Err(cx.error("after the choice of a class, only names of classes are supported"))
        }
    }
}

/// The values at `indices`, in a new shape (with the batch as a first axis of size 1, unless it is a constant).
fn pick(
    cx: &mut Context<'_>,
    value: Value,
    indices: &[usize],
    shape: Vec<usize>,
) -> Result<Vec<Value>, Error> {
    match value {
        Value::Constant(tensor) => {
            cx.allocate(&shape)?;
            cx.emit(tensor.select(indices, shape))
        }
        Value::Features(features) => {
            Ok(vec![Value::Features(cx.select(features, indices, shape[1..].to_vec())?)])
        }
        Value::Scores(scores) if scores.columns.is_none() => {
            Ok(vec![Value::Scores(Scores { columns: Some(indices.to_vec()), ..scores })])
        }
        Value::Scores(_) | Value::Choice(_) => {
            Err(cx.error("it selects from scores that were already selected"))
        }
    }
}

pub(super) fn slice(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let mut value = cx.value(0)?;
    let attribute = |cx: &Context<'_>, name| cx.ints(name).map(<[i64]>::to_vec);
    let starts = cx.optional_ints(1)?.or_else(|| attribute(cx, "starts")).unwrap_or_default();
    let ends = cx.optional_ints(2)?.or_else(|| attribute(cx, "ends")).unwrap_or_default();
    let axes = cx.optional_ints(3)?.or_else(|| attribute(cx, "axes"));
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.optional_ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(cx.error("starts, ends, axes and steps differ in length"));
    }
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let (mut shape, batched) = shape_of(cx, &value)?;
        let axis = cx.axis(axis, shape.len())?;
        if batched && axis == 0 {
            return Err(cx.error("it slices the batch"));
        }
        let size = shape[axis] as i64;
        let absolute = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
        let picks = if step > 0 {
            let (start, end) = (absolute(start).clamp(0, size), absolute(end).clamp(0, size));
            (start..end).step_by(step as usize).map(|index| index as usize).collect::<Vec<_>>()
        } else {
            return Err(cx.error(format!("a step of {step}; expected 1 or more")));
        };
        let indices = pick_indices(&shape, axis, &picks);
        shape[axis] = picks.len();
        value = pick(cx, value, &indices, shape)?.remove(0);
    }
    Ok(vec![value])
}

pub(super) fn gather(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let indices = match cx.value(1)? {
        Value::Constant(indices) => indices,
        Value::Choice(choice) => return super::sklearn::name_choice(cx, value, choice),
        Value::Features(index) if let Value::Constant(table) = &value => {
            return super::one_hot::gather(cx, table.clone(), index);
        }
        _ => return Err(cx.error("the indices depend on the model's input; they must be constant")),
    };
    let (shape, batched) = shape_of(cx, &value)?;
    let axis = cx.axis(cx.int("axis", 0), shape.len())?;
    if batched && axis == 0 {
        return Err(cx.error("it gathers from the batch"));
    }
    let picks = indices.as_ints().ok_or_else(|| cx.error("the indices must be integers"))?;
    let picks =
        picks.iter().map(|&index| cx.axis(index, shape[axis])).collect::<Result<Vec<_>, _>>()?;
    cx.import.budget.allocate(&[
        shape[..axis].iter().product(),
        picks.len(),
        shape[axis + 1..].iter().product(),
    ])?;
    let to = [&shape[..axis], &indices.shape, &shape[axis + 1..]].concat();
    pick(cx, value, &pick_indices(&shape, axis, &picks), to)
}

/// The shape of a value as a constant; a dynamic batch is [`BATCH`].
pub(super) fn shape(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    let (shape, batched) = shape_of(cx, &value)?;
    let mut sizes = shape.iter().map(|&size| size as i64).collect::<Vec<_>>();
    if batched && !cx.import.single_row {
        sizes[0] = BATCH;
    }
    let rank = sizes.len() as i64;
    let limit = |index: i64| {
        (if index < 0 { index.saturating_add(rank) } else { index }).clamp(0, rank) as usize
    };
    let (start, end) = (limit(cx.int("start", 0)), limit(cx.int("end", rank)));
    let sizes = sizes.get(start..end).unwrap_or_default().to_vec();
    cx.emit(Tensor::ints(vec![sizes.len()], sizes))
}
