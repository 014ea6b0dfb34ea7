//! Gemm, MatMul and BatchNormalization.

use crate::Error;
use crate::network::{Affine, Matrix, Sparse};
use crate::onnx::context::Context;
use crate::onnx::tensor::{broadcast, broadcast_indices};
use crate::onnx::value::Value;

/// alpha · A·B + beta · C, where A is the features.
pub(super) fn gemm(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
    let features = cx.features(0)?;
    let weights = cx.constant(1)?;
    let addend = cx.optional_constant(2)?;
    if cx.int("transA", 0) != 0 {
        return Err(cx.error("transA would exchange rows and features"));
    }
    let (&[inputs], &[height, width], Some(weights)) =
        (features.shape.as_slice(), weights.shape.as_slice(), weights.to_floats())
    else {
        return Err(cx.error(format!(
            "expected one axis of features and a matrix, found {:?} and {:?}",
            features.shape, weights.shape
        )));
    };
    let transposed = cx.int("transB", 0) != 0;
    let (rows, cols) = if transposed { (height, width) } else { (width, height) };
    if inputs != cols {
        return Err(cx.error(format!("{inputs} features times a matrix for {cols}")));
    }
    cx.allocate(&[rows, cols])?;
    let values = if transposed { weights } else { transpose(&weights, cols, rows) };
    let values = values.into_iter().map(|value| alpha * value).collect();
    let mut bias = vec![0.0; rows];
    if let Some(addend) = addend {
        let to_row = broadcast(&addend.shape, &[1, rows]).is_some_and(|shape| shape == [1, rows]);
        let (true, Some(values)) = (to_row, addend.to_floats()) else {
            return Err(cx.error(format!("a bias of shape {:?} for {rows} outputs", addend.shape)));
        };
        let indices = broadcast_indices(&addend.shape, &[1, rows]);
        bias = indices.into_iter().map(|i| beta * values[i]).collect();
    }
    let affine = Affine { matrix: Matrix::Dense { rows, cols, values }, bias };
    Ok(vec![Value::Features(cx.then(features, affine, vec![rows])?)])
}

/// Features times a constant matrix, along the last axis.
pub(super) fn mat_mul(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    if let (Some(Some(Value::Constant(_))), Some(Some(Value::Features(_)))) =
        (cx.inputs.first(), cx.inputs.get(1))
    {
        return Err(cx.error("the constant must be on the right: features times weights"));
    }
    let features = cx.features(0)?;
    let weights = cx.constant(1)?;
    let (inner, outputs) = match *weights.shape.as_slice() {
        [inner] => (inner, None),
        [inner, outputs] => (inner, Some(outputs)),
        _ => {
            return Err(cx.error(format!(
                "expected a constant matrix, found one of shape {:?}",
                weights.shape
            )));
        }
    };
    let (Some((&last, leading)), Some(weights)) =
        (features.shape.split_last(), weights.to_floats())
    else {
        return Err(cx.error("expected rows of features and a matrix of numbers"));
    };
    if last != inner {
        return Err(cx.error(format!("{last} features times a matrix for {inner}")));
    }
    let rows = outputs.unwrap_or(1);
    let repeats = leading.iter().product::<usize>();
    let shape = leading.iter().copied().chain(outputs).collect();
    cx.allocate(&[repeats, rows, inner])?;
    let values = transpose(&weights, inner, rows);
    let matrix = if repeats == 1 {
        Matrix::Dense { rows, cols: inner, values }
    } else {
        let mut blocks = Sparse::new(repeats * inner);
        for block in 0..repeats {
            for row in values.chunks_exact(inner) {
                row.iter()
                    .enumerate()
                    .for_each(|(i, &value)| blocks.push(block * inner + i, value));
                blocks.end_row();
            }
        }
        Matrix::Sparse(blocks)
    };
    let affine = Affine { bias: vec![0.0; matrix.rows()], matrix };
    Ok(vec![Value::Features(cx.then(features, affine, shape)?)])
}

/// (x − mean) / √(variance + epsilon) · scale + offset, per channel.
pub(super) fn batch_normalization(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    if cx.int("training_mode", 0) != 0 || cx.int("spatial", 1) != 1 {
        return Err(cx.error(
            "expected inference, one mean per channel: call model.eval() before the export",
        ));
    }
    let epsilon = cx.float("epsilon", 1e-5)?;
    let features = cx.features(0)?;
    let Some((&channels, plane)) = features.shape.split_first() else {
        return Err(cx.error("expected rows of at least one axis"));
    };
    let mut parameters = Vec::new();
    for index in 1..5 {
        let values = cx.optional_floats(index)?.unwrap_or_default();
        if values.len() != channels {
            return Err(cx.error(format!(
                "input {index} has {} values for {channels} channels",
                values.len()
            )));
        }
        parameters.push(values);
    }
    let [scale, offset, mean, variance] = &parameters[..] else { unreachable!("four were pushed") };
    let plane = plane.iter().product::<usize>();
    let factor = |channel: usize| scale[channel] / (variance[channel] + epsilon).sqrt();
    let factors = (0..features.len()).map(|i| factor(i / plane)).collect::<Vec<_>>();
    let shifts = (0..features.len())
        .map(|i| offset[i / plane] - mean[i / plane] * factors[i])
        .collect::<Vec<_>>();
    if factors.iter().chain(&shifts).any(|value| !value.is_finite()) {
        return Err(cx.error("a variance is negative or zero"));
    }
    Ok(vec![Value::Features(cx.rescale(features, Some(&factors), Some(&shifts))?)])
}

/// A row-major `rows × cols` matrix, transposed.
fn transpose(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}
