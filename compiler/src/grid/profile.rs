//! What calibration rows show of one feature, and the points that follow from it. Nothing here knows the model.

/// How far the outermost points lie beyond the span, as a multiple of its size; for features that are constant also
/// how near the innermost lie.
const REACH: f64 = 1024.0;
/// How much of the density of points follows the values' sizes, the rest being that of quantiles: a share for sizes
/// divides the long gaps of heavy tails, in which quantiles have no point.
const BY_SIZE: f64 = 0.25;
/// A feature is taken for constant if at most one row in so many has another value.
const RARE: usize = 100;
/// From here on, numbers of 64 bits have no halves.
const NO_HALVES: f64 = (1u64 << 52) as f64;

/// How many points a feature is compared with. The same for all features, so that it says nothing of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Most within the calibrated span.
    pub(super) inside: usize,
    /// Below the span and above it.
    pub(super) beyond: [usize; 2],
    /// On each side of the value that all calibration rows have, or all but very few.
    pub(super) constant: usize,
}

/// One feature over the calibration rows.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// Its values, each once, increasing.
    values: Vec<f64>,
    /// How many rows have that value or a smaller one.
    at_most: Vec<usize>,
    /// All values are whole numbers, small enough to have numbers between them.
    whole: bool,
    /// Most values occur repeatedly: codes and flags, rather than measurements.
    discrete: bool,
    /// See [`Self::is_constant`].
    constant: bool,
    /// The median.
    centre: f64,
    /// Half the median distance of values from the centre: closer to it distances count as they are, beyond it by
    /// their logarithm.
    scale: f64,
}

impl Profile {
    /// Of a feature's values, of which there is one at least.
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

    /// Whether all rows have the same value, or all but very few: then they say little of the others.
    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }

    pub(super) fn rows(&self) -> usize {
        self.at_most[self.at_most.len() - 1]
    }

    fn occurs(&self, i: usize) -> usize {
        self.at_most[i] - if i > 0 { self.at_most[i - 1] } else { 0 }
    }

    /// How many rows have a value that `above` is false of, where it is true of all greater ones.
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

    /// Whether comparing with `point` is as good as with a threshold: no value that the feature may be expected to have
    /// lies between them.
    pub(super) fn same(&self, threshold: f64, point: f64) -> bool {
        // One value is a weak sign that all are whole numbers: the threshold must look so, too. That of x < 1 is the
        // number of single precision before 1.
        let twice = 2.0 * threshold;
        let halves = || (twice - twice.round()).abs() <= 1e-6 * twice.abs();
        let whole = self.whole && (!self.is_constant() || halves());
        threshold == point || whole && threshold.floor() == point.floor()
    }

    /// How far a threshold beyond the span is from the point that stands for it, as a fraction of its distance from
    /// the centre, or from zero if the feature comes close to that.
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

    /// Whether the values are all on one side of zero and, at that end, much closer to it than the centre is.
    fn comes_close_to_zero(&self, above: bool) -> bool {
        let edge = self.edge(above);
        let inwards = if above { edge < 0.0 } else { edge > 0.0 };
        inwards && 4.0 * edge.abs() < self.centre.abs()
    }

    /// Of a feature that is constant, the distance of the first points from it.
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

    /// At most `count` points between the values: as many in each gap between neighbouring values as its share of the
    /// rows and of the span on the scale of [`Self::position`] says, and one in each if there are enough.
    fn inside(&self, count: usize) -> Vec<f64> {
        let gaps = self.values.len() - 1;
        if gaps == 0 || count == 0 {
            return Vec::new();
        }
        let gap = |g: usize| (self.values[g], self.values[g + 1]);
        // Between whole numbers only those halfway tell anything.
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

    /// The share of points that each gap gets.
    fn spread(&self, count: usize) -> Vec<f64> {
        let gaps = self.values.len() - 1;
        // A value that many rows have counts as one cell: more points beside it would tell nothing more.
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
            // x > a separates them as well, should there be no number between.
            if (a..b).contains(&point) { point } else { a }
        })
    }

    /// Points on one side of the span, ever further apart.
    fn beyond(&self, above: bool, count: usize) -> Vec<f64> {
        let edge = if self.is_constant() { self.centre } else { self.edge(above) };
        let sign = if above { 1.0 } else { -1.0 };
        let points: Vec<f64> = if self.is_constant() {
            let far = if edge == 0.0 { REACH * REACH } else { edge.abs() * REACH };
            let ratio = far / self.nearest();
            let part = |i: usize| i as f64 / count.saturating_sub(1).max(1) as f64;
            (0..count).map(|i| edge + sign * self.nearest() * ratio.powf(part(i))).collect()
        } else if self.comes_close_to_zero(above) {
            // Closer and closer to zero, and then away from it on the other side.
            let close = count.div_ceil(2);
            let towards = (1..close).map(|i| edge * REACH.powf(-(i as f64) / close as f64));
            let ratio = self.centre.abs() * REACH / edge.abs();
            let rest = count - close;
            let across = (1..=rest).map(|i| -edge * ratio.powf(i as f64 / rest as f64));
            towards.chain((count > 0).then_some(0.0)).chain(across).collect()
        } else {
            let near = (edge - self.centre).abs().max(self.scale);
            let ratio = near.max(edge.abs()) / near * REACH;
            // More densely close to the span, since more values are there.
            let part = |i: usize| (i as f64 / count as f64).powi(2);
            (1..=count).map(|i| self.centre + sign * near * ratio.powf(part(i))).collect()
        };
        // What is constantly 0 may be a fraction later, close to 0; further away it is more often a count.
        let snaps = |x: f64| self.whole && (!self.is_constant() || (x - edge).abs() >= 1.0);
        let halfway = |x: f64| match (snaps(x), above) {
            (true, true) => x.floor() + 0.5,
            (true, false) => x.ceil() - 0.5,
            (false, _) => x,
        };
        // All calibrated values are on one side, or almost all.
        let outside = |&x: &f64| if above { x >= edge } else { x < edge };
        points.into_iter().map(halfway).filter(outside).collect()
    }
}
