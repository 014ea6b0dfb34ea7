//! Conversion between real values and torus elements.

use serde::{Deserialize, Serialize};

/// Encoding of values between two operators: value *x* becomes `unit · steps · (x − low) / (high − low)`. Each value
/// has its own range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding {
    /// Lower end of each value's range.
    pub(crate) low: Vec<f64>,
    /// Upper end of each value's range; equal to `low` if the value is constant.
    pub(crate) high: Vec<f64>,
    /// Number of steps of the range; values are rounded to whole steps if `rounded`.
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

    /// The width of the whole range on the torus, in turns.
    pub(crate) fn full(&self) -> f64 {
        f64::from(self.steps) * self.unit as f64 / 2f64.powi(64)
    }

    /// A real value in units of 2⁻⁶⁴ turns, without wrapping around. Values are not clamped, so the caller must expect
    /// values outside the range. If steps are rounded, `dither` is added to them first.
    pub(crate) fn unwrapped(&self, index: usize, value: f64, dither: f64) -> i128 {
        let range = self.range(index);
        if range <= 0.0 {
            return 0;
        }
        let steps = (value - self.low[index]) / range * f64::from(self.steps);
        if self.rounded {
            return i128::from((steps + dither).round() as i64) * i128::from(self.unit);
        }
        // The cast saturates. Values beyond i128 are meaningless in any case.
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

/// Decoding of outputs: value *i* is `centre[i] + scale[i] · x` for a torus value x in [−½, ½).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decoding {
    /// The value of torus element zero.
    pub(crate) centre: Vec<f64>,
    /// The value of one turn.
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
