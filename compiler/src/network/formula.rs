//! Functions of one value, as steps on a stack. Any such function is one Lookup.

use serde::{Deserialize, Serialize};

use super::activation::sigmoid;
use crate::bounded;

/// Maximum steps of a formula, and maximum values on its stack.
const MAX_TERMS: usize = 128;
const MAX_STACK: usize = 16;

/// A function of one value: steps in postfix order, which leave one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Formula {
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_TERMS>")]
    terms: Vec<Term>,
}

/// A step: pushes a value, or replaces the topmost value (or two) by a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Term {
    /// Pushes x.
    Input,
    /// The sum of two.
    Add,
    /// The product of two.
    Multiply,
    /// `scale`·x + `shift`.
    Linear {
        /// The factor.
        scale: f64,
        /// What is added.
        shift: f64,
    },
    /// max(x, 0).
    Relu,
    /// x where x ≥ 0, `alpha`·x elsewhere.
    LeakyRelu {
        /// The slope on the negative side.
        alpha: f64,
    },
    /// x above `alpha`, else 0.
    ThresholdedRelu {
        /// The threshold.
        alpha: f64,
    },
    /// x where x ≥ 0, `alpha`·(eˣ − 1) elsewhere.
    Elu {
        /// The negated limit on the negative side.
        alpha: f64,
    },
    /// x limited to `min` … `max`.
    Clip {
        /// The lower limit.
        min: f64,
        /// The upper limit.
        max: f64,
    },
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// ln(1 + eˣ).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// The error function.
    Erf,
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// eˣ.
    Exp,
    /// The square root; 0 for negative values.
    Sqrt,
    /// The absolute value.
    Abs,
    /// −1, 0 or 1.
    Sign,
    /// Rounds down to a whole number.
    Floor,
    /// Rounds up to a whole number.
    Ceil,
    /// Rounds to the nearest whole number, ties to even.
    Round,
}

impl Formula {
    /// The function of these steps, applied to x.
    pub(crate) fn of(terms: &[Term]) -> Self {
        Self { terms: [&[Term::Input], terms].concat() }
    }

    /// The steps.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// x times this.
    pub(crate) fn times_x(mut self) -> Self {
        self.terms.extend([Term::Input, Term::Multiply]);
        self
    }

    /// `scale` · this + `shift`.
    pub(crate) fn linear(mut self, scale: f64, shift: f64) -> Self {
        if (scale, shift) != (1.0, 0.0) {
            self.terms.push(Term::Linear { scale, shift });
        }
        self
    }

    /// The composition of this after `inner`; `None` if it is too long.
    pub(crate) fn after(&self, inner: &Self) -> Option<Self> {
        let mut terms = Vec::new();
        for term in &self.terms {
            match term {
                Term::Input => terms.extend_from_slice(&inner.terms),
                other => terms.push(*other),
            }
            if terms.len() > MAX_TERMS {
                return None;
            }
        }
        Some(Self { terms }).filter(Self::is_valid)
    }

    /// The product of both; `None` if it is too long.
    pub(crate) fn times(&self, other: &Self) -> Option<Self> {
        let terms = [&self.terms, other.terms.as_slice(), &[Term::Multiply]].concat();
        Some(Self { terms }).filter(Self::is_valid)
    }

    /// Whether all numbers are finite and exactly one value is left.
    pub(crate) fn is_valid(&self) -> bool {
        let mut depth = 0usize;
        for term in &self.terms {
            let finite = match *term {
                Term::Linear { scale: a, shift: b } | Term::Clip { min: a, max: b } => {
                    a.is_finite() && b.is_finite()
                }
                Term::LeakyRelu { alpha }
                | Term::ThresholdedRelu { alpha }
                | Term::Elu { alpha } => alpha.is_finite(),
                _ => true,
            };
            let (takes, gives) = match term {
                Term::Input => (0, 1),
                Term::Add | Term::Multiply => (2, 1),
                _ => (1, 1),
            };
            if !finite || depth < takes || depth - takes + gives > MAX_STACK {
                return false;
            }
            depth = depth - takes + gives;
        }
        depth == 1 && self.terms.len() <= MAX_TERMS
    }

    /// The function's value at `x`.
    pub(crate) fn apply(&self, x: f64) -> f64 {
        let mut stack = [0.0; MAX_STACK + 1];
        // Steps without a value on the stack read 0: see `is_valid`.
        let mut depth = 0;
        for term in &self.terms {
            match term {
                Term::Input => {
                    depth = (depth + 1).min(MAX_STACK);
                    stack[depth] = x;
                }
                Term::Add | Term::Multiply => {
                    let b = stack[depth];
                    depth = depth.saturating_sub(1);
                    let a = stack[depth];
                    stack[depth] = if *term == Term::Add { a + b } else { a * b };
                }
                other => stack[depth] = other.apply(stack[depth]),
            }
        }
        stack[depth]
    }
}

impl Term {
    fn apply(self, x: f64) -> f64 {
        match self {
            Term::Input | Term::Add | Term::Multiply => x,
            Term::Linear { scale, shift } => scale * x + shift,
            Term::Relu => x.max(0.0),
            Term::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Term::ThresholdedRelu { alpha } => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Term::Elu { alpha } => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
            Term::Clip { min, max } => x.max(min).min(max),
            Term::Sigmoid => sigmoid(x),
            Term::Tanh => x.tanh(),
            Term::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Term::Softsign => x / (1.0 + x.abs()),
            Term::Erf => erf(x),
            Term::Sin => x.sin(),
            Term::Cos => x.cos(),
            Term::Exp => x.exp(),
            Term::Sqrt => x.max(0.0).sqrt(),
            Term::Abs => x.abs(),
            Term::Sign => {
                if x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Term::Floor => x.floor(),
            Term::Ceil => x.ceil(),
            Term::Round => x.round_ties_even(),
        }
    }
}

/// The error function to seven digits (Abramowitz and Stegun, 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let coefficients =
        [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = coefficients.iter().fold(0.0, |sum, c| (sum + c) * t);
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}
