//! Concat of constants, or of features.

use super::shape::shape_of;
use crate::Error;
use crate::onnx::context::Context;
use crate::onnx::tensor::{Data, Tensor};
use crate::onnx::value::{Features, Value};

pub(super) fn concat(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let values =
        (0..cx.inputs.len()).map(|index| cx.value(index)).collect::<Result<Vec<_>, _>>()?;
    let shapes = values.iter().map(|value| shape_of(cx, value)).collect::<Result<Vec<_>, _>>()?;
    let Some((first, batched)) = shapes.first() else {
        return Err(cx.error("it has no inputs"));
    };
    let axis = cx.axis(cx.int("axis", 1), first.len())?;
    let same = |shape: &[usize]| {
        shape.len() == first.len() && (0..first.len()).all(|a| a == axis || shape[a] == first[a])
    };
    if !shapes.iter().all(|(shape, kind)| kind == batched && same(shape)) || *batched && axis == 0 {
        return Err(cx.error("the inputs must all be constants or all be features, of the same shape except along the axis"));
    }
    let mut shape = first.clone();
    shape[axis] = shapes.iter().map(|(shape, _)| shape[axis]).sum();
    cx.allocate(&shape)?;
    // In the stack of all parts, the value at (part, outer, inner) goes to (outer, part, inner).
    let outer = first[..axis].iter().product::<usize>();
    let mut start = 0;
    let parts = shapes.iter().map(|(shape, _)| {
        let part = (start, shape[axis..].iter().product::<usize>());
        start += outer * part.1;
        part
    });
    let parts = parts.collect::<Vec<_>>();
    let order = (0..outer).flat_map(|o| {
        parts.iter().flat_map(move |&(start, len)| start + o * len..start + (o + 1) * len)
    });
    let order = order.collect::<Vec<_>>();
    if *batched {
        let features = stack(cx, values)?;
        Ok(vec![Value::Features(cx.select(features, &order, shape[1..].to_vec())?)])
    } else {
        let stacked = stack_constants(cx, values)?;
        cx.emit(stacked.select(&order, shape))
    }
}

fn stack(cx: &mut Context<'_>, values: Vec<Value>) -> Result<Features, Error> {
    let parts = values.into_iter().map(|value| match value {
        Value::Features(features) => Ok(features),
        _ => Err(cx.error("it joins probabilities or labels")),
    });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    cx.combine(parts)
}

fn stack_constants(cx: &Context<'_>, values: Vec<Value>) -> Result<Tensor, Error> {
    let mut floats = Vec::new();
    let mut ints = Vec::new();
    for value in &values {
        match value {
            Value::Constant(tensor) => match &tensor.data {
                Data::Floats(values) => floats.extend_from_slice(values),
                Data::Ints(values) => ints.extend_from_slice(values),
                Data::Strings(_) => return Err(cx.error("it joins strings")),
            },
            _ => return Err(cx.error("it joins constants with features")),
        }
    }
    match (floats.is_empty(), ints.is_empty()) {
        (true, _) => Ok(Tensor::ints(vec![ints.len()], ints)),
        (false, true) => Ok(Tensor::floats(vec![floats.len()], floats)),
        (false, false) => Err(cx.error("it joins integers with floating point")),
    }
}
