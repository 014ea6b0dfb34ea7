//! What the compiler tells about a program.

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::client::Guarantee;
use crate::domain::Source;
use crate::network::MAX_LAYERS;

/// Most warnings of a report that is read; there are fewer kinds.
const MAX_WARNINGS: usize = 64;
/// Most parameter sets of a report that is read; the catalogue has fewer.
const MAX_CANDIDATES: usize = 256;

/// Everything known about a program before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// `approximate` or `exact`.
    pub precision: String,
    /// Name of the parameter set.
    pub parameter_set: String,
    /// Bits of security of the set, by `tfhe`'s published curve.
    pub security_bits: u32,
    /// Why this set.
    pub why: String,
    /// The stages, first to last.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    pub stages: Vec<StageReport>,
    /// Bootstraps of one inference.
    pub lookups: usize,
    /// Further ones that it would take if rows that nobody reads, that are constant or that are there twice were kept,
    /// and if none shared a bootstrap.
    pub pruned_lookups: usize,
    /// log₂ of the probability that noise changes an `exact` answer.
    pub failure_log2: Option<f64>,
    /// What each output is rounded to multiples of before it is shown; 0: not at all.
    pub resolution: Vec<f64>,
    /// On how many rows the figures below were measured.
    pub rows_measured: usize,
    /// Whether those rows were kept out of the calibration of ranges.
    pub held_out: bool,
    /// Accuracy of the network in floating point, if labels were given: 0 to 1.
    pub plain_accuracy: Option<f64>,
    /// Accuracy to expect encrypted, if labels were given: 0 to 1.
    pub simulated_accuracy: Option<f64>,
    /// How often the simulated label is the plain one, 0 to 1; for regression R² between the two.
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
    /// Where the domain of the features comes from.
    pub domain: Source,
    /// How far an answered score may be off from that of the plain model, before the head: a standard deviation, of which
    /// six are not exceeded. Noise, and what rounding and clamping may do, together.
    pub deviation: Vec<f64>,
    /// If the program is not bounded: what being so would cost.
    pub unbounded: Option<Unbounded>,
    /// What the calibration data cannot carry.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_WARNINGS>")]
    pub warnings: Vec<String>,
    /// Of trees: what the client compares features with.
    pub grid: Option<GridReport>,
}

/// What it would cost to bound a program's sums over the whole domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unbounded {
    /// The cheapest program that is bounded and as accurate; none if there is none.
    pub cheapest: Option<Candidate>,
    /// Its cost in multiples of that of the program chosen.
    pub times: Option<f64>,
}

/// What the client compares the features of trees with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridReport {
    /// `quantiles`: points that follow from the calibration rows. `thresholds`: the model's own thresholds.
    pub kind: String,
    /// Whether the client's part of the model shows the thresholds of the trees.
    pub reveals_thresholds: bool,
    /// Comparisons that are encrypted for one row.
    pub comparisons: usize,
    /// Cells into which the comparisons divide the feature that has the most.
    pub most_cells: usize,
    /// Different thresholds of the model.
    pub thresholds: usize,
    /// Those that a point elsewhere stands for: rows with a value between the two are answered as if it were on the
    /// other side.
    pub moved: usize,
    /// Those that no point stands for, since they are beyond all: their comparisons always have the result that they
    /// have on the calibration rows.
    pub folded: usize,
    /// How often the trees on the grid give the label of the model itself, before there is any noise, 0 to 1; for
    /// regression R² between the two. Over [`Report::rows_measured`] rows.
    pub agreement: f64,
}

/// One stage of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The nodes of the model that it came from.
    pub name: String,
    /// Values that the Linear takes.
    pub inputs: usize,
    /// Values that it makes.
    pub outputs: usize,
    /// Bits of the largest weight, sign included.
    pub weight_bits: u32,
    /// Lookups for one row.
    pub lookups: usize,
    /// Different tables.
    pub tables: usize,
    /// log₂ of the predicted standard deviation of noise where tables are looked up (or of the
    /// answer, in the last stage), in turns of the torus, averaged over the values.
    pub noise_log2: f64,
    /// The same of what the tables return.
    pub table_noise_log2: Option<f64>,
    /// Whether no row of the domain carries a sum out of its frame.
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
    /// Bits of accumulators before tables, for `exact`.
    pub accumulator_bits: Option<u32>,
}
