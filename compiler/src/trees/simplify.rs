//! Removes comparisons of a tree that cannot affect its result.

use super::{Comparison, Tree};

/// Removes comparisons whose result the path implies, and splits into equal subtrees.
pub(super) fn simplify(tree: &Tree) -> Tree {
    below(tree, &mut Vec::new())
}

/// `path` contains the comparisons above the node and their results.
fn below(tree: &Tree, path: &mut Vec<(Comparison, bool)>) -> Tree {
    let Tree::Split(comparison, children) = tree else {
        return tree.clone();
    };
    if let Some(result) = implied(*comparison, path) {
        return below(&children[usize::from(result)], path);
    }
    let [first, second] = [false, true].map(|result| {
        path.push((*comparison, result));
        let child = below(&children[usize::from(result)], path);
        path.pop();
        child
    });
    if first == second { first } else { Tree::Split(*comparison, Box::new([first, second])) }
}

/// The result of a comparison, if the results on the path imply it.
fn implied(comparison: Comparison, path: &[(Comparison, bool)]) -> Option<bool> {
    let same = path.iter().filter(|(other, _)| other.feature == comparison.feature);
    same.filter_map(|&(other, result)| match result {
        true if other.threshold >= comparison.threshold => Some(true),
        false if other.threshold <= comparison.threshold => Some(false),
        _ => None,
    })
    .next()
}
