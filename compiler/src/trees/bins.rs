//! Combines parts of trees that add to the same output in common tables: a table over the bits of both costs as much as
//! a table over the bits of one.

use std::collections::HashMap;

use super::cut::{Bits, Part, parts};
use super::{Comparison, Comparisons, Tree};

/// Maximum number of open bins, and of full bins, that are tried for a part.
const CANDIDATES: usize = 256;

/// One Lookup.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    pub(super) output: usize,
    bits: Bits,
    /// The path, for a part whose path is counted.
    path: Vec<(Comparison, bool)>,
    /// A value for each state of the bits, for each number of comparisons on the path with another result.
    pub(super) table: Vec<f64>,
}

/// The Lookups of trees with tables of `bits` bits. Constant ones are added to `constants` instead, which has one value
/// for each output.
pub(super) fn lookups(trees: &[Tree], bits: u32, constants: &mut [f64]) -> Vec<Bin> {
    let parts: Vec<Part<'_>> = trees.iter().flat_map(|tree| parts(tree, bits)).collect();
    let mut parts_of = vec![Vec::new(); constants.len()];
    for part in &parts {
        let mut outputs = Vec::new();
        part.tree.outputs(&mut outputs);
        outputs.sort_unstable();
        outputs.dedup();
        outputs.into_iter().for_each(|output| parts_of[output].push(part));
    }
    let mut all = Vec::new();
    for (output, (constant, parts)) in constants.iter_mut().zip(&parts_of).enumerate() {
        for bin in fill(parts, output, 1 << bits) {
            if bin.table.iter().all(|value| *value == bin.table[0]) {
                *constant += bin.table[0];
            } else {
                all.push(bin);
            }
        }
    }
    all
}

/// First fit, largest first, into the bin that grows least: among the last open bins, and the last full bins that
/// contain the part's first comparison.
fn fill(parts: &[&Part<'_>], output: usize, most: usize) -> Vec<Bin> {
    let mut alone: Vec<Bin> = parts.iter().filter_map(|part| Bin::new(part, output)).collect();
    alone.sort_by_key(|bin| std::cmp::Reverse(bin.table.len()));
    let mut bins: Vec<Bin> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut full: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for bin in alone {
        // A part with a counted path does not share its table.
        if !bin.path.is_empty() {
            bins.push(bin);
            continue;
        }
        let none = Vec::new();
        let full_too = bin.bits.comparisons().next().and_then(|first| full.get(&first));
        let into = last(&open)
            .iter()
            .chain(last(full_too.unwrap_or(&none)))
            .map(|&i| (i, bins[i].bits.states_with(&bin.bits), bins[i].table.len()))
            .filter(|&(_, states, _)| states <= most)
            .min_by_key(|&(i, states, before)| (states - before, states, i));
        let i = match into {
            Some((i, ..)) => {
                bins[i].add(&bin);
                i
            }
            None => {
                bins.push(bin);
                open.push(bins.len() - 1);
                bins.len() - 1
            }
        };
        if bins[i].bits.states_at_least_with_another() > most
            && let Some(place) = open.iter().rposition(|&other| other == i)
        {
            open.remove(place);
            for comparison in bins[i].bits.comparisons() {
                full.entry(comparison).or_default().push(i);
            }
        }
    }
    bins
}

/// The last bins, which are the ones that are tried.
fn last(bins: &[usize]) -> &[usize] {
    &bins[bins.len().saturating_sub(CANDIDATES)..]
}

impl Bits {
    /// Feature and threshold of each comparison.
    fn comparisons(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let of = |(feature, thresholds): &'_ (usize, Vec<f64>)| {
            let feature = *feature;
            thresholds.iter().map(|t| (feature, t.to_bits())).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of)
    }

    /// The number of states of the union of both.
    fn states_with(&self, other: &Self) -> usize {
        other.0.iter().fold(self.states(), |states, (feature, thresholds)| {
            let own = self.0.binary_search_by_key(feature, |&(f, _)| f);
            let own = own.map_or(&[][..], |place| &self.0[place].1);
            let more = thresholds.iter().filter(|t| !own.contains(t)).count();
            states / (own.len() + 1) * (own.len() + 1 + more)
        })
    }

    /// The minimum number of states with any further comparison.
    fn states_at_least_with_another(&self) -> usize {
        let longest = self.0.iter().map(|(_, thresholds)| thresholds.len() + 1).max();
        let longest = longest.unwrap_or(1);
        self.states() / longest * (longest + 1)
    }
}

impl Bin {
    /// A bin with one part; `None` if it adds nothing to this output.
    fn new(part: &Part<'_>, output: usize) -> Option<Self> {
        let path = if part.counts_path { part.path.clone() } else { Vec::new() };
        let states = part.bits.states();
        let value = |code: usize| {
            let counts = part.bits.counts(code % states);
            part.value(&part.bits, &counts, code / states, output)
        };
        let table: Vec<f64> = (0..states * (path.len() + 1)).map(value).collect();
        let something = table.iter().any(|&value| value != 0.0);
        something.then(|| Self { output, bits: part.bits.clone(), path, table })
    }

    fn add(&mut self, other: &Self) {
        let bits = self.bits.union(&other.bits);
        let value = |bin: &Self, counts: &[usize]| {
            let mut stride = 1;
            let mut code = 0;
            for (feature, thresholds) in &bin.bits.0 {
                let above = |&&t: &&f64| {
                    bits.result(counts, Comparison { feature: *feature, threshold: t })
                };
                code += stride * thresholds.iter().filter(above).count();
                stride *= thresholds.len() + 1;
            }
            bin.table[code]
        };
        let table = (0..bits.states()).map(|state| {
            let counts = bits.counts(state);
            value(self, &counts) + value(other, &counts)
        });
        self.table = table.collect();
        self.bits = bits;
    }

    /// The integer that the table takes, as an affine function of comparisons.
    pub(super) fn code(&self, comparisons: &mut Comparisons) -> (Vec<(usize, f64)>, f64) {
        let mut row = Vec::new();
        let mut constant = 0.0;
        let mut stride = 1.0;
        for (feature, thresholds) in &self.bits.0 {
            for &threshold in thresholds {
                row.push((comparisons.find(Comparison { feature: *feature, threshold }), stride));
            }
            stride *= (thresholds.len() + 1) as f64;
        }
        for &(comparison, result) in &self.path {
            // Adds one where the comparison has another result.
            let weight = if result { -stride } else { stride };
            constant += if result { stride } else { 0.0 };
            row.push((comparisons.find(comparison), weight));
        }
        row.sort_by_key(|&(column, _)| column);
        (row, constant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(feature: usize, threshold: f64) -> Tree {
        let leaf = |value| Tree::Leaf(vec![(0, value)]);
        Tree::Split(Comparison { feature, threshold }, Box::new([leaf(1.0), leaf(2.0)]))
    }

    #[test]
    fn states_with_others_are_those_of_the_union() {
        let bits = |of: &[(usize, f64)]| {
            let mut bits = Bits::default();
            for &(feature, threshold) in of {
                bits.insert(Comparison { feature, threshold });
            }
            bits
        };
        let all = [(0, 1.0), (0, 2.0), (1, 1.0), (3, 0.0), (3, -1.0)];
        for split in 0..all.len() {
            for end in split..=all.len() {
                let (a, b) = (bits(&all[..end]), bits(&all[split..]));
                assert_eq!(a.states_with(&b), a.union(&b).states());
            }
        }
        assert_eq!(bits(&all).states_at_least_with_another(), 3 * 2 * 4);
    }

    #[test]
    fn parts_go_to_the_bins_that_have_their_comparisons_already() {
        // Three features fill a table of three bits; each comparison returns after many other full tables.
        let again = |times: usize| (0..times).flat_map(|_| (0..1500).map(|f| stump(f, 0.5)));
        let (once, thrice) = (again(1).collect::<Vec<_>>(), again(3).collect::<Vec<_>>());
        let count = |trees: &[Tree]| lookups(trees, 3, &mut [0.0]).len();
        assert_eq!(count(&once), 500);
        assert_eq!(count(&thrice), 500);
    }

    #[test]
    fn parts_are_of_the_outputs_that_their_leaves_have() {
        let one = |output| {
            let leaf = |value| Tree::Leaf(vec![(output, value)]);
            Tree::Split(Comparison { feature: 0, threshold: 0.0 }, Box::new([leaf(1.0), leaf(2.0)]))
        };
        let bins = lookups(&[one(2), one(0), one(2)], 3, &mut [0.0; 4]);
        let outputs = bins.iter().map(|bin| (bin.output, bin.table.clone())).collect::<Vec<_>>();
        assert_eq!(outputs, [(0, vec![1.0, 2.0]), (2, vec![2.0, 4.0])]);
    }
}
