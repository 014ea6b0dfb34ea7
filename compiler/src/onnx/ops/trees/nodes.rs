//! Reads trees from the attributes that list their nodes.

use std::collections::HashMap;

use crate::Error;
use crate::onnx::context::Context;
use crate::trees::{Comparison, Tree};

/// Maximum number of nodes of an ensemble, because a few bytes can declare many.
const MAX_NODES: usize = 1 << 20;

/// The nodes as the attributes list them.
pub(super) struct Nodes {
    pub(super) all: Vec<Node>,
    /// Index of each node, by tree and number.
    known: HashMap<(i64, i64), usize>,
    /// Trees in the order of their first node, which is the root.
    roots: Vec<usize>,
}

pub(super) struct Node {
    /// `None` for a leaf.
    split: Option<Split>,
    values: Vec<(usize, f64)>,
}

struct Split {
    comparison: Comparison,
    /// Numbers of the nodes where the comparison does not hold, and where it does.
    children: [(i64, i64); 2],
}

impl Nodes {
    pub(super) fn read(
        cx: &Context<'_>,
        leaf: &str,
        columns: usize,
        outputs: usize,
    ) -> Result<Self, Error> {
        let ints = |name: &str| cx.ints(name).unwrap_or_default();
        let ids = ints("nodes_nodeids");
        let (of, feature) = (ints("nodes_treeids"), ints("nodes_featureids"));
        let (yes, no) = (ints("nodes_truenodeids"), ints("nodes_falsenodeids"));
        let modes = cx.texts("nodes_modes");
        let thresholds = cx.floats("nodes_values")?;
        let count = ids.len();
        let lengths = [of.len(), feature.len(), yes.len(), no.len(), modes.len(), thresholds.len()];
        if count == 0 || lengths.iter().any(|&length| length != count) {
            return Err(cx.error(format!(
                "expected the attributes nodes_… with one value for each node, found {count} nodes and {lengths:?} values"
            )));
        }
        if count > MAX_NODES {
            return Err(cx.error(format!("{count} nodes; expected at most {MAX_NODES}")));
        }
        let mut known = HashMap::new();
        let mut roots: Vec<usize> = Vec::new();
        let mut all = Vec::new();
        for i in 0..count {
            if known.insert((of[i], ids[i]), i).is_some() {
                return Err(cx.error(format!("tree {} has two nodes {}", of[i], ids[i])));
            }
            if roots.last().is_none_or(|&root| of[root] != of[i]) {
                roots.push(i);
            }
            let (threshold, holds_on_yes) = match &*modes[i] {
                "LEAF" => {
                    all.push(Node { split: None, values: Vec::new() });
                    continue;
                }
                "BRANCH_LEQ" => (thresholds[i], false),
                "BRANCH_LT" => (before(thresholds[i]), false),
                "BRANCH_GT" => (thresholds[i], true),
                "BRANCH_GTE" => (before(thresholds[i]), true),
                other => {
                    return Err(cx.error(format!(
                        "node {} compares by {}; supported: BRANCH_LEQ, BRANCH_LT, BRANCH_GT, BRANCH_GTE",
                        ids[i],
                        crate::onnx::tensor::abbreviate(other)
                    )));
                }
            };
            let feature = usize::try_from(feature[i]).ok().filter(|&f| f < columns);
            let feature = feature.ok_or_else(|| {
                cx.error(format!("node {} compares a feature that is not one of {columns}", ids[i]))
            })?;
            let (yes, no) = ((of[i], yes[i]), (of[i], no[i]));
            let children = if holds_on_yes { [no, yes] } else { [yes, no] };
            let comparison = Comparison { feature, threshold };
            all.push(Node { split: Some(Split { comparison, children }), values: Vec::new() });
        }
        let mut nodes = Self { all, known, roots };
        nodes.read_values(cx, leaf, outputs)?;
        Ok(nodes)
    }

    fn read_values(&mut self, cx: &Context<'_>, leaf: &str, outputs: usize) -> Result<(), Error> {
        let ints = |name: &str| cx.ints(&format!("{leaf}_{name}")).unwrap_or_default();
        let (of, ids, output) = (ints("treeids"), ints("nodeids"), ints("ids"));
        let weights = cx.floats(&format!("{leaf}_weights"))?;
        if of.len() != ids.len() || of.len() != output.len() || of.len() != weights.len() {
            return Err(cx.error(format!("the attributes {leaf}_… differ in length")));
        }
        if weights.len() > MAX_NODES {
            let count = weights.len();
            return Err(cx.error(format!("{count} weights; expected at most {MAX_NODES}")));
        }
        for (i, &weight) in weights.iter().enumerate() {
            let node = self.known.get(&(of[i], ids[i])).map(|&place| &mut self.all[place]);
            let output = usize::try_from(output[i]).ok().filter(|&o| o < outputs);
            let (Some(node), Some(output)) = (node, output) else {
                return Err(cx.error(format!(
                    "a weight of node {} of tree {} is for a missing node, or for none of {outputs} outputs",
                    ids[i], of[i]
                )));
            };
            node.values.push((output, weight));
        }
        for node in &mut self.all {
            node.values.sort_by_key(|&(output, _)| output);
            node.values.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 += if same { next.1 } else { 0.0 };
                same
            });
        }
        Ok(())
    }

    pub(super) fn trees(&self, cx: &Context<'_>) -> Result<Vec<Tree>, Error> {
        let mut seen = vec![false; self.all.len()];
        self.roots.iter().map(|&root| self.tree(cx, root, 0, &mut seen)).collect()
    }

    fn tree(
        &self,
        cx: &Context<'_>,
        place: usize,
        depth: usize,
        seen: &mut [bool],
    ) -> Result<Tree, Error> {
        // Deeper than any trained tree, and shallow enough for recursion.
        if depth > 64 || std::mem::replace(&mut seen[place], true) {
            return Err(cx.error("its nodes do not form trees of depth 64 or less: one is reached twice, or is too deep"));
        }
        let node = &self.all[place];
        let Some(Split { comparison, children }) = &node.split else {
            return Ok(Tree::Leaf(node.values.clone()));
        };
        let [below, above] = children.map(|child| {
            let place = self.known.get(&child).copied();
            let place = place.ok_or_else(|| cx.error(format!("node {} is missing", child.1)))?;
            self.tree(cx, place, depth + 1, seen)
        });
        Ok(Tree::Split(*comparison, Box::new([below?, above?])))
    }
}

/// The greatest single-precision number below `x`: for such numbers, x < t is x ≤ before(t).
fn before(x: f64) -> f64 {
    f64::from((x as f32).next_down())
}
