//! Max, Min and maximum pooling as tournaments of pairs: max(a, b) = a + relu(b − a).

use std::collections::HashMap;

use super::arithmetic::broadcast_all;
use super::conv;
use crate::Error;
use crate::network::{Activation, Activations, Affine, Matrix, Sparse};
use crate::onnx::context::Context;
use crate::onnx::tensor::broadcast_indices;
use crate::onnx::value::{Features, Source, Value};

/// Memory of a window, or of one of its pairs, besides its values, in numbers.
const WINDOW: usize = 8;

/// The maximum of each channel's windows.
pub(super) fn max_pool(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    if cx.int("storage_order", 0) != 0 || cx.node.output.len() > 1 {
        return Err(cx.error("the indices of the maxima are not supported, only the maxima"));
    }
    let features = cx.features(0)?;
    let [y, x] = conv::pool_axes(cx, &features)?;
    let channels = features.shape[0];
    cx.allocate(&[channels, y.output, x.output, y.kernel, x.kernel])?;
    cx.allocate(&[channels, y.input, x.output, x.kernel])?;
    cx.allocate(&[channels, y.input.saturating_add(y.output), x.output, WINDOW])?;
    // First along rows, then along columns: overlapping windows share the maxima along rows.
    let mut used = vec![false; y.input];
    for oy in 0..y.output {
        y.taps(oy).for_each(|(_, iy)| used[iy] = true);
    }
    let rows = (0..y.input).filter(|&iy| used[iy]).collect::<Vec<_>>();
    let mut windows = Vec::new();
    for channel in 0..channels {
        for &iy in &rows {
            let row = (channel * y.input + iy) * x.input;
            windows.extend((0..x.output).map(|ox| taps(row, 1, x.taps(ox))));
        }
    }
    let places = rows.iter().enumerate().map(|(place, &iy)| (iy, place)).collect::<HashMap<_, _>>();
    let mut above = Vec::new();
    for channel in 0..channels {
        for oy in 0..y.output {
            for ox in 0..x.output {
                let column = channel * rows.len() * x.output + ox;
                let taps = y.taps(oy).map(|(k, iy)| (k, places[&iy]));
                above.push(self::taps(column, x.output, taps));
            }
        }
    }
    if windows.iter().chain(&above).any(Vec::is_empty) {
        return Err(cx.error("a window contains only padding"));
    }
    let shape = vec![channels, y.output, x.output];
    Ok(vec![Value::Features(maxima(cx, features, vec![windows, above], shape)?)])
}

fn taps(start: usize, stride: usize, taps: impl Iterator<Item = (usize, usize)>) -> Vec<usize> {
    taps.map(|(_, i)| start + i * stride).collect()
}

/// The maximum of each channel.
pub(super) fn global_max_pool(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let Some((&channels, plane)) = features.shape.split_first() else {
        return Err(cx.error("expected rows of at least one axis"));
    };
    let size = plane.iter().product::<usize>();
    let shape = std::iter::once(channels).chain(plane.iter().map(|_| 1)).collect();
    cx.allocate(&[channels, WINDOW])?;
    cx.allocate(&[channels, size])?;
    let windows = (0..channels).map(|c| (c * size..(c + 1) * size).collect()).collect();
    Ok(vec![Value::Features(maxima(cx, features, vec![windows], shape)?)])
}

pub(super) fn max(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    extremum(cx, 1.0)
}

pub(super) fn min(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    extremum(cx, -1.0)
}

/// The maximum (`sign` = 1) or minimum (`sign` = −1) of any number of features and constants.
fn extremum(cx: &mut Context<'_>, sign: f64) -> Result<Vec<Value>, Error> {
    let (mut features, mut constants) = (Vec::new(), Vec::new());
    for index in 0..cx.inputs.len() {
        match cx.value(index)? {
            Value::Features(value) => features.push(value),
            Value::Constant(tensor) => constants.push(tensor),
            _ => return Err(cx.error("it compares probabilities or labels")),
        }
    }
    if features.is_empty() {
        return Err(cx.error("none of its inputs depends on the model's input"));
    }
    let mut features = broadcast_all(cx, features)?;
    let shape = features[0].shape.clone();
    let count = features[0].len();
    let mut result = if features.len() == 1 {
        features.remove(0)
    } else {
        let parts = features.len();
        let negated = vec![sign; count];
        for part in &mut features {
            if sign < 0.0 {
                *part = cx.rescale(part.clone(), Some(&negated), None)?;
            }
        }
        cx.allocate(&[parts, count, WINDOW])?;
        let all = cx.combine(features)?;
        let windows = (0..count).map(|i| (0..parts).map(|p| p * count + i).collect()).collect();
        let greatest = maxima(cx, all, vec![windows], shape.clone())?;
        if sign < 0.0 { cx.rescale(greatest, Some(&negated), None)? } else { greatest }
    };
    for constant in constants {
        let row = [&[1], shape.as_slice()].concat();
        let fits = constant.shape.len() <= row.len()
            && crate::onnx::tensor::broadcast(&row, &constant.shape).as_ref() == Some(&row);
        let (true, Some(values)) = (fits, constant.to_floats()) else {
            return Err(cx.error(format!(
                "a constant of shape {:?} does not broadcast to rows of shape {shape:?}",
                constant.shape
            )));
        };
        cx.allocate(&row)?;
        let limits = broadcast_indices(&constant.shape, &row).into_iter().map(|i| {
            let (min, max) = if sign < 0.0 { (f64::MIN, values[i]) } else { (values[i], f64::MAX) };
            Activation::Clip { min, max }
        });
        let limits = Activations::of_rows(limits);
        result = cx.activate(result, limits)?;
    }
    Ok(vec![Value::Features(result)])
}

/// The maxima of windows of features; then of windows of these, and so on.
fn maxima(
    cx: &mut Context<'_>,
    features: Features,
    windows: Vec<Vec<Vec<usize>>>,
    shape: Vec<usize>,
) -> Result<Features, Error> {
    // A maximum commutes with a monotone function, which then takes one Lookup per maximum instead of one per value.
    if let Some((source, activations)) = before_monotone(cx, &features, &windows, &shape) {
        let source = cx.reshape(source, features.shape.clone());
        let greatest = tournaments(cx, source, windows, shape)?;
        return cx.activate(greatest, activations);
    }
    tournaments(cx, features, windows, shape)
}

/// The features before a monotone activation, if taking the maxima there saves Lookups.
fn before_monotone(
    cx: &Context<'_>,
    features: &Features,
    windows: &[Vec<Vec<usize>>],
    shape: &[usize],
) -> Option<(Features, Activations)> {
    let Source::Activation(source, activations) = &cx.import.stages[features.stage].source else {
        return None;
    };
    if features.affine.is_some() || !activations.uniform()?.is_monotone() {
        return None;
    }
    let mut used = vec![false; features.len()];
    windows.first()?.iter().flatten().for_each(|&i| used[i] = true);
    let used = used.into_iter().filter(|&used| used).count();
    // Carrying values of the input costs Lookups.
    let carried =
        if cx.import.stages[source.stage].plain { Round::new(windows.first()?).kept() } else { 0 };
    (carried + shape.iter().product::<usize>() < used)
        .then(|| (source.clone(), activations.clone()))
}

fn tournaments(
    cx: &mut Context<'_>,
    features: Features,
    windows: Vec<Vec<Vec<usize>>>,
    shape: Vec<usize>,
) -> Result<Features, Error> {
    let channels = shape.first().copied().unwrap_or(1);
    let mut values = features;
    for mut windows in windows {
        while windows.iter().any(|window| window.len() > 1) {
            let round = Round::new(&windows);
            values = play(cx, values, &round, channels)?;
            windows = round.windows;
        }
        let winners = windows.iter().map(|window| window[0]).collect::<Vec<_>>();
        let count = winners.len();
        if !winners.iter().copied().eq(0..values.len()) {
            values = cx.select(values, &winners, vec![count])?;
        }
    }
    Ok(cx.reshape(values, shape))
}

/// One round of a tournament.
struct Round {
    /// The pairs to compare, without duplicates.
    pairs: Vec<[usize; 2]>,
    /// Values without an opponent in some window.
    lone: Vec<usize>,
    /// The windows after the round: pairs by their index, then the lone values.
    windows: Vec<Vec<usize>>,
}

impl Round {
    fn new(windows: &[Vec<usize>]) -> Self {
        let (mut pairs, mut lone) = (Numbers::default(), Numbers::default());
        let mut plan = Vec::with_capacity(windows.len());
        for window in windows {
            let (twos, rest) = window.as_chunks::<2>();
            let twos = twos.iter().map(|&pair| pairs.number(pair)).collect::<Vec<_>>();
            plan.push((twos, rest.first().map(|&one| lone.number(one))));
        }
        let count = pairs.all.len();
        let windows = plan.into_iter().map(|(mut window, rest)| {
            window.extend(rest.map(|one| count + one));
            window
        });
        Self { windows: windows.collect(), pairs: pairs.all, lone: lone.all }
    }

    /// Number of values that are carried besides the comparisons.
    fn kept(&self) -> usize {
        let mut kept = self.pairs.iter().map(|&[a, _]| a).chain(self.lone.iter().copied());
        let mut numbers = Numbers::default();
        kept.by_ref().for_each(|value| {
            numbers.number(value);
        });
        numbers.all.len()
    }
}

/// Numbers distinct values in order of appearance.
struct Numbers<T> {
    all: Vec<T>,
    known: HashMap<T, usize>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { all: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Numbers<T> {
    fn number(&mut self, thing: T) -> usize {
        *self.known.entry(thing).or_insert_with(|| {
            self.all.push(thing);
            self.all.len() - 1
        })
    }
}

/// Plays a round: the winners of all pairs, then the lone values.
fn play(
    cx: &mut Context<'_>,
    values: Features,
    round: &Round,
    channels: usize,
) -> Result<Features, Error> {
    let Round { pairs, lone, .. } = round;
    cx.allocate(&[pairs.len() + lone.len(), 2 * WINDOW])?;
    // Channels with equal numbers of rows are alike and share tables.
    let shape = |count: usize| {
        if count.is_multiple_of(channels) { vec![channels, count / channels] } else { vec![count] }
    };
    let mut differences = Sparse::new(values.len());
    for &[a, b] in pairs {
        let mut row = [(a, -1.0), (b, 1.0)];
        row.sort_unstable_by_key(|&(column, _)| column);
        row.iter().for_each(|&(column, weight)| differences.push(column, weight));
        differences.end_row();
    }
    let differences = Affine { bias: vec![0.0; pairs.len()], matrix: Matrix::Sparse(differences) };
    let differences = cx.then(values.clone(), differences, shape(pairs.len()))?;
    let gains = cx.activate(differences, Activation::Relu)?;
    let mut kept = Numbers::default();
    let places = pairs.iter().map(|&[a, _]| a).chain(lone.iter().copied());
    let places = places.map(|value| kept.number(value)).collect::<Vec<_>>();
    let base = cx.select(values, &kept.all, shape(kept.all.len()))?;
    let start = base.len();
    let both = cx.combine(vec![base, gains])?;
    let mut sums = Sparse::new(both.len());
    for (i, &place) in places.iter().enumerate() {
        sums.push(place, 1.0);
        if i < pairs.len() {
            sums.push(start + i, 1.0);
        }
        sums.end_row();
    }
    let count = places.len();
    let sums = Affine { bias: vec![0.0; count], matrix: Matrix::Sparse(sums) };
    cx.then(both, sums, vec![count])
}
