//! Builds the network from the values of the graph's outputs: its layers and its head.

use std::rc::Rc;

use super::context::Import;
use super::layers::layers;
use super::value::{Choice, Features, Rule, Scores, Source, Stage, Value};
use crate::Error;
use crate::network::{Activation, Affine, Decision, Head, Label, Layer, Transform};

/// The layers and the head of the outputs.
pub(super) fn finish(
    import: &mut Import,
    outputs: Vec<Value>,
) -> Result<(Vec<Layer>, Head), Error> {
    let mut choices = Vec::new();
    let mut scores = Vec::new();
    for output in outputs {
        match output {
            // For example the names of the classes.
            Value::Constant(_) => {}
            Value::Features(features) => scores.push(Scores::plain(features)),
            Value::Scores(output) => scores.push(output),
            Value::Choice(choice) => choices.push(choice),
        }
    }
    let scores = merge_scores(import, scores)?;
    let choice = choices.pop();
    if let Some(choice) = &choice {
        let same =
            |other: &Choice| other.features.same(&choice.features) && other.rule == choice.rule;
        if !choices.iter().all(same)
            || scores.as_ref().is_some_and(|scores| !scores.features.same(&choice.features))
        {
            return Err(model(
                "its outputs are computed from different values; expected one label and its scores",
            ));
        }
    }
    let mut last = match (&choice, &scores) {
        (Some(choice), _) => choice.features.clone(),
        (None, Some(scores)) => scores.features.clone(),
        (None, None) => return Err(model("no output depends on the input")),
    };
    let (mut rule, mut labels) =
        choice.map_or((None, None), |choice| (Some(choice.rule), choice.labels));
    let (mut transforms, names) =
        scores.map_or((vec![], None), |scores| (scores.transforms, scores.labels));
    labels = labels.or(names.filter(|names| !names.is_empty()));
    strip_sigmoid(import, &mut last, &mut transforms, &mut rule)?;
    let decision = decide(import, &last, &transforms, rule, labels)?;
    Ok((layers(import, last)?, Head { transforms, decision }))
}

fn model(reason: &str) -> Error {
    Error::Model { reason: reason.into() }
}

/// Merges all outputs that are scores into one vector. Usually there is one output, but skl2onnx can export one output
/// per class.
fn merge_scores(import: &mut Import, mut all: Vec<Scores>) -> Result<Option<Scores>, Error> {
    let Some(first) = all.first().cloned() else {
        return Ok(None);
    };
    if all.len() == 1 && first.columns.is_none() {
        return Ok(all.pop());
    }
    let apart = || {
        model(
            "its outputs of scores are not all columns of one vector; export one output of scores",
        )
    };
    if first.columns.is_some() {
        let columns = all.iter().flat_map(|scores| scores.columns.iter().flatten().copied());
        let width = if first.transforms.contains(&Transform::Complement) {
            2
        } else {
            first.features.len()
        };
        let same = |other: &Scores| {
            other.transforms == first.transforms
                && other.columns.is_some()
                && other.features.same(&first.features)
        };
        if !columns.eq(0..width) || !all.iter().all(same) {
            return Err(apart());
        }
        return Ok(Some(Scores { columns: None, ..first }));
    }
    let column = |scores: &Scores| {
        scores.features.len() == 1
            && scores.features.stage == first.features.stage
            && scores.transforms.is_empty()
    };
    if !all.iter().all(column) {
        return Err(apart());
    }
    let width = import.stages[first.features.stage].width;
    import.budget.allocate(&[all.len(), width])?;
    let parts = all.iter().map(|scores| affine_of(&scores.features)).collect::<Vec<_>>();
    let affine = Affine::stack(&parts.iter().map(Rc::as_ref).collect::<Vec<_>>(), width);
    let affine = Some(Rc::new(affine));
    let features = Features { shape: vec![all.len()], affine, bounds: None, ..first.features };
    Ok(Some(Scores::plain(features)))
}

fn affine_of(features: &Features) -> Rc<Affine> {
    features.affine.clone().unwrap_or_else(|| Rc::new(Affine::diagonal(&vec![1.0; features.len()])))
}

/// Moves a final sigmoid to the head, alone or as the two probabilities (1 − p, p). The client computes it without a
/// Lookup; it does not change the order of scores.
fn strip_sigmoid(
    import: &Import,
    last: &mut Features,
    transforms: &mut Vec<Transform>,
    rule: &mut Option<Rule>,
) -> Result<(), Error> {
    let Stage { width, source: Source::Activation(source, activations), .. } =
        &import.stages[last.stage]
    else {
        return Ok(());
    };
    if activations.uniform() != Some(&Activation::Sigmoid) {
        return Ok(());
    }
    let identity = last.affine.as_ref().is_none_or(|affine| affine.is_identity());
    let complement =
        *width == 1 && last.affine.as_ref().is_some_and(|affine| is_complement(affine));
    if !identity && !complement {
        return Ok(());
    }
    let head: &[Transform] =
        if identity { &[Transform::Sigmoid] } else { &[Transform::Sigmoid, Transform::Complement] };
    transforms.splice(0..0, head.iter().copied());
    match rule {
        Some(Rule::Above(probability)) if identity => {
            let logit = (*probability / (1.0 - *probability)).ln();
            if !logit.is_finite() {
                return Err(model("a threshold of a probability is not between 0 and 1"));
            }
            *rule = Some(Rule::Above(logit));
        }
        Some(Rule::ArgMax) if complement => *rule = Some(Rule::Above(0.0)),
        _ => {}
    }
    *last = source.clone();
    Ok(())
}

/// Whether the function is p → (1 − p, p).
fn is_complement(affine: &Affine) -> bool {
    affine.bias == [1.0, 0.0]
        && affine.matrix.row(0).eq([(0, -1.0)])
        && affine.matrix.row(1).eq([(0, 1.0)])
}

fn decide(
    import: &Import,
    last: &Features,
    transforms: &[Transform],
    rule: Option<Rule>,
    labels: Option<Vec<Label>>,
) -> Result<Decision, Error> {
    let outputs = last.len();
    let complement = transforms.contains(&Transform::Complement);
    let softmax = matches!(transforms.first(), Some(Transform::Softmax | Transform::LogSoftmax));
    // Networks trained with cross entropy export plain logits. A chain that ends in an activation or in one value is
    // not a classifier.
    let logits =
        transforms.is_empty() && outputs > 1 && last.affine.is_some() && !import.regression;
    let rule = match rule {
        Some(rule) => rule,
        None if complement => Rule::Above(0.0),
        None if softmax || logits || labels.is_some() && outputs > 1 => Rule::ArgMax,
        None => return Ok(Decision::Scores),
    };
    let count = if matches!(rule, Rule::Above(_)) { 2 } else { outputs };
    let labels = labels.unwrap_or_else(|| (0..count as i64).map(Label::Int).collect());
    let mismatch = |found| Error::Model {
        reason: format!("it names {found} classes, but distinguishes {count}"),
    };
    match rule {
        Rule::Above(above) if outputs == 1 => {
            let labels = labels.try_into().map_err(|labels: Vec<Label>| mismatch(labels.len()))?;
            Ok(Decision::Threshold { above, labels })
        }
        Rule::ArgMax if labels.len() == count => Ok(Decision::ArgMax { labels }),
        _ => Err(mismatch(labels.len())),
    }
}
