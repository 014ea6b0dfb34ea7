//! Operators that turn the last layer's values into probabilities or a class: they become the head.

use crate::Error;
use crate::network::Transform;
use crate::onnx::context::Context;
use crate::onnx::value::{Choice, Features, Rule, Scores, Value};

pub(super) fn softmax(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    normalised_exponential(cx, Transform::Softmax)
}

pub(super) fn log_softmax(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    normalised_exponential(cx, Transform::LogSoftmax)
}

fn normalised_exponential(cx: &mut Context<'_>, transform: Transform) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    // Before opset 13 all axes from this one on form the class axis, since then only this one.
    let default = if cx.import.opset < 13 { 1 } else { -1 };
    let axis = cx.axis(cx.int("axis", default), features.shape.len() + 1)?;
    let flattened = cx.import.opset < 13 && axis == 1;
    if !flattened {
        check_class_axis(cx, &features, axis)?;
    }
    Ok(vec![Value::Scores(Scores { transforms: vec![transform], ..Scores::plain(features) })])
}

/// Checks that all values of a row lie along the class axis.
fn check_class_axis(cx: &Context<'_>, features: &Features, axis: usize) -> Result<(), Error> {
    if axis == 0 || features.shape[axis - 1] != features.len() {
        return Err(cx.error(format!(
            "axis {axis} is not the only axis of rows of shape {:?}",
            features.shape
        )));
    }
    Ok(())
}

pub(super) fn arg_max(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    // Every transform of a head keeps the order, so the greatest score belongs to the greatest value.
    let Scores { features, transforms, .. } = cx.scores(0)?;
    let axis = cx.axis(cx.int("axis", 0), features.shape.len() + 1)?;
    check_class_axis(cx, &features, axis)?;
    if cx.int("select_last_index", 0) != 0 {
        return Err(
            cx.error("select_last_index is not supported: the first of equal scores is chosen")
        );
    }
    let rule =
        if transforms.contains(&Transform::Complement) { Rule::Above(0.0) } else { Rule::ArgMax };
    Ok(vec![Value::Choice(Choice { features, rule, labels: None })])
}

/// score > constant: a choice between two classes.
pub(super) fn greater(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let threshold = cx.optional_scalar(1)?.ok_or_else(|| cx.error("it has no threshold"))?;
    above(cx, features, threshold)
}

pub(super) fn binarizer(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let threshold = cx.float("threshold", 0.0)?;
    above(cx, features, threshold)
}

fn above(cx: &Context<'_>, features: Features, threshold: f64) -> Result<Vec<Value>, Error> {
    if features.len() != 1 {
        return Err(cx.error(format!(
            "a threshold for {} values; expected the one score of two classes",
            features.len()
        )));
    }
    Ok(vec![Value::Choice(Choice { features, rule: Rule::Above(threshold), labels: None })])
}
