//! Lowers ensembles of decision trees to two layers: tables over small integers made of comparisons, and their sum.
//!
//! Each comparison `x > t` is a bit that the client encrypts (see [`crate::grid`]), so it costs no bootstrap. A tree is
//! cut into parts that depend on few bits. A weighted sum of these bits is a different integer for each combination
//! that can occur, and one Lookup maps it to the leaf's value, or to zero if the path leads elsewhere. A tree is the
//! sum of its parts, the ensemble the sum of its trees.

mod bins;
mod cut;
mod simplify;

use std::collections::HashMap;

use crate::network::{Activation, Activations, Affine, Matrix, Sparse};

/// Maximum depth of a tree.
pub(crate) const MAX_DEPTH: usize = 6;

/// Bits of tables to try, each with the cost of one Lookup with a table of this size, under the cheapest parameter set
/// that can hold it.
const TABLE_BITS: [(u32, f64); 2] = [(3, 0.72), (4, 1.05)];

/// Whether feature `feature` is above `threshold`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) feature: usize,
    pub(crate) threshold: f64,
}

/// A node and its subtrees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// The values that the tree adds to its outputs: (output, value), outputs increasing.
    Leaf(Vec<(usize, f64)>),
    /// Continues with the first subtree if the comparison is false, with the second if it is true.
    Split(Comparison, Box<[Tree; 2]>),
}

impl Tree {
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Split(_, children) => 1 + children[0].depth().max(children[1].depth()),
        }
    }

    /// Number of splits and leaves.
    pub(crate) fn nodes(&self) -> usize {
        match self {
            Self::Leaf(_) => 1,
            Self::Split(_, children) => 1 + children[0].nodes() + children[1].nodes(),
        }
    }

    /// The outputs that the tree adds to, possibly repeated.
    fn outputs(&self, all: &mut Vec<usize>) {
        match self {
            Self::Leaf(values) => all.extend(values.iter().map(|&(output, _)| output)),
            Self::Split(_, children) => children.iter().for_each(|child| child.outputs(all)),
        }
    }

    /// The lowest and highest value that the tree adds to an output.
    fn bounds(&self, output: usize) -> (f64, f64) {
        match self {
            Self::Leaf(values) => {
                let value = value_of(values, output);
                (value, value)
            }
            Self::Split(_, children) => {
                let (a, b) = (children[0].bounds(output), children[1].bounds(output));
                (a.0.min(b.0), a.1.max(b.1))
            }
        }
    }
}

fn value_of(values: &[(usize, f64)], output: usize) -> f64 {
    values.binary_search_by_key(&output, |&(o, _)| o).map_or(0.0, |place| values[place].1)
}

/// A sum of trees.
pub(crate) struct Ensemble {
    pub(crate) features: usize,
    pub(crate) trees: Vec<Tree>,
    /// Added to each output.
    pub(crate) base: Vec<f64>,
}

/// An ensemble as layers.
pub(crate) struct Lowered {
    /// From the features to the comparisons, which [`Activation::Step`] turns into bits.
    pub(crate) comparisons: Affine,
    /// From the bits to the integers of the tables.
    pub(crate) codes: Affine,
    pub(crate) tables: Activations,
    /// From the tables' values to the outputs.
    pub(crate) sums: Affine,
    /// Lower and upper bound of each output.
    pub(crate) bounds: Vec<(f64, f64)>,
}

/// Number of Lookups of a tree of any depth.
pub(crate) fn cost(tree: &Tree) -> usize {
    cut::parts(&simplify::simplify(tree), TABLE_BITS[TABLE_BITS.len() - 1].0).len()
}

impl Ensemble {
    /// Lowers the trees, with the table size that makes the ensemble cheapest.
    pub(crate) fn lower(&self) -> Lowered {
        let trees: Vec<Tree> = self.trees.iter().map(simplify::simplify).collect();
        let mut base = self.base.clone();
        for tree in &trees {
            if let Tree::Leaf(values) = tree {
                values.iter().for_each(|&(output, value)| base[output] += value);
            }
        }
        let cheapest = TABLE_BITS
            .iter()
            .map(|&(bits, cost)| {
                let mut constants = base.clone();
                let lookups = bins::lookups(&trees, bits, &mut constants);
                (lookups.len() as f64 * cost, lookups, constants)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let (lookups, base) =
            cheapest.map_or((Vec::new(), base), |(_, lookups, base)| (lookups, base));
        let mut known = Comparisons::default();
        let mut codes = Vec::new();
        let mut tables = Vec::new();
        let mut sums = vec![Vec::new(); self.base.len()];
        for (index, lookup) in lookups.iter().enumerate() {
            codes.push(lookup.code(&mut known));
            tables.push(Activation::Table(lookup.table.clone()));
            sums[lookup.output].push(index);
        }
        let affine = |columns: usize, rows: Vec<(Vec<(usize, f64)>, f64)>| {
            let mut matrix = Sparse::new(columns.max(1));
            let mut bias = Vec::new();
            for (row, constant) in rows {
                row.into_iter().for_each(|(column, weight)| matrix.push(column, weight));
                matrix.end_row();
                bias.push(constant);
            }
            Affine { matrix: Matrix::Sparse(matrix), bias }
        };
        // A constant ensemble becomes one table of zeros.
        if tables.is_empty() {
            known.find(Comparison { feature: 0, threshold: 0.0 });
            codes.push((Vec::new(), 0.0));
            tables.push(Activation::Table(vec![0.0, 0.0]));
        }
        let of = (0..tables.len() as u32).collect();
        let comparisons =
            known.all.iter().map(|c| (vec![(c.feature, 1.0)], -c.threshold)).collect();
        let sums = sums.into_iter().zip(base);
        let sums = sums.map(|(row, base)| (row.into_iter().map(|i| (i, 1.0)).collect(), base));
        Lowered {
            comparisons: affine(self.features, comparisons),
            codes: affine(known.all.len(), codes),
            sums: affine(tables.len(), sums.collect()),
            tables: Activations::each(tables, of),
            bounds: (0..self.base.len()).map(|output| self.bounds(output)).collect(),
        }
    }

    fn bounds(&self, output: usize) -> (f64, f64) {
        let start = (self.base[output], self.base[output]);
        self.trees.iter().map(|tree| tree.bounds(output)).fold(start, |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// The comparisons in use, without duplicates.
#[derive(Default)]
struct Comparisons {
    all: Vec<Comparison>,
    known: HashMap<(usize, u64), usize>,
}

impl Comparisons {
    fn find(&mut self, comparison: Comparison) -> usize {
        let key = (comparison.feature, comparison.threshold.to_bits());
        *self.known.entry(key).or_insert_with(|| {
            self.all.push(comparison);
            self.all.len() - 1
        })
    }
}
