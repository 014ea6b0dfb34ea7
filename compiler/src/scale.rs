//! How real values become fractions of the torus.

use serde::{Deserialize, Serialize};

/// How values travel between two operators: value *x* as `unit · steps · (x − low) / (high − low)`,
/// each with a range of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding {
    /// The smallest of each value.
    pub(crate) low: Vec<f64>,
    /// The largest of each value; equal to `low` where a value is constant.
    pub(crate) high: Vec<f64>,
    /// Steps between the two; values are rounded to whole steps if `rounded`.
    pub(crate) steps: u32,
    /// Whether the values are integers.
    pub(crate) rounded: bool,
    /// One step on the torus, scaled by 2⁶⁴.
    pub(crate) unit: u64,
}

impl Encoding {
    /// The width of a value's range.
    pub(crate) fn range(&self, index: usize) -> f64 {
        self.high[index] - self.low[index]
    }

    /// What the whole range is on the torus, in turns.
    pub(crate) fn full(&self) -> f64 {
        f64::from(self.steps) * self.unit as f64 / 2f64.powi(64)
    }

    /// A real value in units of 2⁻⁶⁴ turns, not reduced to one turn. Values are not clamped: the caller knows whether
    /// something out of range can come, and must be. `dither` is added to the steps before they are rounded, if they
    /// are.
    pub(crate) fn unwrapped(&self, index: usize, value: f64, dither: f64) -> i128 {
        let range = self.range(index);
        if range <= 0.0 {
            return 0;
        }
        let steps = (value - self.low[index]) / range * f64::from(self.steps);
        if self.rounded {
            return i128::from((steps + dither).round() as i64) * i128::from(self.unit);
        }
        // Beyond i128 nothing sensible remains in any case; the cast saturates.
        (steps * self.unit as f64) as i128
    }

    /// [`Self::unwrapped`] on the torus.
    pub(crate) fn encode(&self, index: usize, value: f64, dither: f64) -> u64 {
        self.unwrapped(index, value, dither) as u64
    }

    /// [`Self::unwrapped`] for what the client encrypts: values out of range are moved to its edge.
    pub(crate) fn clamped(&self, index: usize, value: f64) -> i128 {
        self.unwrapped(index, value.clamp(self.low[index], self.high[index]), 0.0)
    }

    /// Whether a value is outside the range of its encoding, by more than the rounding of floating point.
    pub(crate) fn is_outside(&self, index: usize, value: f64) -> bool {
        let slack = 1e-9 * self.range(index);
        value < self.low[index] - slack || value > self.high[index] + slack
    }
}

/// How the client reads outputs: value *i* is `centre[i] + scale[i] · x` for a torus value x in
/// [−½, ½).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decoding {
    /// What zero stands for.
    pub(crate) centre: Vec<f64>,
    /// What a whole turn of the torus stands for.
    pub(crate) scale: Vec<f64>,
    /// For `exact` programs: outputs are multiples of 2^−bits.
    pub(crate) bits: Option<u32>,
}

impl Decoding {
    /// The real value of a decrypted torus element. `exact` values are rounded to their step first.
    pub(crate) fn decode(&self, index: usize, torus: u64) -> f64 {
        let rounded = match self.bits {
            Some(bits) => torus.wrapping_add(1 << (63 - bits)) >> (64 - bits) << (64 - bits),
            None => torus,
        };
        self.centre[index] + self.scale[index] * (rounded as i64 as f64) / 2f64.powi(64)
    }
}
