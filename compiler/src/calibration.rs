//! Ranges of a network's values over the calibration rows.

use crate::Error;
use crate::network::{Matrix, Network};
use crate::quantise::{FirstLayer, TABLE_ROOM};
use crate::rounding::Correlation;
use rayon::prelude::*;
use std::sync::Arc;

/// A span that fills less than this part of its possible range is treated as insufficiently observed.
const SELDOM: f64 = 0.125;

/// Range and moments of one value over the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) low: f64,
    pub(crate) high: f64,
    sum: f64,
    squares: f64,
    count: f64,
    /// Whether all values are whole numbers.
    pub(crate) whole: bool,
}

impl Span {
    const EMPTY: Self = Self {
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
        sum: 0.0,
        squares: 0.0,
        count: 0.0,
        whole: true,
    };

    fn add(&mut self, x: f64) {
        let whole = x.fract() == 0.0;
        self.merge(Self { low: x, high: x, sum: x, squares: x * x, count: 1.0, whole });
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.sum += other.sum;
        self.squares += other.squares;
        self.count += other.count;
        self.whole &= other.whole;
    }

    /// The span of each column. All rows have the same length.
    pub(crate) fn of_columns(rows: &[&[f64]]) -> Vec<Self> {
        let mut spans = vec![Self::EMPTY; rows.first().map_or(0, |row| row.len())];
        for row in rows {
            spans.iter_mut().zip(*row).for_each(|(span, &x)| span.add(x));
        }
        spans
    }

    /// Widens the span to `ends`, the activated ends of the frame, if the rows cover little of that range. A comparison
    /// that rarely changes in calibration must not be lost when it does.
    fn reach(&mut self, ends: [f64; 2]) {
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        if self.range() < SELDOM * (high - low) && (high - low).is_finite() {
            self.low = self.low.min(low);
            self.high = self.high.max(high);
        }
    }

    pub(crate) fn range(self) -> f64 {
        self.high - self.low
    }

    /// The range to reserve, because other rows go further than calibration rows: at least the observed range plus
    /// `margin` of it on both sides, and at least `sigmas` standard deviations around the mean, which dominates for few
    /// rows.
    pub(crate) fn widened(self, margin: f64, sigmas: f64) -> (f64, f64) {
        let mean = self.sum / self.count;
        let spread = sigmas * (self.squares / self.count - mean * mean).max(0.0).sqrt();
        let margin = margin * self.range();
        ((self.low - margin).min(mean - spread), (self.high + margin).max(mean + spread))
    }

    /// Mean squared distance from `from`.
    pub(crate) fn power(self, from: f64) -> f64 {
        let mean = self.sum / self.count;
        (self.squares / self.count - 2.0 * from * mean + from * from).max(0.0)
    }
}

/// Spans of the inputs, and of each layer before and after its activation.
#[derive(Clone)]
pub(crate) struct Spans {
    pub(crate) inputs: Vec<Span>,
    pub(crate) before: Vec<Vec<Span>>,
    pub(crate) after: Vec<Vec<Span>>,
    /// For each dense layer: the correlation of its inputs, as fractions of their ranges.
    pub(crate) correlations: Vec<Option<Arc<Correlation>>>,
    /// Rows that `exact` networks are fitted to: at most the first [`MOST_CORRELATED`].
    pub(crate) rows: Vec<Vec<f64>>,
    /// Cached results for the first layer of an `exact` network, which are the same for all parameter sets.
    pub(crate) first: Arc<FirstLayer>,
}

/// Maximum number of rows that correlations are measured on.
const MOST_CORRELATED: usize = 2000;
/// Maximum number of values in the rows that are kept: wide inputs keep fewer rows.
const MOST_KEPT: usize = 4_000_000;

/// The range of the inputs.
pub(crate) enum Inputs<'a> {
    /// The range of the rows.
    Observed,
    /// A declared range.
    Declared(&'a [(f64, f64)]),
}

impl Spans {
    /// Measures the spans over `rows`. `switches` marks inputs that are 0 or 1 whatever the rows contain.
    pub(crate) fn measure(
        network: &Network,
        rows: &[&[f64]],
        switches: &[bool],
        inputs: &Inputs<'_>,
    ) -> Result<Self, Error> {
        if rows.is_empty() {
            return Err(Error::Calibration { reason: "it contains no rows".into() });
        }
        let layers = &network.layers;
        let empty = || Self {
            inputs: vec![Span::EMPTY; network.inputs],
            before: layers.iter().map(|l| vec![Span::EMPTY; l.affine.rows()]).collect(),
            after: layers.iter().map(|l| vec![Span::EMPTY; l.affine.rows()]).collect(),
            correlations: Vec::new(),
            rows: Vec::new(),
            first: Arc::default(),
        };
        let mut spans = rows
            .par_iter()
            .try_fold(empty, |mut spans, row| {
                let trace = network.trace(row)?;
                spans.inputs.iter_mut().zip(*row).for_each(|(s, &x)| s.add(x));
                for (i, values) in trace.iter().enumerate() {
                    for (j, &value) in values.iter().enumerate() {
                        spans.before[i][j].add(value);
                        spans.after[i][j].add(layers[i].activated(j, value));
                    }
                }
                Ok::<_, Error>(spans)
            })
            .try_reduce(empty, |mut a, b| {
                let pairs = |x: &mut Vec<Span>, y: &[Span]| {
                    x.iter_mut().zip(y).for_each(|(x, &y)| x.merge(y));
                };
                pairs(&mut a.inputs, &b.inputs);
                a.before.iter_mut().zip(&b.before).for_each(|(x, y)| pairs(x, y));
                a.after.iter_mut().zip(&b.after).for_each(|(x, y)| pairs(x, y));
                Ok(a)
            })?;
        for (i, layer) in layers.iter().enumerate() {
            if let Some(groups) = &layer.groups {
                share(&mut spans.before[i], groups);
                share(&mut spans.after[i], groups);
            }
        }
        for (i, layer) in layers.iter().enumerate().filter(|(_, l)| l.table_bits().is_none()) {
            for (row, after) in spans.after[i].iter_mut().enumerate() {
                let (low, high) = spans.before[i][row].widened(TABLE_ROOM.0, TABLE_ROOM.1);
                after.reach([low, high].map(|x| layer.activated(row, x)));
            }
        }
        let is_switch = |i: usize| switches.get(i).copied().unwrap_or_default();
        match inputs {
            Inputs::Declared(ends) => {
                for (span, &(low, high)) in spans.inputs.iter_mut().zip(*ends) {
                    (span.low, span.high) = (low, high);
                }
            }
            Inputs::Observed => {
                let others = (0..spans.inputs.len()).filter(|&i| !is_switch(i)).collect::<Vec<_>>();
                let mut shared = others.iter().map(|&i| spans.inputs[i]).collect::<Vec<_>>();
                share_inputs(&mut shared);
                others.iter().zip(shared).for_each(|(&i, span)| spans.inputs[i] = span);
            }
        }
        for (_, span) in spans.inputs.iter_mut().enumerate().filter(|(i, _)| is_switch(*i)) {
            (span.low, span.high) = (0.0, 1.0);
        }
        spans.correlations = spans.correlate(network, rows);
        let most = (MOST_KEPT / network.inputs).clamp(1, MOST_CORRELATED);
        spans.rows = rows.iter().take(most).map(|row| row.to_vec()).collect();
        Ok(spans)
    }
}

impl Spans {
    pub(crate) fn correlate(
        &self,
        network: &Network,
        rows: &[&[f64]],
    ) -> Vec<Option<Arc<Correlation>>> {
        let mut values: Vec<Vec<f64>> =
            rows.iter().take(MOST_CORRELATED).map(|row| row.to_vec()).collect();
        let mut before = &self.inputs;
        let mut correlations = Vec::new();
        for (layer, after) in network.layers.iter().zip(&self.after) {
            let dense = matches!(layer.affine.matrix, Matrix::Dense { .. });
            let fractions = |row: &Vec<f64>| {
                let fraction = |(x, span): (&f64, &Span)| {
                    if span.range() > 0.0 { (x - span.low) / span.range() } else { 0.0 }
                };
                row.iter().zip(before).map(fraction).collect()
            };
            correlations.push(if dense {
                Correlation::of(&values.par_iter().map(fractions).collect::<Vec<_>>()).map(Arc::new)
            } else {
                None
            });
            values.par_iter_mut().for_each(|row| *row = layer.apply(row));
            before = after;
        }
        correlations
    }
}

/// Gives all values of a group the group's span.
fn share(spans: &mut [Span], groups: &[u32]) {
    let count = groups.iter().max().map_or(0, |&last| last as usize + 1);
    let mut merged = vec![Span::EMPTY; count];
    for (span, &group) in spans.iter().zip(groups) {
        merged[group as usize].merge(*span);
    }
    for (span, &group) in spans.iter_mut().zip(groups) {
        *span = merged[group as usize];
    }
}

/// Features in the same unit (for example pixels) share one range: values that are rare in the calibration rows (ink at
/// the edge of an image) must not be clamped later.
fn share_inputs(spans: &mut [Span]) {
    if let Some((low, high)) = one_range(spans) {
        for span in spans {
            (span.low, span.high) = (low, high);
        }
    }
}

/// The common range of features in the same unit. They count as such if half of them span at least a quarter of the
/// whole range.
pub(crate) fn one_range(spans: &[Span]) -> Option<(f64, f64)> {
    let mut whole = Span::EMPTY;
    spans.iter().for_each(|&span| whole.merge(span));
    let mut ranges: Vec<f64> = spans.iter().map(|span| span.range()).collect();
    ranges.sort_by(f64::total_cmp);
    let middle = ranges.get(ranges.len() / 2)?;
    (middle * 4.0 >= whole.range()).then_some((whole.low, whole.high))
}
