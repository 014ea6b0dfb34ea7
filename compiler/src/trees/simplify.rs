//! Takes out of a tree what cannot matter.

use super::{Comparison, Tree};

/// The same function without comparisons whose result the path implies, and without splits into equals.
pub(super) fn simplify(tree: &Tree) -> Tree {
    below(tree, &mut Vec::new())
}

/// `path` is the comparisons above, with their results.
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

/// What a comparison must give where others have given what they have.
fn implied(comparison: Comparison, path: &[(Comparison, bool)]) -> Option<bool> {
    let same = path.iter().filter(|(other, _)| other.feature == comparison.feature);
    same.filter_map(|&(other, result)| match result {
        true if other.threshold >= comparison.threshold => Some(true),
        false if other.threshold <= comparison.threshold => Some(false),
        _ => None,
    })
    .next()
}
