//! Cuts trees into parts that fit one table each.

use super::{Comparison, Tree};

/// The thresholds that each feature is compared with. The comparisons of one feature are a count: with n thresholds it
/// is above 0 to n of them, which is n + 1 states and not 2ⁿ.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bits(pub(super) Vec<(usize, Vec<f64>)>);

impl Bits {
    pub(super) fn insert(&mut self, comparison: Comparison) {
        let Comparison { feature, threshold } = comparison;
        let at = self.0.partition_point(|(f, _)| *f < feature);
        if self.0.get(at).is_none_or(|(f, _)| *f != feature) {
            self.0.insert(at, (feature, Vec::new()));
        }
        let thresholds = &mut self.0[at].1;
        let place = thresholds.partition_point(|&t| t < threshold);
        if thresholds.get(place) != Some(&threshold) {
            thresholds.insert(place, threshold);
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (feature, thresholds) in &other.0 {
            for &threshold in thresholds {
                all.insert(Comparison { feature: *feature, threshold });
            }
        }
        all
    }

    /// Number of combinations that can occur.
    pub(super) fn states(&self) -> usize {
        self.0.iter().fold(1, |states, (_, t)| states.saturating_mul(t.len() + 1))
    }

    /// For each feature: the number of thresholds that it is above in a state. These are the digits of the state, the
    /// first feature's the least significant.
    pub(super) fn counts(&self, mut state: usize) -> Vec<usize> {
        let digit = |(_, thresholds): &(usize, Vec<f64>)| {
            let base = thresholds.len() + 1;
            let digit = state % base;
            state /= base;
            digit
        };
        self.0.iter().map(digit).collect()
    }

    /// The result of a comparison if the features are above `counts` of their thresholds.
    pub(super) fn result(&self, counts: &[usize], comparison: Comparison) -> bool {
        let feature = self.0.iter().position(|(f, _)| *f == comparison.feature);
        feature
            .is_some_and(|i| self.0[i].1.partition_point(|&t| t < comparison.threshold) < counts[i])
    }
}

/// A part of a tree: the subtree below one of its nodes if the path leads there, and zero otherwise.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) path: Vec<(Comparison, bool)>,
    pub(super) tree: &'a Tree,
    /// The comparisons of the subtree, and those of the path unless that makes the table too large. The table is then
    /// over the number of comparisons on the path with another result.
    pub(super) bits: Bits,
    pub(super) counts_path: bool,
}

/// The parts of a tree for tables of `bits` bits: as few as possible.
pub(super) fn parts(tree: &Tree, bits: u32) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    if matches!(tree, Tree::Split(..)) {
        cut(tree, &mut Vec::new(), 1 << bits, &mut parts);
    }
    parts
}

fn cut<'a>(
    tree: &'a Tree,
    path: &mut Vec<(Comparison, bool)>,
    most: usize,
    parts: &mut Vec<Part<'a>>,
) {
    // A leaf of zeros adds nothing.
    if matches!(tree, Tree::Leaf(values) if values.iter().all(|(_, value)| *value == 0.0)) {
        return;
    }
    let mut below = Bits::default();
    collect(tree, &mut below, most);
    let mut all = below.clone();
    path.iter().for_each(|(comparison, _)| all.insert(*comparison));
    let plain = all.states() <= most;
    let counted = below.states().saturating_mul(path.len() + 1) <= most;
    match tree {
        Tree::Split(comparison, children) if !plain && !counted => {
            for result in [false, true] {
                path.push((*comparison, result));
                cut(&children[usize::from(result)], path, most, parts);
                path.pop();
            }
        }
        _ => {
            let bits = if plain { all } else { below };
            parts.push(Part { path: path.clone(), tree, bits, counts_path: !plain });
        }
    }
}

/// Collects the comparisons of a tree. Stops at more than `most` states.
fn collect(tree: &Tree, bits: &mut Bits, most: usize) {
    if let Tree::Split(comparison, children) = tree
        && bits.states() <= most
    {
        bits.insert(*comparison);
        children.iter().for_each(|child| collect(child, bits, most));
    }
}

impl Part<'_> {
    /// The value that the part adds to an output in a state of its bits, if `elsewhere` comparisons of a counted path
    /// have another result.
    pub(super) fn value(
        &self,
        bits: &Bits,
        counts: &[usize],
        elsewhere: usize,
        output: usize,
    ) -> f64 {
        let turns =
            |(comparison, result): &(Comparison, bool)| bits.result(counts, *comparison) != *result;
        if elsewhere > 0 || !self.counts_path && self.path.iter().any(turns) {
            return 0.0;
        }
        let mut tree = self.tree;
        loop {
            match tree {
                Tree::Leaf(values) => return super::value_of(values, output),
                Tree::Split(comparison, children) => {
                    tree = &children[usize::from(bits.result(counts, *comparison))];
                }
            }
        }
    }
}
