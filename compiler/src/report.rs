//! The compiler's report about a program.

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::client::Guarantee;
use crate::domain::Source;
use crate::network::MAX_LAYERS;

/// Maximum number of warnings of a report that is read; fewer kinds exist.
const MAX_WARNINGS: usize = 64;
/// Most parameter sets of a report that is read; the catalogue has fewer.
const MAX_CANDIDATES: usize = 256;

/// The properties of a program that are known before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// `approximate` or `exact`.
    pub precision: String,
    /// Name of the parameter set.
    pub parameter_set: String,
    /// Bits of security of the set according to `tfhe`'s published curve.
    pub security_bits: u32,
    /// The reason for choosing this set.
    pub why: String,
    /// The stages, first to last.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    pub stages: Vec<StageReport>,
    /// Bootstraps of one inference.
    pub lookups: usize,
    /// Bootstraps saved by removing rows that are unused, constant or duplicates, and by sharing bootstraps.
    pub pruned_lookups: usize,
    /// log₂ of the probability that noise changes an `exact` answer.
    pub failure_log2: Option<f64>,
    /// Each output is rounded to a multiple of this before it is shown; 0: not rounded.
    pub resolution: Vec<f64>,
    /// Number of rows that the figures below were measured on.
    pub rows_measured: usize,
    /// Whether those rows were kept out of the calibration of ranges.
    pub held_out: bool,
    /// Accuracy of the network in floating point, if labels were given: 0 to 1.
    pub plain_accuracy: Option<f64>,
    /// Expected accuracy under encryption, if labels were given: 0 to 1.
    pub simulated_accuracy: Option<f64>,
    /// How often the simulated label equals the plain one, 0 to 1; for regression, R² between the two.
    pub agreement: f64,
    /// Bytes of the evaluation key on the wire.
    pub evaluation_key_bytes: usize,
    /// Bytes of one encrypted input.
    pub input_bytes: usize,
    /// Bytes of one encrypted answer.
    pub answer_bytes: usize,
    /// All that was considered, cheapest first.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_CANDIDATES>")]
    pub frontier: Vec<Candidate>,
    /// Whether sums stay in their frames for every row of the domain, or because each row is checked.
    pub guarantee: Guarantee,
    /// The origin of the features' domain.
    pub domain: Source,
    /// Standard deviation of an answered score's error against the plain model, before the head: noise, rounding and
    /// clamping together. Errors stay below six of these.
    pub deviation: Vec<f64>,
    /// If the program is not bounded: the cost of a bounded one.
    pub unbounded: Option<Unbounded>,
    /// Warnings about the calibration data.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_WARNINGS>")]
    pub warnings: Vec<String>,
    /// For trees: the points that the client compares features with.
    pub grid: Option<GridReport>,
}

/// The cost of bounding a program's sums over the whole domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unbounded {
    /// The cheapest bounded program that is as accurate; `None` if there is none.
    pub cheapest: Option<Candidate>,
    /// Its cost relative to the chosen program.
    pub times: Option<f64>,
}

/// The points that the client compares the features of trees with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridReport {
    /// `quantiles`: points computed from the calibration rows. `thresholds`: the model's own thresholds.
    pub kind: String,
    /// Whether the client model shows the thresholds of the trees.
    pub reveals_thresholds: bool,
    /// Number of comparisons that are encrypted for one row.
    pub comparisons: usize,
    /// Number of cells of the feature with the most comparisons.
    pub most_cells: usize,
    /// Number of different thresholds of the model.
    pub thresholds: usize,
    /// Number of thresholds that were moved to another point. Values between the two are answered as if they were on
    /// the other side.
    pub moved: usize,
    /// Number of thresholds beyond all points, which get none. Their comparisons always have the result that they have
    /// on the calibration rows.
    pub folded: usize,
    /// How often the trees on the grid give the label of the model itself, without noise, 0 to 1; for regression, R²
    /// between the two. Measured on [`Report::rows_measured`] rows.
    pub agreement: f64,
}

/// One stage of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The model's nodes that it was made from.
    pub name: String,
    /// Number of values that the Linear takes.
    pub inputs: usize,
    /// Number of values that it returns.
    pub outputs: usize,
    /// Bits of the largest weight, sign included.
    pub weight_bits: u32,
    /// Bootstraps for one row.
    pub lookups: usize,
    /// Number of different lookup tables.
    pub tables: usize,
    /// log₂ of the predicted standard deviation of noise at the inputs of lookup tables (in the last stage: of the
    /// answer), in turns, averaged over the values.
    pub noise_log2: f64,
    /// The same for the results of the tables.
    pub table_noise_log2: Option<f64>,
    /// Whether no sum leaves its frame for any row of the domain.
    pub bounded: bool,
}

/// A parameter set that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub parameter_set: String,
    /// Cost of an inference, relative to the set `tfhe-2x1024-832/1`.
    pub relative_cost: f64,
    /// Bytes of its evaluation key.
    pub evaluation_key_bytes: usize,
    /// See [`Report::simulated_accuracy`].
    pub simulated_accuracy: Option<f64>,
    /// See [`Report::agreement`].
    pub agreement: f64,
    /// For `exact`: bits of accumulators before tables.
    pub accumulator_bits: Option<u32>,
}
