//! Merkle trees of messages that are sent together.

use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];

/// The longest path: enough for 2^16 messages, far more than are ever signed together.
const MAX_PATH: usize = 16;

/// The hash of a leaf.
pub(super) fn leaf(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// All levels, from the leaves to the root. A node without a neighbour moves up unchanged.
pub(super) struct Tree(Vec<Vec<Hash>>);

impl Tree {
    /// Builds the tree of at least one leaf.
    pub(super) fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last()
            && below.len() > 1
        {
            let up = |pair: &[Hash]| match pair {
                [left, right] => node(left, right),
                other => other[0],
            };
            let level = below.chunks(2).map(up).collect();
            levels.push(level);
        }
        Self(levels)
    }

    pub(super) fn root(&self) -> Hash {
        self.0[self.0.len() - 1][0]
    }

    /// The neighbours on the path from a leaf to the root, and one bit for each: set if it is the left one.
    pub(super) fn path(&self, mut place: usize) -> (u16, Vec<Hash>) {
        let (mut sides, mut path) = (0, Vec::new());
        for level in &self.0[..self.0.len() - 1] {
            if let Some(neighbour) = level.get(place ^ 1) {
                sides |= u16::from(place & 1 == 1) << path.len();
                path.push(*neighbour);
            }
            place /= 2;
        }
        (sides, path)
    }
}

/// The root computed from a leaf and its path; `None` if the path is too long.
pub(super) fn root(leaf: Hash, sides: u16, path: &[Hash]) -> Option<Hash> {
    let step = |below: Hash, (level, neighbour): (usize, &Hash)| match sides >> level & 1 {
        1 => node(neighbour, &below),
        _ => node(&below, neighbour),
    };
    (path.len() <= MAX_PATH).then(|| path.iter().enumerate().fold(leaf, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_leads_to_the_root_and_nothing_else_does() {
        for size in 1..=40 {
            let leaves: Vec<Hash> = (0..size).map(|i: u32| leaf(&i.to_be_bytes())).collect();
            let tree = Tree::new(leaves.clone());
            for (place, hash) in leaves.iter().enumerate() {
                let (sides, path) = tree.path(place);
                assert_eq!(root(*hash, sides, &path), Some(tree.root()), "{place} of {size}");
                assert_ne!(root(leaf(b"another"), sides, &path), Some(tree.root()));
                if size > 1 {
                    assert_ne!(root(*hash, !sides, &path), Some(tree.root()));
                }
            }
        }
        assert_eq!(root([0; 32], 0, &[[0; 32]; MAX_PATH + 1]), None);
    }
}
