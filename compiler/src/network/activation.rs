//! The functions of one value that stand between affine layers.

use serde::{Deserialize, Serialize};

/// A function of one value. Under encryption it costs one lookup per value, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x where x ≥ 0, `alpha`·x elsewhere.
    LeakyRelu {
        /// The slope on the negative side.
        alpha: f64,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x limited to `min` … `max`; everything is `max` where `min` > `max`.
    Clip {
        /// The lower limit.
        min: f64,
        /// The upper limit.
        max: f64,
    },
}

impl Activation {
    /// The function's value at `x`.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Clip { min, max } => x.max(min).min(max),
        }
    }

    pub(crate) fn is_finite(self) -> bool {
        match self {
            Activation::LeakyRelu { alpha } => alpha.is_finite(),
            Activation::Clip { min, max } => min.is_finite() && max.is_finite(),
            Activation::Relu | Activation::Sigmoid | Activation::Tanh => true,
        }
    }
}

/// The logistic function, without overflow on either side.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}
