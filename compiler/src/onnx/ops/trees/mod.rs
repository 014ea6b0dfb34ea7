//! TreeEnsembleClassifier and TreeEnsembleRegressor (domain `ai.onnx.ml`), as skl2onnx and onnxmltools export
//! decision trees, forests and boosted trees of scikit-learn and XGBoost.

mod nodes;

use std::rc::Rc;

use crate::Error;
use crate::network::{Activation, Affine, Transform};
use crate::onnx::context::Context;
use crate::onnx::value::{Choice, Features, Rule, Scores, Value};
use crate::trees::{self, Ensemble, MAX_DEPTH, Tree};
use nodes::Nodes;

/// Maximum number of outputs: each takes a pass over all nodes.
const MAX_OUTPUTS: usize = 1024;

/// Maximum number of nodes of an ensemble that is cut only to report its cost.
const MAX_COUNTED: usize = 4096;

pub(in crate::onnx::ops) fn regressor(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    if !matches!(cx.text("post_transform", "NONE").as_str(), "" | "NONE") {
        return Err(cx.error("a post_transform of a regression is not supported"));
    }
    let outputs = cx.int("n_targets", 1);
    let outputs = usize::try_from(outputs).ok().filter(|&n| n > 0);
    let outputs = outputs.ok_or_else(|| cx.error("n_targets is not a number of targets"))?;
    let mut ensemble = read(cx, &features, "target", outputs)?;
    match cx.text("aggregate_function", "SUM").as_str() {
        "SUM" => {}
        "AVERAGE" => {
            let share = 1.0 / ensemble.trees.len().max(1) as f64;
            ensemble.trees.iter_mut().for_each(|tree| scale(tree, share));
        }
        other => {
            return Err(cx.error(format!("aggregate_function {other}; supported: SUM, AVERAGE")));
        }
    }
    cx.import.regression = true;
    Ok(vec![Value::Features(lower(cx, features, &ensemble)?)])
}

/// Returns the label and the scores.
pub(in crate::onnx::ops) fn classifier(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let labels = cx.labels("classlabels_int64s", "classlabels_strings");
    let classes = labels.len();
    if classes < 2 {
        return Err(cx.error(format!("{classes} class labels; expected two or more")));
    }
    let mut ensemble = read(cx, &features, "class", classes)?;
    let post_transform = cx.text("post_transform", "NONE");
    let mut transforms = match post_transform.as_str() {
        "" | "NONE" => vec![],
        "SOFTMAX" => vec![Transform::Softmax],
        "LOGISTIC" => vec![Transform::Sigmoid],
        other => {
            return Err(
                cx.error(format!("post_transform {other}; supported: NONE, SOFTMAX, LOGISTIC"))
            );
        }
    };
    let rule = match one_column(cx, &ensemble) {
        None => Rule::ArgMax,
        // With one score, the label is the second class where the score is above the middle.
        Some(column) => {
            ensemble.keep(column);
            let probability = column == Column::Probability || ensemble.is_positive();
            match (probability, transforms.as_slice()) {
                (true, _) => {
                    transforms = vec![Transform::Complement];
                    Rule::Above(0.5)
                }
                (false, [Transform::Sigmoid]) => {
                    transforms.push(Transform::Complement);
                    Rule::Above(0.0)
                }
                _ => {
                    return Err(cx.error(
                        "one score for two classes needs post_transform LOGISTIC, or must be a probability",
                    ));
                }
            }
        }
    };
    let features = lower(cx, features, &ensemble)?;
    let choice = Choice { features: features.clone(), rule, labels: Some(labels.clone()) };
    let scores = Scores { transforms, labels: Some(labels), ..Scores::plain(features) };
    Ok(vec![Value::Choice(choice), Value::Scores(scores)])
}

/// The meaning of the single score of two classes.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    /// All weights belong to this class.
    Only(usize),
    /// The weights of both classes add up to 1, so those of the second suffice.
    Probability,
}

/// Whether one score determines both classes, and which.
fn one_column(cx: &Context<'_>, ensemble: &Ensemble) -> Option<Column> {
    if ensemble.base.len() != 2 {
        return None;
    }
    let ids = cx.ints("class_ids").unwrap_or_default();
    if let Some(&first) = ids.first()
        && ids.iter().all(|&id| id == first)
    {
        return Some(Column::Only(first as usize));
    }
    let total = |values: &[(usize, f64)]| values.iter().map(|(_, value)| value).sum::<f64>();
    let mut sum = ensemble.base.iter().sum::<f64>();
    for tree in &ensemble.trees {
        let mut totals = Vec::new();
        leaves(tree, &mut |values| totals.push(total(values)));
        let first = totals.first().copied().unwrap_or_default();
        if totals.iter().any(|total| (total - first).abs() > 1e-5) {
            return None;
        }
        sum += first;
    }
    ((sum - 1.0).abs() < 1e-3).then_some(Column::Probability)
}

fn leaves(tree: &Tree, visit: &mut impl FnMut(&[(usize, f64)])) {
    match tree {
        Tree::Leaf(values) => visit(values),
        Tree::Split(_, children) => children.iter().for_each(|child| leaves(child, visit)),
    }
}

fn change(tree: &mut Tree, change_values: &mut impl FnMut(&mut Vec<(usize, f64)>)) {
    match tree {
        Tree::Leaf(values) => change_values(values),
        Tree::Split(_, children) => {
            children.iter_mut().for_each(|child| change(child, change_values));
        }
    }
}

fn scale(tree: &mut Tree, factor: f64) {
    change(tree, &mut |values| values.iter_mut().for_each(|(_, value)| *value *= factor));
}

impl Ensemble {
    /// Keeps one of two outputs.
    fn keep(&mut self, column: Column) {
        let kept = match column {
            Column::Only(column) => column,
            Column::Probability => 1,
        };
        // A single base value belongs to the score, whichever class it is for.
        self.base = match column {
            Column::Only(_) => vec![self.base.iter().sum()],
            Column::Probability => vec![self.base[1]],
        };
        for tree in &mut self.trees {
            change(tree, &mut |values| {
                values.retain(|(output, _)| *output == kept);
                values.iter_mut().for_each(|(output, _)| *output = 0);
            });
        }
    }

    /// Whether no weight is negative. Runtimes then treat the score as a probability.
    fn is_positive(&self) -> bool {
        let mut positive = true;
        for tree in &self.trees {
            leaves(tree, &mut |values| positive &= values.iter().all(|(_, value)| *value >= 0.0));
        }
        positive
    }
}

/// The ensemble as stages: comparisons, tables, sums.
fn lower(cx: &mut Context<'_>, features: Features, ensemble: &Ensemble) -> Result<Features, Error> {
    let nodes = ensemble.trees.iter().map(Tree::nodes).sum::<usize>();
    cx.import.budget.work((ensemble.base.len() as u64).saturating_mul(nodes as u64))?;
    let lowered = ensemble.lower();
    for affine in [&lowered.comparisons, &lowered.codes, &lowered.sums] {
        cx.allocate(&[affine.matrix.entries() + affine.bias.len()])?;
    }
    let step = |cx: &mut Context<'_>, features: Features, affine: Affine| {
        let rows = affine.rows();
        cx.then(features, affine, vec![rows])
    };
    let compared = step(cx, features, lowered.comparisons)?;
    let bits = cx.activate(compared, Activation::Step)?;
    let codes = step(cx, bits, lowered.codes)?;
    let values = cx.activate(codes, lowered.tables)?;
    let sums = step(cx, values, lowered.sums)?;
    Ok(Features { bounds: Some(Rc::new(lowered.bounds)), ..sums })
}

fn read(
    cx: &mut Context<'_>,
    features: &Features,
    leaf: &str,
    outputs: usize,
) -> Result<Ensemble, Error> {
    if features.shape.len() != 1 || !cx.is_unary(features)? {
        return Err(cx.error("expected trees on the model's own features, each scaled by itself"));
    }
    if features.stage != 0 {
        return Err(cx.error("trees after another layer are not supported"));
    }
    if outputs > MAX_OUTPUTS {
        return Err(cx.error(format!("{outputs} outputs; expected at most {MAX_OUTPUTS}")));
    }
    let columns = features.len();
    let nodes = Nodes::read(cx, leaf, columns, outputs)?;
    cx.allocate(&[nodes.all.len(), 8])?;
    let trees = nodes.trees(cx)?;
    for (index, tree) in trees.iter().enumerate() {
        let depth = tree.depth();
        if depth > MAX_DEPTH {
            let mut reason = format!(
                "tree {index} has depth {depth}; expected at most {MAX_DEPTH} (max_depth={MAX_DEPTH} at training)"
            );
            if nodes.all.len() <= MAX_COUNTED {
                let all: usize = trees.iter().map(trees::cost).sum();
                reason += &format!(
                    ". As it is, the ensemble would take about {all} bootstraps for each output"
                );
            }
            return Err(cx.error(reason));
        }
    }
    let base = cx.floats("base_values")?;
    let base = match base.len() {
        0 => vec![0.0; outputs],
        n if n == outputs => base,
        // For the only score of two classes.
        1 => std::iter::once(base[0]).chain(std::iter::repeat(0.0)).take(outputs).collect(),
        n => return Err(cx.error(format!("{n} base values for {outputs} outputs"))),
    };
    Ok(Ensemble { features: columns, trees, base })
}
