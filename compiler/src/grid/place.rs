//! Assigns a point of the grid to each threshold of the model.

use super::profile::{Counts, Profile};
use crate::network::{Affine, Matrix, Sparse};

/// A row of the layer of comparisons.
pub(super) enum Comparison {
    /// True or false for every input.
    Known(bool),
    /// Compares a feature with a threshold.
    With(Threshold),
}

/// x > `at`, or its opposite.
pub(super) struct Threshold {
    pub(super) feature: usize,
    pub(super) at: f64,
    /// Number of calibration rows whose value is not above it.
    rank: usize,
    negated: bool,
}

impl Comparison {
    /// w·x + b > 0, with the row's only weight w that is not zero.
    pub(super) fn of(affine: &Affine, row: usize, profiles: &[Profile]) -> Self {
        let bias = affine.bias[row];
        let Some((feature, weight)) = affine.matrix.row(row).find(|&(_, w)| w != 0.0) else {
            return Self::Known(bias > 0.0);
        };
        let negated = weight < 0.0;
        // The rank is computed with the comparison itself, so that calibrated values equal to the threshold are on the
        // same side as in the model, however the division rounds.
        let holds = |x: f64| weight * x + bias > 0.0;
        let rank = profiles[feature].rank(|x| holds(x) != negated);
        let at = -bias / weight;
        let at = if negated { at.next_down() } else { at };
        Self::With(Threshold { feature, at, rank, negated })
    }
}

impl Threshold {
    /// 0 if all calibration rows are above the threshold, 1 if none is.
    pub(super) fn side(&self, profile: &Profile) -> Option<usize> {
        match self.rank {
            0 => Some(0),
            rank => (rank == profile.rows()).then_some(1),
        }
    }
}

/// The result of a comparison: a constant, or a column of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Constant(bool),
    At { column: usize, negated: bool },
}

/// The points of one feature.
pub(super) struct Axis<'a> {
    profile: &'a Profile,
    pub(super) points: Vec<f64>,
    /// For each point: number of calibration rows whose value is not above it.
    ranks: Vec<usize>,
}

impl<'a> Axis<'a> {
    pub(super) fn new(profile: &'a Profile, counts: Counts) -> Self {
        let points = profile.points(counts);
        let ranks = points.iter().map(|&point| profile.rank(|x| x > point)).collect();
        Self { profile, points, ranks }
    }

    /// The point for a threshold, if any: the one with the fewest calibration rows in between, and of those the
    /// closest. A greater threshold never gets a smaller point.
    pub(super) fn nearest(&self, threshold: &Threshold) -> Option<usize> {
        let Threshold { at, rank, .. } = *threshold;
        let after = self.ranks.partition_point(|&r| r < rank);
        let found = self.ranks.get(after) == Some(&rank);
        if !found && (rank == 0 || rank == self.profile.rows()) {
            return None;
        }
        let like = |r: usize| {
            let start = self.ranks.partition_point(|&other| other < r);
            start..self.ranks.partition_point(|&other| other <= r)
        };
        let mut candidates = after..after;
        if let Some(&r) = self.ranks.get(after) {
            candidates = like(r);
        }
        if !found && after > 0 {
            let r = self.ranks[after - 1];
            match self.ranks.get(after).map(|next| (rank - r).cmp(&(next - rank))) {
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Equal) => candidates.start = like(r).start,
                Some(std::cmp::Ordering::Less) | None => candidates = like(r),
            }
        }
        let position = |x: f64| self.profile.position(x);
        let distance = |&i: &usize| (position(self.points[i]) - position(at)).abs();
        let split = candidates.start
            + self.points[candidates.clone()].partition_point(|&point| point <= at);
        let around = split.saturating_sub(1).max(candidates.start)..(split + 1).min(candidates.end);
        let best = around.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        (!self.is_far_out(best, at, rank)).then_some(best)
    }

    /// Whether a threshold is so far beyond the outermost point that it is treated as infinite.
    fn is_far_out(&self, point: usize, at: f64, rank: usize) -> bool {
        let above = rank == self.profile.rows();
        let (outer, beyond, inner) = match above {
            true => (point + 1 == self.points.len(), at > self.points[point], point.checked_sub(1)),
            false => (rank == 0 && point == 0, at < self.points[point], Some(point + 1)),
        };
        if !outer || !beyond {
            return false;
        }
        let edge = self.profile.edge(above);
        let inner = inner.and_then(|i| self.points.get(i)).copied().unwrap_or(edge);
        let position = |x: f64| self.profile.position(x);
        let step = (position(self.points[point]) - position(inner)).abs();
        (position(at) - position(self.points[point])).abs() > step
    }

    /// The place of a comparison, if the feature's comparisons begin at column `start`.
    pub(super) fn place(&self, threshold: &Threshold, start: usize) -> Place {
        let negated = threshold.negated;
        match self.nearest(threshold) {
            Some(point) => Place::At { column: start + point, negated },
            // The result on most calibration rows.
            None => Place::Constant((2 * threshold.rank < self.profile.rows()) != negated),
        }
    }
}

/// Rewrites an affine function of comparisons for comparisons at `places` among `columns`.
pub(super) fn read_through(affine: &Affine, places: &[Place], columns: usize) -> Affine {
    let mut matrix = Sparse::new(columns);
    let mut bias = affine.bias.clone();
    for (r, bias) in bias.iter_mut().enumerate() {
        let mut row = std::collections::BTreeMap::<usize, f64>::new();
        for (c, weight) in affine.matrix.row(r) {
            match places[c] {
                Place::Constant(value) => *bias += weight * f64::from(u8::from(value)),
                Place::At { column, negated } => {
                    let weight = if negated {
                        *bias += weight;
                        -weight
                    } else {
                        weight
                    };
                    *row.entry(column).or_default() += weight;
                }
            }
        }
        row.into_iter().for_each(|(column, weight)| matrix.push(column, weight));
        matrix.end_row();
    }
    Affine { matrix: Matrix::Sparse(matrix), bias }
}
