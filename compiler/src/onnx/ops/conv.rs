//! Convolution and average pooling in two dimensions, as sparse matrices.

use crate::Error;
use crate::network::{Affine, Matrix, Sparse};
use crate::onnx::context::Context;
use crate::onnx::value::{Features, Value};

/// Maximum size, stride, dilation or padding; it keeps the arithmetic below far from overflow.
const MAX_ATTRIBUTE: usize = 1 << 20;

/// The positions of a kernel along one axis.
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

impl Axis {
    /// The positions in the input that the kernel covers at output `o`: (position in the kernel, in the input).
    pub(super) fn taps(&self, o: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let covered = (0..self.kernel).map(move |k| (k, o * self.stride + k * self.dilation));
        covered
            .filter_map(|(k, i)| Some((k, i.checked_sub(self.before)?)))
            .filter(|&(_, i)| i < self.input)
    }

    /// Number of positions of input and padding that the kernel covers at output `o`.
    fn padded_taps(&self, o: usize) -> usize {
        let end = self.before + self.input + self.after;
        (0..self.kernel).filter(|k| o * self.stride + k * self.dilation < end).count()
    }
}

/// Both axes of a convolution or a pool over features of shape (channels, height, width).
fn axes(cx: &Context<'_>, features: &Features, kernel: &[usize]) -> Result<[Axis; 2], Error> {
    let (&[_, height, width], &[kernel_height, kernel_width]) = (features.shape.as_slice(), kernel)
    else {
        return Err(cx.error(format!(
            "expected 2-D images (channels, height, width) and a 2-D kernel, found rows of shape {:?} and a kernel of \
             shape {kernel:?}",
            features.shape
        )));
    };
    let strides = sizes(cx, "strides", [1, 1], 1)?;
    let dilations = sizes(cx, "dilations", [1, 1], 1)?;
    let pads = sizes(cx, "pads", [0, 0, 0, 0], 0)?;
    let axis = |a: usize, input: usize, kernel: usize| {
        if !(1..=MAX_ATTRIBUTE).contains(&kernel) || input > MAX_ATTRIBUTE {
            return Err(
                cx.error(format!("a kernel of size {kernel} over {input} values is out of range"))
            );
        }
        let (stride, dilation) = (strides[a], dilations[a]);
        let extent = (kernel - 1) * dilation + 1;
        let same = (input.div_ceil(stride) - 1) * stride + extent;
        let same = same.saturating_sub(input);
        let (before, after) = match cx.text("auto_pad", "NOTSET").as_str() {
            "NOTSET" => (pads[a], pads[a + 2]),
            "VALID" => (0, 0),
            "SAME_UPPER" => (same / 2, same - same / 2),
            "SAME_LOWER" => (same - same / 2, same / 2),
            other => return Err(cx.error(format!("auto_pad {other} is not one of ONNX's"))),
        };
        let Some(room) = (input + before + after).checked_sub(extent) else {
            return Err(
                cx.error(format!("a kernel that spans {extent} does not fit into {input} values"))
            );
        };
        let mut output = room / stride + 1;
        // Rounding up must not add a position that begins in the padding after the input.
        if cx.int("ceil_mode", 0) != 0 && room % stride != 0 && output * stride < input + before {
            output += 1;
        }
        Ok(Axis { input, output, kernel, stride, dilation, before, after })
    };
    Ok([axis(0, height, kernel_height)?, axis(1, width, kernel_width)?])
}

/// Both axes of a pool.
pub(super) fn pool_axes(cx: &Context<'_>, features: &Features) -> Result<[Axis; 2], Error> {
    let kernel = sizes(cx, "kernel_shape", [0, 0], 1)?;
    axes(cx, features, &kernel)
}

/// An attribute of `N` sizes from `min` up.
fn sizes<const N: usize>(
    cx: &Context<'_>,
    name: &str,
    default: [usize; N],
    min: usize,
) -> Result<[usize; N], Error> {
    let Some(values) = cx.ints(name).filter(|values| !values.is_empty()) else {
        return Ok(default);
    };
    let sizes = values.iter().map(|&value| usize::try_from(value).ok());
    let sizes = sizes
        .map(|size| size.filter(|size| (min..=MAX_ATTRIBUTE).contains(size)))
        .collect::<Option<Vec<_>>>();
    let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
    sizes.ok_or_else(|| {
        cx.error(format!("{name} must be {N} numbers from {min} to {MAX_ATTRIBUTE} (2-D only)"))
    })
}

pub(super) fn conv(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let weights = cx.constant(1)?;
    let bias = cx.optional_floats(2)?;
    let (&[maps, depth, ref kernel @ ..], Some(values)) =
        (weights.shape.as_slice(), weights.to_floats())
    else {
        return Err(cx.error(format!("expected weights of 4 axes, found {:?}", weights.shape)));
    };
    let [y, x] = axes(cx, &features, kernel)?;
    let channels = features.shape[0];
    let groups = usize::try_from(cx.int("group", 1)).unwrap_or(0);
    if groups == 0 || maps % groups != 0 || depth.checked_mul(groups) != Some(channels) {
        return Err(cx.error(format!(
            "weights of shape {:?} in {groups} groups do not fit {channels} channels",
            weights.shape
        )));
    }
    if cx.ints("kernel_shape").is_some_and(|shape| shape != [y.kernel as i64, x.kernel as i64]) {
        return Err(cx.error("kernel_shape is not the shape of the weights"));
    }
    let bias = bias.unwrap_or_else(|| vec![0.0; maps]);
    if bias.len() != maps {
        return Err(cx.error(format!("{} biases for {maps} output channels", bias.len())));
    }
    cx.allocate(&[maps, y.output, x.output, depth, y.kernel, x.kernel])?;
    let mut matrix = Sparse::new(features.len());
    for map in 0..maps {
        let first_channel = map / (maps / groups) * depth;
        for (oy, ox) in positions(&y, &x) {
            for d in 0..depth {
                let (plane, kernel) = ((first_channel + d) * y.input, (map * depth + d) * y.kernel);
                for (ky, iy) in y.taps(oy) {
                    for (kx, ix) in x.taps(ox) {
                        matrix.push(
                            (plane + iy) * x.input + ix,
                            values[(kernel + ky) * x.kernel + kx],
                        );
                    }
                }
            }
            matrix.end_row();
        }
    }
    let plane = y.output * x.output;
    let bias = bias.iter().flat_map(|&bias| std::iter::repeat_n(bias, plane)).collect();
    let affine = Affine { matrix: Matrix::Sparse(matrix), bias };
    Ok(vec![Value::Features(cx.then(features, affine, vec![maps, y.output, x.output])?)])
}

pub(super) fn average_pool(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let count_padding = cx.int("count_include_pad", 0) != 0;
    let [y, x] = pool_axes(cx, &features)?;
    let channels = features.shape[0];
    cx.allocate(&[channels, y.output, x.output, y.kernel, x.kernel])?;
    let mut matrix = Sparse::new(features.len());
    for channel in 0..channels {
        for (oy, ox) in positions(&y, &x) {
            let count = if count_padding {
                y.padded_taps(oy) * x.padded_taps(ox)
            } else {
                y.taps(oy).count() * x.taps(ox).count()
            };
            for (_, iy) in y.taps(oy) {
                for (_, ix) in x.taps(ox) {
                    matrix.push((channel * y.input + iy) * x.input + ix, 1.0 / count as f64);
                }
            }
            matrix.end_row();
        }
    }
    let affine =
        Affine { bias: vec![0.0; channels * y.output * x.output], matrix: Matrix::Sparse(matrix) };
    Ok(vec![Value::Features(cx.then(features, affine, vec![channels, y.output, x.output])?)])
}

fn positions(y: &Axis, x: &Axis) -> impl Iterator<Item = (usize, usize)> {
    let width = x.output;
    (0..y.output).flat_map(move |oy| (0..width).map(move |ox| (oy, ox)))
}

/// The mean over all axes except the channels.
pub(super) fn global_average_pool(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let averaged = (0..features.shape.len()).map(|axis| axis > 0).collect::<Vec<_>>();
    mean(cx, features, &averaged, true)
}

/// The mean over some axes. They are an attribute before opset 18, an input since.
pub(super) fn reduce_mean(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let given =
        cx.optional_ints(1)?.or_else(|| cx.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
    if given.is_empty() {
        return Err(cx.error("it averages over the batch; expected the axes of the features"));
    }
    let mut averaged = vec![false; features.shape.len()];
    for axis in given {
        match cx.axis(axis, features.shape.len() + 1)? {
            0 => {
                return Err(
                    cx.error("it averages over the batch; expected the axes of the features")
                );
            }
            axis => averaged[axis - 1] = true,
        }
    }
    let keep = cx.int("keepdims", 1) != 0;
    mean(cx, features, &averaged, keep)
}

fn mean(
    cx: &mut Context<'_>,
    features: Features,
    averaged: &[bool],
    keep: bool,
) -> Result<Vec<Value>, Error> {
    cx.allocate(&[features.len()])?;
    let axes = features.shape.iter().zip(averaged);
    let reduced =
        axes.clone().map(|(&size, &averaged)| if averaged { 1 } else { size }).collect::<Vec<_>>();
    let shape = axes.filter(|&(_, &averaged)| keep || !averaged);
    let shape = shape.map(|(&size, &averaged)| if averaged { 1 } else { size }).collect();
    // The mean that each feature contributes to is the one that broadcasting the result back would read.
    let mut rows = vec![Vec::new(); reduced.iter().product()];
    for (feature, row) in
        crate::onnx::tensor::broadcast_indices(&reduced, &features.shape).into_iter().enumerate()
    {
        rows[row].push(feature);
    }
    let mut matrix = Sparse::new(features.len());
    for row in &rows {
        row.iter().for_each(|&feature| matrix.push(feature, 1.0 / row.len() as f64));
        matrix.end_row();
    }
    let affine = Affine { bias: vec![0.0; rows.len()], matrix: Matrix::Sparse(matrix) };
    Ok(vec![Value::Features(cx.then(features, affine, shape)?)])
}
