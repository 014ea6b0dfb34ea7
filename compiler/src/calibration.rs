//! What values a network sees: ranges over the rows it is calibrated on.

use crate::Error;
use crate::network::Network;
use rayon::prelude::*;

/// Range and power of one value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) low: f64,
    pub(crate) high: f64,
    sum: f64,
    squares: f64,
    count: f64,
}

impl Span {
    const EMPTY: Self =
        Self { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, squares: 0.0, count: 0.0 };

    fn add(&mut self, x: f64) {
        self.merge(Self { low: x, high: x, sum: x, squares: x * x, count: 1.0 });
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.sum += other.sum;
        self.squares += other.squares;
        self.count += other.count;
    }

    pub(crate) fn range(self) -> f64 {
        self.high - self.low
    }

    /// What to leave room for: rows that were not calibrated on go further. At least the range and
    /// `margin` of it on both sides, and `sigmas` standard deviations around the mean, which counts
    /// when there were few rows.
    pub(crate) fn widened(self, margin: f64, sigmas: f64) -> (f64, f64) {
        let mean = self.sum / self.count;
        let spread = sigmas * (self.squares / self.count - mean * mean).max(0.0).sqrt();
        let margin = margin * self.range();
        ((self.low - margin).min(mean - spread), (self.high + margin).max(mean + spread))
    }

    /// Mean square of the distance from `low`, as a fraction of the range.
    pub(crate) fn power(self) -> f64 {
        let range = self.range();
        if range <= 0.0 {
            return 0.0;
        }
        let mean = self.sum / self.count;
        (self.squares / self.count - 2.0 * self.low * mean + self.low * self.low) / (range * range)
    }
}

/// Spans of the inputs, and before and after each layer's activation.
pub(crate) struct Spans {
    pub(crate) inputs: Vec<Span>,
    pub(crate) before: Vec<Vec<Span>>,
    pub(crate) after: Vec<Vec<Span>>,
}

impl Spans {
    pub(crate) fn measure(network: &Network, rows: &[&[f64]]) -> Result<Self, Error> {
        if rows.is_empty() {
            return Err(Error::Calibration { reason: "it holds no rows".into() });
        }
        let layers = &network.layers;
        let empty = || Self {
            inputs: vec![Span::EMPTY; network.inputs],
            before: layers.iter().map(|l| vec![Span::EMPTY; l.affine.rows()]).collect(),
            after: layers.iter().map(|l| vec![Span::EMPTY; l.affine.rows()]).collect(),
        };
        let mut spans = rows
            .par_iter()
            .try_fold(empty, |mut spans, row| {
                let trace = network.trace(row)?;
                spans.inputs.iter_mut().zip(*row).for_each(|(s, &x)| s.add(x));
                for (i, values) in trace.iter().enumerate() {
                    for (j, &value) in values.iter().enumerate() {
                        spans.before[i][j].add(value);
                        let after = layers[i].activation.map_or(value, |a| a.apply(value));
                        spans.after[i][j].add(after);
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
        share_inputs(&mut spans.inputs);
        Ok(spans)
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

/// Features in the same unit, pixels say, share one range: what is rare in the calibration rows
/// (ink at the edge of an image) must not be cut off later. They count as such when half of them
/// span at least a quarter of the whole.
fn share_inputs(spans: &mut [Span]) {
    let mut whole = Span::EMPTY;
    spans.iter().for_each(|&span| whole.merge(span));
    let mut ranges: Vec<f64> = spans.iter().map(|span| span.range()).collect();
    ranges.sort_by(f64::total_cmp);
    if ranges[ranges.len() / 2] * 4.0 >= whole.range() {
        for span in spans {
            (span.low, span.high) = (whole.low, whole.high);
        }
    }
}
