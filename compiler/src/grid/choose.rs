//! Chooses the number of points of a grid: as many as the model needs, within bounds that are the same for every model.

use hermesh_engine::MAX_WIDTH;

use super::place::{Axis, Comparison, Place, Threshold, read_through};
use super::profile::{Counts, Profile};
use super::{Gridded, smooth, too_many};
use crate::Error;
use crate::compile::DEFAULT_SLACK;
use crate::measure;
use crate::network::{Activation, Affine, Layer, Matrix, Network, Sparse};
use crate::report::GridReport;

/// Cells of a feature within its calibrated span: the fewest whose agreement is within [`SLACK`] of the best.
const CELLS: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
/// For so many features that 16 cells do not fit: the most that fit.
const FEW_CELLS: [usize; 3] = [8, 4, 2];
/// More cells than this only if there are at most [`MOST_FINE`] comparisons in all.
const USUAL_CELLS: usize = 256;
const MOST_FINE: usize = 1 << 13;
/// Points beyond the span of a feature, on each side; and the maximum on one side for all features together.
const BEYOND: [usize; 9] = [0, 4, 8, 16, 32, 64, 128, 256, 512];
const MOST_BEYOND: usize = 1 << 12;
/// Accepted distance of a threshold beyond the span from its point, as a fraction of the threshold's distance from the
/// feature's median.
const OFF: f64 = 0.1;
/// The same for features that are constant in calibration. The rows do not show how often such a threshold matters.
const OFF_CONSTANT: f64 = 0.05;
/// Synthetic rows for choosing the number of cells, and the maximum number of values in them.
const ROWS: usize = 2000;
const VALUES: usize = 1 << 22;
/// Agreement that may be lost by fewer cells. Less than for parameter sets, because the measurement is less certain,
/// above all with few rows.
const SLACK: [f64; 2] = [DEFAULT_SLACK / 2.0, DEFAULT_SLACK / 3.0];
const FEW_ROWS: usize = 200;

/// The data for choosing the number of points.
pub(super) struct Choice<'a> {
    pub(super) network: &'a Network,
    /// The client's layers before the comparisons.
    pub(super) before: &'a [Layer],
    /// The layer of the comparisons.
    pub(super) last: &'a Layer,
    pub(super) core: &'a Network,
    pub(super) profiles: Vec<Profile>,
    pub(super) comparisons: Vec<Comparison>,
}

impl Choice<'_> {
    /// The grid with the fewest comparisons that keeps the answers.
    pub(super) fn choose(
        &self,
        calibration: &[&[f64]],
        measured: &[&[f64]],
    ) -> Result<Gridded, Error> {
        let fitting = self.fitting();
        let too_many = || too_many(self.profiles.len(), "train on fewer features");
        let &fewest = fitting.first().ok_or_else(too_many)?;
        let drawn = smooth::rows(calibration, ROWS.min(VALUES / self.network.inputs.max(1)));
        let slack = SLACK[usize::from(calibration.len() < FEW_ROWS)] / 100.0;
        let rows = drawn.iter().map(Vec::as_slice).chain(measured.iter().copied());
        let rows: Vec<&[f64]> = rows.collect();
        let mut tried = Vec::new();
        for counts in fitting {
            let (prefix, core) = self.build(counts);
            let agreement = measure::same(self.network, &prefix, &core, &rows)?;
            tried.push((agreement, counts));
            // More cells cannot gain more than the slack.
            if agreement >= 1.0 - slack {
                break;
            }
        }
        let most = tried.iter().map(|&(agreement, _)| agreement).fold(f64::MIN, f64::max);
        let enough = |&&(agreement, _): &&(f64, Counts)| agreement >= most - slack;
        let counts = tried.iter().find(enough).map_or(fewest, |&(_, counts)| counts);
        let (prefix, core) = self.build(counts);
        let agreement = measure::same(self.network, &prefix, &core, measured)?;
        let report = self.report(counts, core.inputs, agreement);
        Ok(Gridded { prefix, core, report })
    }

    /// The numbers of points to try, fewest first.
    fn fitting(&self) -> Vec<Counts> {
        let outside = self.outside();
        let fit = |cells: usize, most: usize| {
            let of = |outside: Counts| Counts { inside: cells - 1, ..outside };
            let fits = |&counts: &Counts| {
                let add = |sum: usize, p: &Profile| {
                    Some(sum + p.points(counts).len()).filter(|&sum| sum <= most)
                };
                self.profiles.iter().try_fold(0, add).is_some()
            };
            [of(outside), of(Counts::default())].into_iter().find(fits)
        };
        let most = |cells: usize| if cells > USUAL_CELLS { MOST_FINE } else { MAX_WIDTH };
        let mut all: Vec<Counts> =
            CELLS.into_iter().map_while(|cells| fit(cells, most(cells))).collect();
        if all.is_empty() {
            all.extend(FEW_CELLS.into_iter().find_map(|cells| fit(cells, MAX_WIDTH)));
        }
        // For features with few values, more cells give the same points.
        all.dedup_by(|next, kept| {
            self.profiles.iter().all(|p| p.points(*next).len() == p.points(*kept).len())
        });
        all
    }

    fn thresholds(&self) -> impl Iterator<Item = &Threshold> {
        self.comparisons.iter().filter_map(|comparison| match comparison {
            Comparison::With(threshold) => Some(threshold),
            Comparison::Known(_) => None,
        })
    }

    /// Chooses the numbers of points beyond the spans.
    fn outside(&self) -> Counts {
        let constant = |n: usize| Counts { constant: n, ..Counts::default() };
        let mut counts = constant(self.fewest(OFF_CONSTANT, constant, |p, _| p.is_constant()));
        for side in [0, 1] {
            let beyond = |n: usize| {
                let mut counts = Counts::default();
                counts.beyond[side] = n;
                counts
            };
            let concerns = |profile: &Profile, threshold: &Threshold| {
                !profile.is_constant() && threshold.side(profile) == Some(side)
            };
            counts.beyond[side] = self.fewest(OFF, beyond, concerns);
        }
        counts
    }

    /// The fewest points with which the concerned thresholds are as near to points as with more. Distances up to `off`
    /// count as 0.
    fn fewest(
        &self,
        off: f64,
        counts: impl Fn(usize) -> Counts,
        concerns: impl Fn(&Profile, &Threshold) -> bool,
    ) -> usize {
        let concerned: Vec<&Threshold> =
            self.thresholds().filter(|t| concerns(&self.profiles[t.feature], t)).collect();
        if concerned.is_empty() {
            return 0;
        }
        let mut best = (f64::INFINITY, 0);
        for n in BEYOND {
            let axes = self.axes(counts(n));
            if axes.iter().map(|axis| axis.points.len()).sum::<usize>() > MOST_BEYOND {
                break;
            }
            let distance = |threshold: &&Threshold| {
                let axis = &axes[threshold.feature];
                let point = axis.nearest(threshold).map(|i| axis.points[i]);
                let profile = &self.profiles[threshold.feature];
                point.map_or(2.0, |point| (profile.off(threshold.at, point) - off).clamp(0.0, 1.0))
            };
            let all = concerned.iter().map(distance).sum::<f64>();
            if all < best.0 - 1e-9 {
                best = (all, n);
            }
            if all == 0.0 {
                break;
            }
        }
        best.1
    }

    fn axes(&self, counts: Counts) -> Vec<Axis<'_>> {
        self.profiles.iter().map(|profile| Axis::new(profile, counts)).collect()
    }

    /// The client's layers and the rest of the network, for these numbers of points.
    pub(super) fn build(&self, counts: Counts) -> (Vec<Layer>, Network) {
        let axes = self.axes(counts);
        // Index of each feature's first comparison.
        let mut starts = vec![0];
        for axis in &axes {
            starts.push(starts[starts.len() - 1] + axis.points.len());
        }
        let places: Vec<Place> = self
            .comparisons
            .iter()
            .map(|comparison| match comparison {
                Comparison::Known(value) => Place::Constant(*value),
                Comparison::With(threshold) => {
                    axes[threshold.feature].place(threshold, starts[threshold.feature])
                }
            })
            .collect();
        let each =
            axes.iter().enumerate().flat_map(|(f, axis)| axis.points.iter().map(move |&x| (f, x)));
        let mut points: Vec<(usize, f64)> = each.collect();
        // Constant features without near thresholds have no points, and a network needs at least one input.
        if points.is_empty() {
            points.push((0, 0.0));
        }
        let one = points.iter().map(|&(feature, _)| (feature, 1.0));
        let affine = Affine {
            matrix: Matrix::Sparse(Sparse::one_per_row(axes.len(), one)),
            bias: points.iter().map(|&(_, point)| -point).collect(),
        };
        let all = points.len();
        let mut layers = self.core.layers.clone();
        if let Some(first) = layers.first_mut() {
            first.affine = read_through(&first.affine, &places, all);
        }
        let core = Network { inputs: all, input_shape: vec![all], layers, ..self.core.clone() };
        let comparisons = Layer {
            name: self.last.name.clone(),
            affine,
            activation: Some(Activation::Step.into()),
            groups: None,
            bounds: None,
        };
        (self.before.iter().cloned().chain([comparisons]).collect(), core)
    }

    fn report(&self, counts: Counts, comparisons: usize, agreement: f64) -> GridReport {
        let axes = self.axes(counts);
        let (mut moved, mut folded) = (0, 0);
        for threshold in self.thresholds() {
            let axis = &axes[threshold.feature];
            match axis.nearest(threshold) {
                None => folded += 1,
                Some(i) => {
                    let same = self.profiles[threshold.feature].same(threshold.at, axis.points[i]);
                    moved += usize::from(!same);
                }
            }
        }
        GridReport {
            kind: "quantiles".into(),
            reveals_thresholds: false,
            comparisons,
            most_cells: axes.iter().map(|axis| axis.points.len() + 1).max().unwrap_or(1),
            thresholds: self.thresholds().count(),
            moved,
            folded,
            agreement,
        }
    }
}
