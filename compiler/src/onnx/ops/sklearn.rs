//! scikit-learn's operators (domain `ai.onnx.ml`), as skl2onnx exports them.

use crate::Error;
use crate::network::{Affine, Label, Matrix, Transform};
use crate::onnx::context::Context;
use crate::onnx::tensor::{Data, Tensor, pick_indices};
use crate::onnx::value::{Choice, Features, Rule, Scores, Value};

/// (x − offset) · scale, per feature.
pub(super) fn scaler(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let (offset, scale) = (cx.floats("offset")?, cx.floats("scale")?);
    let size = features.len();
    let spread = |values: Vec<f64>| match values.len() {
        1 => Some(vec![values[0]; size]),
        len => (len == size).then_some(values),
    };
    let (Some(offset), Some(scale)) = (spread(offset), spread(scale)) else {
        return Err(
            cx.error(format!("offset and scale must have one value, or {size}, one per feature"))
        );
    };
    let shift =
        offset.iter().zip(&scale).map(|(offset, scale)| -offset * scale).collect::<Vec<_>>();
    Ok(vec![Value::Features(cx.rescale(features, Some(&scale), Some(&shift))?)])
}

/// One row of coefficients per target.
fn linear(cx: &mut Context<'_>, features: Features) -> Result<Features, Error> {
    let (values, intercepts) = (cx.floats("coefficients")?, cx.floats("intercepts")?);
    let cols = features.len();
    let rows = values.len() / cols;
    if rows == 0 || rows * cols != values.len() || features.shape.len() != 1 {
        return Err(cx.error(format!(
            "{} coefficients for rows of shape {:?}",
            values.len(),
            features.shape
        )));
    }
    let bias = if intercepts.is_empty() { vec![0.0; rows] } else { intercepts };
    if bias.len() != rows {
        return Err(cx.error(format!("{} intercepts for {rows} targets", bias.len())));
    }
    cx.allocate(&[rows, cols])?;
    cx.then(features, Affine { matrix: Matrix::Dense { rows, cols, values }, bias }, vec![rows])
}

pub(super) fn linear_regressor(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    if cx.text("post_transform", "NONE") != "NONE" {
        return Err(cx.error("a post_transform of a regression is not supported"));
    }
    let features = linear(cx, features)?;
    if features.len() as i64 != cx.int("targets", 1) {
        return Err(cx.error(format!(
            "coefficients for {} targets, not {}",
            features.len(),
            cx.int("targets", 1)
        )));
    }
    cx.import.regression = true;
    Ok(vec![Value::Features(features)])
}

/// Returns the label and the scores.
pub(super) fn linear_classifier(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let mut labels = cx.labels("classlabels_ints", "classlabels_strings");
    let features = linear(cx, features)?;
    let mut transforms = match cx.text("post_transform", "NONE").as_str() {
        "NONE" => vec![],
        "SOFTMAX" => vec![Transform::Softmax],
        "LOGISTIC" => vec![Transform::Sigmoid],
        other => {
            return Err(
                cx.error(format!("post_transform {other}; supported: NONE, SOFTMAX, LOGISTIC"))
            );
        }
    };
    let rule = if features.len() > 1 {
        if labels.len() != features.len() {
            return Err(cx.error(format!(
                "{} labels for {} classes",
                labels.len(),
                features.len()
            )));
        }
        Rule::ArgMax
    } else {
        // One row of coefficients for two classes gives the score of the second class.
        match (labels.len(), transforms.as_slice()) {
            (2, [Transform::Sigmoid]) => transforms.push(Transform::Complement),
            (0 | 1, [] | [Transform::Sigmoid]) => labels = vec![Label::Int(0), Label::Int(1)],
            _ => {
                return Err(cx.error(
                    "one row of coefficients needs two labels and post_transform LOGISTIC",
                ));
            }
        }
        Rule::Above(0.0)
    };
    let choice = Choice { features: features.clone(), rule, labels: Some(labels.clone()) };
    let scores = Scores { transforms, labels: Some(labels), ..Scores::plain(features) };
    Ok(vec![Value::Choice(choice), Value::Scores(scores)])
}

/// Only as LogisticRegression uses it: scores divided by their sum.
pub(super) fn normalizer(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let norm = cx.text("norm", "MAX");
    if norm != "L1" {
        return Err(cx.error(format!(
            "norm {norm} mixes all features of a row, which no layer can do; supported: L1 after the last layer"
        )));
    }
    let mut scores = cx.scores(0)?;
    if !matches!(scores.transforms.last(), Some(Transform::Softmax | Transform::Complement)) {
        scores.transforms.push(Transform::NormalizeL1);
    }
    Ok(vec![Value::Scores(scores)])
}

/// Selects along the last axis: names of classes by their index, or features.
pub(super) fn array_feature_extractor(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let value = cx.value(0)?;
    match (value, cx.value(1)?) {
        (value, Value::Choice(choice)) => name_choice(cx, value, choice),
        (Value::Features(features), Value::Constant(indices)) => {
            let (Some(&last), Some(indices)) = (features.shape.last(), indices.as_ints()) else {
                return Err(cx.error("expected rows of features and integer indices"));
            };
            let picks = indices
                .iter()
                .map(|&index| usize::try_from(index).ok().filter(|&index| index < last));
            let picks = picks.collect::<Option<Vec<_>>>();
            let picks = picks.ok_or_else(|| {
                cx.error(format!("an index is not below {last}, the number of features"))
            })?;
            let axis = features.shape.len() - 1;
            let mut shape = features.shape.clone();
            shape[axis] = picks.len();
            cx.allocate(&shape)?;
            let picked = pick_indices(&features.shape, axis, &picks);
            Ok(vec![Value::Features(cx.select(features, &picked, shape)?)])
        }
        _ => Err(cx.error(
            "expected class names and the index of a class, or features and constant indices",
        )),
    }
}

/// Replaces the index of a choice by the class names in `names`.
pub(super) fn name_choice(
    cx: &mut Context<'_>,
    names: Value,
    choice: Choice,
) -> Result<Vec<Value>, Error> {
    let Value::Constant(names) = names else {
        return Err(cx.error("the names of the classes must be constant"));
    };
    if choice.labels.is_some() {
        return Err(cx.error("the class has a name already"));
    }
    let labels =
        class_names(&names).ok_or_else(|| cx.error("class names must be integers or strings"))?;
    Ok(vec![Value::Choice(Choice { labels: Some(labels), ..choice })])
}

fn class_names(names: &Tensor) -> Option<Vec<Label>> {
    Some(match &names.data {
        Data::Ints(values) => values.iter().copied().map(Label::Int).collect(),
        Data::Strings(values) => values.iter().cloned().map(Label::String).collect(),
        Data::Floats(values) => {
            let whole = values.iter().all(|value| value.fract() == 0.0);
            whole.then(|| values.iter().map(|&value| Label::Int(value as i64)).collect())?
        }
    })
}

pub(super) fn zip_map(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let scores = cx.scores(0)?;
    let labels = cx.labels("classlabels_int64s", "classlabels_strings");
    Ok(vec![Value::Scores(Scores { labels: Some(labels), ..scores })])
}
