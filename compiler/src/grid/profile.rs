//! The distribution of one feature over the calibration rows, and the grid points that follow from it. This module does
//! not use the model.

/// Distance of the outermost points beyond the span, as a multiple of its size; for constant features also the
/// reciprocal distance of the innermost points.
const REACH: f64 = 1024.0;
/// The part of the density of points that follows the sizes of the values; the rest follows quantiles. It places points
/// in the long gaps of heavy tails, where quantiles have none.
const BY_SIZE: f64 = 0.25;
/// A feature is treated as constant if at most one row in this many has another value.
const RARE: usize = 100;
/// From here on, `f64` has no halves.
const NO_HALVES: f64 = (1u64 << 52) as f64;

/// Numbers of points for a feature. They are the same for all features, so that they reveal nothing about a single one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Maximum within the calibrated span.
    pub(super) inside: usize,
    /// Below the span and above it.
    pub(super) beyond: [usize; 2],
    /// For constant features: on each side of the common value.
    pub(super) constant: usize,
}

/// One feature over the calibration rows.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// The distinct values, increasing.
    values: Vec<f64>,
    /// For each value: number of rows with that value or a smaller one.
    at_most: Vec<usize>,
    /// Whether all values are whole numbers, small enough to have halves between them.
    whole: bool,
    /// Whether most values occur repeatedly, as codes and flags do and measurements do not.
    discrete: bool,
    /// See [`Self::is_constant`].
    constant: bool,
    /// The median.
    centre: f64,
    /// Half the median distance of values from the centre. Distances count linearly below it, logarithmically above.
    scale: f64,
}

impl Profile {
    /// The profile of a feature's values, at least one.
    pub(super) fn of(mut column: Vec<f64>) -> Self {
        column.sort_unstable_by(f64::total_cmp);
        let centre = column[column.len() / 2];
        let (mut values, mut at_most) = (Vec::new(), Vec::new());
        for (i, &x) in column.iter().enumerate() {
            // −0 and 0 are one value.
            if values.last() == Some(&x) {
                at_most.pop();
            } else {
                values.push(x);
            }
            at_most.push(i + 1);
        }
        let whole = values.iter().all(|x| x.fract() == 0.0 && x.abs() < NO_HALVES);
        let mut away: Vec<f64> = values.iter().map(|x| (x - centre).abs()).collect();
        away.retain(|x| (f64::MIN_POSITIVE..f64::INFINITY).contains(x));
        away.sort_unstable_by(f64::total_cmp);
        let scale = away.get(away.len() / 2).map_or(1.0, |median| median / 2.0);
        let others = column.iter().filter(|&&x| x != centre).count();
        let constant = others * RARE <= column.len();
        let mut profile = Self { values, at_most, whole, discrete: false, constant, centre, scale };
        let once = (0..profile.values.len()).filter(|&i| profile.occurs(i) == 1).count();
        profile.discrete = 4 * once <= profile.values.len();
        profile
    }

    /// Whether all rows, or all but very few, have the same value. They then show little about other values.
    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }

    pub(super) fn rows(&self) -> usize {
        self.at_most[self.at_most.len() - 1]
    }

    fn occurs(&self, i: usize) -> usize {
        self.at_most[i] - if i > 0 { self.at_most[i - 1] } else { 0 }
    }

    /// Number of rows with a value for which `above` is false. `above` must be monotone.
    pub(super) fn rank(&self, above: impl Fn(f64) -> bool) -> usize {
        match self.values.partition_point(|&x| !above(x)) {
            0 => 0,
            n => self.at_most[n - 1],
        }
    }

    /// Position on a scale that is linear near the centre and logarithmic away from it.
    pub(super) fn position(&self, x: f64) -> f64 {
        ((x - self.centre) / self.scale).clamp(-1e300, 1e300).asinh()
    }

    fn at_position(&self, position: f64) -> f64 {
        self.centre + self.scale * position.sinh()
    }

    /// The calibrated value at the end of the span.
    pub(super) fn edge(&self, above: bool) -> f64 {
        if above { self.values[self.values.len() - 1] } else { self.values[0] }
    }

    /// Whether comparing with `point` is equivalent to comparing with a threshold: no value that the feature is
    /// expected to have lies between them.
    pub(super) fn same(&self, threshold: f64, point: f64) -> bool {
        // One value is weak evidence that all are whole numbers, so the threshold must look like one, too. The
        // threshold of x < 1 is the single-precision number before 1.
        let twice = 2.0 * threshold;
        let halves = || (twice - twice.round()).abs() <= 1e-6 * twice.abs();
        let whole = self.whole && (!self.is_constant() || halves());
        threshold == point || whole && threshold.floor() == point.floor()
    }

    /// Distance of a threshold beyond the span from its point, as a fraction of its distance from the centre, or from
    /// zero if the feature comes close to zero.
    pub(super) fn off(&self, threshold: f64, point: f64) -> f64 {
        if self.same(threshold, point) {
            return 0.0;
        }
        let above = threshold >= self.edge(true);
        let away = match self.comes_close_to_zero(above) {
            true => threshold.abs().max(self.edge(above).abs() / REACH),
            false if self.is_constant() => (threshold - self.centre).abs().max(self.nearest()),
            false => (threshold - self.centre).abs(),
        };
        (point - threshold).abs() / away
    }

    /// Whether all values are on one side of zero and end much closer to it than the centre is.
    fn comes_close_to_zero(&self, above: bool) -> bool {
        let edge = self.edge(above);
        let inwards = if above { edge < 0.0 } else { edge > 0.0 };
        inwards && 4.0 * edge.abs() < self.centre.abs()
    }

    /// For a constant feature: the distance of the first points from its value.
    fn nearest(&self) -> f64 {
        if self.centre == 0.0 { 1.0 / REACH } else { self.centre.abs() / REACH }
    }

    /// The points, increasing.
    pub(super) fn points(&self, counts: Counts) -> Vec<f64> {
        let [below, above] = match self.is_constant() {
            true => [counts.constant; 2],
            false => counts.beyond,
        };
        let mut points = self.beyond(false, below);
        points.extend(self.inside(counts.inside));
        points.extend(self.beyond(true, above));
        points.retain(|x| x.is_finite());
        points.sort_unstable_by(f64::total_cmp);
        points.dedup();
        points
    }

    /// At most `count` points between the values. Each gap between neighbouring values gets points in proportion to its
    /// share of the rows and of the span (on the scale of [`Self::position`]), and at least one if there are enough.
    fn inside(&self, count: usize) -> Vec<f64> {
        let gaps = self.values.len() - 1;
        if gaps == 0 || count == 0 {
            return Vec::new();
        }
        let gap = |g: usize| (self.values[g], self.values[g + 1]);
        // Between whole numbers only the halves differ.
        let room = |g: usize| match (self.whole, gap(g)) {
            (true, (a, b)) => (b - a) as usize,
            (false, _) => usize::MAX,
        };
        let fits = (0..gaps).try_fold(0usize, |sum, g| sum.checked_add(room(g)));
        let shares: Vec<usize> = if fits.is_some_and(|all| all <= count) {
            (0..gaps).map(room).collect()
        } else {
            let each = usize::from(gaps <= count);
            let rest = match self.discrete && each == 1 {
                true => 0,
                false => count - each * gaps,
            };
            let spread = self.spread(count);
            let mut sum = 0.0;
            let mut placed = 0;
            let shares = (0..gaps).map(|g| {
                sum += spread[g];
                let next = (sum * rest as f64 + 0.5) as usize;
                let share = each + next - placed;
                placed = next;
                share.min(room(g))
            });
            shares.collect()
        };
        (0..gaps).flat_map(|g| self.between(gap(g), shares[g])).collect()
    }

    /// The share of points for each gap.
    fn spread(&self, count: usize) -> Vec<f64> {
        let gaps = self.values.len() - 1;
        // A value of many rows counts as one cell: more points next to it would separate nothing.
        let mut cap = self.rows() as f64;
        for _ in 0..8 {
            let all = (0..=gaps).map(|i| (self.occurs(i) as f64).min(cap)).sum::<f64>();
            cap = (all / count as f64).max(1.0);
        }
        let rows = |i: usize| (self.occurs(i) as f64).min(cap);
        let rows: Vec<f64> = (0..gaps).map(|g| rows(g) + rows(g + 1)).collect();
        let sizes: Vec<f64> = (0..gaps)
            .map(|g| self.position(self.values[g + 1]) - self.position(self.values[g]))
            .collect();
        let total = |parts: &[f64]| parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let (all_rows, all_sizes) = (total(&rows), total(&sizes));
        (0..gaps)
            .map(|g| (1.0 - BY_SIZE) * rows[g] / all_rows + BY_SIZE * sizes[g] / all_sizes)
            .collect()
    }

    /// `count` points that separate two neighbouring values.
    fn between(&self, (a, b): (f64, f64), count: usize) -> impl Iterator<Item = f64> + '_ {
        let (from, to) = (self.position(a), self.position(b));
        (0..count).map(move |i| {
            let part = (i as f64 + 0.5) / count as f64;
            let point = if self.whole {
                (a + (b - a) * part).floor() + 0.5
            } else if count == 1 {
                a / 2.0 + b / 2.0
            } else {
                self.at_position(from + (to - from) * part)
            };
            // If there is no number between them, x > a separates them as well.
            if (a..b).contains(&point) { point } else { a }
        })
    }

    /// Points on one side of the span, at increasing distances.
    fn beyond(&self, above: bool, count: usize) -> Vec<f64> {
        let edge = if self.is_constant() { self.centre } else { self.edge(above) };
        let sign = if above { 1.0 } else { -1.0 };
        let points: Vec<f64> = if self.is_constant() {
            let far = if edge == 0.0 { REACH * REACH } else { edge.abs() * REACH };
            let ratio = far / self.nearest();
            let part = |i: usize| i as f64 / count.saturating_sub(1).max(1) as f64;
            (0..count).map(|i| edge + sign * self.nearest() * ratio.powf(part(i))).collect()
        } else if self.comes_close_to_zero(above) {
            // Towards zero, and then away from it on the other side.
            let close = count.div_ceil(2);
            let towards = (1..close).map(|i| edge * REACH.powf(-(i as f64) / close as f64));
            let ratio = self.centre.abs() * REACH / edge.abs();
            let rest = count - close;
            let across = (1..=rest).map(|i| -edge * ratio.powf(i as f64 / rest as f64));
            towards.chain((count > 0).then_some(0.0)).chain(across).collect()
        } else {
            let near = (edge - self.centre).abs().max(self.scale);
            let ratio = near.max(edge.abs()) / near * REACH;
            // More densely near the span, where more values are expected.
            let part = |i: usize| (i as f64 / count as f64).powi(2);
            (1..=count).map(|i| self.centre + sign * near * ratio.powf(part(i))).collect()
        };
        // A feature that was always 0 may later be a fraction near 0; further away it is more often a count.
        let snaps = |x: f64| self.whole && (!self.is_constant() || (x - edge).abs() >= 1.0);
        let halfway = |x: f64| match (snaps(x), above) {
            (true, true) => x.floor() + 0.5,
            (true, false) => x.ceil() - 0.5,
            (false, _) => x,
        };
        // All, or almost all, calibrated values are on one side.
        let outside = |&x: &f64| if above { x >= edge } else { x < edge };
        points.into_iter().map(halfway).filter(outside).collect()
    }
}
