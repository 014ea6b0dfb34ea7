//! What the caller asks the compiler for.

use crate::client::Guarantee;
use crate::domain::Domain;

/// The requested precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Fast. A Lookup returns f(x + e) with a small random error e.
    Approximate,
    /// The answer equals integer arithmetic, except with a stated failure probability.
    Exact,
}

/// The points that the client compares the features of trees with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grid {
    /// Points computed from the calibration rows alone. The client model does not show the thresholds; each threshold
    /// is moved to the nearest point.
    #[default]
    Quantiles,
    /// The model's own thresholds: exact on every row, but visible to clients.
    Thresholds,
}

/// Options of the compiler.
#[derive(Clone, Debug)]
pub struct Options {
    /// The precision. Default: `approximate`; `exact` for trees.
    pub precision: Option<Precision>,
    /// log₂ of the accepted probability that noise changes an `exact` answer.
    pub failure_log2: f64,
    /// Percentage points of accuracy (without labels: of agreement with the plain model) that may be lost.
    pub accuracy_budget: Option<f64>,
    /// The domain of the features. Default: the span of the calibration rows.
    pub domain: Option<Domain>,
    /// How sums are kept in their frames. Default: bounded if that needs no more expensive parameter set.
    pub guarantee: Option<Guarantee>,
    /// The points that the client compares the features of trees with.
    pub grid: Grid,
}

impl Default for Options {
    /// Default precision, a failure probability of 2⁻¹²⁸, and the observed domain.
    fn default() -> Self {
        Self {
            precision: None,
            failure_log2: -128.0,
            accuracy_budget: None,
            domain: None,
            guarantee: None,
            grid: Grid::default(),
        }
    }
}
