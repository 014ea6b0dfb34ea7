//! Many-LUT bootstrap: several Lookups of one value that share a blind rotation.
//!
//! The result of a blind rotation is a whole polynomial: coefficient 0 is the table's entry for x, coefficient *d* the
//! entry for x + *d*/2*N*. Lookups of one value whose tables are rotations of one another (for example sine and cosine)
//! therefore need one bootstrap, and one sample extraction each, which is cheap. Consecutive matrix rows that are
//! equal, with equal biases, are one value.

use crate::{Lookup, Stage};
use std::collections::HashMap;

/// Maximum number of values that share one bootstrap. It bounds the results of a shard.
const MOST_TOGETHER: usize = 16;

/// The bootstrap that a value's result is extracted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The value that is bootstrapped, possibly this one.
    pub(crate) leader: usize,
    /// d such that entry i of this value's table is entry i + d of the leader's, where a table continues negated after
    /// its end. Below twice the length of a table.
    pub(crate) ahead: usize,
}

impl Stage {
    /// For each value: the value whose bootstrap it shares. Takes time linear in the size of the stage, because
    /// programs can come from untrusted senders.
    pub(crate) fn shares(&self) -> Vec<Share> {
        let Some(lookup) = &self.lookup else {
            return Vec::new();
        };
        let mut classes = Classes { known: HashMap::new(), of: vec![None; lookup.tables.len()] };
        let mut shares: Vec<Share> = Vec::with_capacity(lookup.table_of.len());
        for value in 0..lookup.table_of.len() {
            let mut share = Share { leader: value, ahead: 0 };
            let leader = if value > 0 { shares[value - 1].leader } else { 0 };
            let together = value > 0 && value - leader < MOST_TOGETHER;
            if together
                && self.same_rows(value - 1, value)
                && let Some(ahead) = classes.ahead(lookup, leader, value)
            {
                share = Share { leader, ahead };
            }
            shares.push(share);
        }
        shares
    }

    fn same_rows(&self, a: usize, b: usize) -> bool {
        let matrix = &self.linear.matrix;
        self.linear.bias[a] == self.linear.bias[b] && matrix.row(a).eq(matrix.row(b))
    }
}

/// Classes of tables that are rotations of one another.
struct Classes {
    known: HashMap<Vec<u64>, usize>,
    /// For each table that was looked up: its class, and where the class's least rotation begins in it.
    of: Vec<Option<(usize, usize)>>,
}

impl Classes {
    /// By how many entries the table of `value` is ahead of that of `leader`; `None` if it is not a rotation of it.
    fn ahead(&mut self, lookup: &Lookup, leader: usize, value: usize) -> Option<usize> {
        let (leader, value) = (lookup.table_of[leader], lookup.table_of[value]);
        if leader == Lookup::PASS || value == Lookup::PASS {
            return None;
        }
        let period = 2 * lookup.tables.first()?.len();
        let (of_leader, leader) = self.class(lookup, leader as usize);
        let (of_value, value) = self.class(lookup, value as usize);
        (of_leader == of_value).then(|| (period + leader - value) % period)
    }

    fn class(&mut self, lookup: &Lookup, table: usize) -> (usize, usize) {
        if let Some(found) = self.of[table] {
            return found;
        }
        let entries = &lookup.tables[table];
        let start = least_rotation(entries);
        let least = (0..entries.len()).map(|i| entry(entries, start + i)).collect();
        let next = self.known.len();
        let class = *self.known.entry(least).or_insert(next);
        self.of[table] = Some((class, start));
        (class, start)
    }
}

/// The start of a table's lexicographically least rotation. Two candidates are compared; at the first difference, the
/// greater one skips all starts up to there.
fn least_rotation(table: &[u64]) -> usize {
    let period = 2 * table.len();
    let (mut a, mut b, mut same) = (0, 1, 0);
    while a < period && b < period && same < period {
        let (x, y) = (entry(table, a + same), entry(table, b + same));
        if x == y {
            same += 1;
            continue;
        }
        if x > y {
            a += same + 1;
        } else {
            b += same + 1;
        }
        b += usize::from(a == b);
        same = 0;
    }
    a.min(b)
}

/// The entry at `index` of a table that continues negated after its end and repeats after twice its length.
fn entry(table: &[u64], index: usize) -> u64 {
    let entry = table[index % table.len()];
    if (index / table.len()).is_multiple_of(2) { entry } else { entry.wrapping_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rotations_are_found_where_there_are_any(
            from in proptest::collection::vec(0u64..3, 8),
            to in proptest::collection::vec(0u64..3, 8),
            rotate in proptest::option::of(0usize..16),
        ) {
            let to: Vec<u64> =
                rotate.map_or(to, |by| (0..8).map(|i| entry(&from, i + by)).collect());
            let lookup = Lookup { tables: vec![from.clone(), to.clone()], table_of: vec![0, 1] };
            let mut classes = Classes { known: HashMap::new(), of: vec![None; 2] };
            let found = classes.ahead(&lookup, 0, 1);
            let is = |by: usize| (0..8).all(|i| to[i] == entry(&from, i + by));
            prop_assert_eq!(found.is_some(), (0..16).any(is));
            prop_assert!(found.is_none_or(is));
        }
    }
}
