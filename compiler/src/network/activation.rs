//! Activations: functions of one value between affine layers.

use std::collections::HashMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::formula::{Formula, Term};
use crate::bounded;

/// Maximum number of activations without parameters in a layer that is read. Fewer exist, but a layer may contain one
/// twice.
const MAX_PLAIN_KINDS: usize = 64;

/// A function of one value. Under encryption every such function costs one Lookup per value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// x itself. Free if the row selects one value of an earlier Lookup: the value then passes the stage unchanged.
    Identity,
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
    /// 1 where x > 0, else 0.
    Step,
    /// 1 where |x| < ½, else 0: tests whether a whole number is 0.
    Equal,
    /// Any other function of one value.
    Formula(Formula),
    /// A value for each integer from 0 on; integers outside are clamped.
    Table(Vec<f64>),
}

impl Activation {
    /// The function's value at `x`.
    pub fn apply(&self, x: f64) -> f64 {
        match *self {
            Activation::Identity => x,
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
            Activation::Step => f64::from(u8::from(x > 0.0)),
            Activation::Equal => f64::from(u8::from(x.abs() < 0.5)),
            Activation::Formula(ref formula) => formula.apply(x),
            Activation::Table(ref values) => {
                let last = values.len().saturating_sub(1);
                values.get((x.round().max(0.0) as usize).min(last)).copied().unwrap_or_default()
            }
        }
    }

    /// The function as a formula; `None` for comparisons and tables.
    pub(crate) fn formula(&self) -> Option<Formula> {
        let term = match *self {
            Activation::Identity => return Some(Formula::of(&[])),
            Activation::Relu => Term::Relu,
            Activation::LeakyRelu { alpha } => Term::LeakyRelu { alpha },
            Activation::Sigmoid => Term::Sigmoid,
            Activation::Tanh => Term::Tanh,
            Activation::Clip { min, max } => Term::Clip { min, max },
            Activation::Formula(ref formula) => return Some(formula.clone()),
            Activation::Step | Activation::Equal | Activation::Table(_) => return None,
        };
        Some(Formula::of(&[term]))
    }

    /// By how many quarters of a turn the function is ahead of the cosine; `None` unless it is the cosine or the sine.
    pub(crate) fn wave(&self) -> Option<usize> {
        match self {
            Activation::Formula(formula) => match formula.terms() {
                [Term::Input, Term::Cos] => Some(0),
                [Term::Input, Term::Sin] => Some(3),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a greater value never gives less.
    pub(crate) fn is_monotone(&self) -> bool {
        match *self {
            Activation::Relu | Activation::Sigmoid | Activation::Tanh | Activation::Clip { .. } => {
                true
            }
            Activation::LeakyRelu { alpha } => alpha >= 0.0,
            _ => false,
        }
    }

    /// A key that is equal only for equal activations.
    pub(crate) fn key(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(crate) fn is_finite(&self) -> bool {
        match self {
            Activation::Table(values) => {
                !values.is_empty() && values.iter().all(|value| value.is_finite())
            }
            Activation::Formula(formula) => formula.is_valid(),
            Activation::LeakyRelu { alpha } => alpha.is_finite(),
            Activation::Clip { min, max } => min.is_finite() && max.is_finite(),
            Activation::Identity
            | Activation::Relu
            | Activation::Sigmoid
            | Activation::Tanh
            | Activation::Step
            | Activation::Equal => true,
        }
    }
}

/// Uses the named activation if one exists.
impl From<Formula> for Activation {
    fn from(formula: Formula) -> Self {
        match *formula.terms() {
            [Term::Input] => Activation::Identity,
            [Term::Input, Term::Relu] => Activation::Relu,
            [Term::Input, Term::LeakyRelu { alpha }] => Activation::LeakyRelu { alpha },
            [Term::Input, Term::Sigmoid] => Activation::Sigmoid,
            [Term::Input, Term::Tanh] => Activation::Tanh,
            [Term::Input, Term::Clip { min, max }] => Activation::Clip { min, max },
            _ => Activation::Formula(formula),
        }
    }
}

/// The activation of each row of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activations {
    #[serde(deserialize_with = "kinds")]
    kinds: Vec<Activation>,
    /// Index into `kinds` for each row; `None` if all rows have the first.
    #[serde(deserialize_with = "bounded::some::<_, _, { hermesh_engine::MAX_WIDTH }>")]
    of: Option<Vec<u32>>,
}

impl Activations {
    /// One activation for each row.
    ///
    /// # Panics
    /// If an index is not below the number of kinds.
    #[must_use]
    pub fn each(kinds: Vec<Activation>, of: Vec<u32>) -> Self {
        assert!(of.iter().all(|&kind| (kind as usize) < kinds.len()), "an activation is missing");
        Self { kinds, of: Some(of) }
    }

    /// The same activations without duplicates in `kinds`.
    pub(crate) fn distinct(self) -> Self {
        let (mut kinds, mut known) = (Vec::new(), HashMap::new());
        let place = self.kinds.into_iter().map(|kind| {
            *known.entry(kind.key()).or_insert_with(|| {
                kinds.push(kind);
                kinds.len() as u32 - 1
            })
        });
        let place = place.collect::<Vec<_>>();
        let of = self.of.map(|of| of.into_iter().map(|kind| place[kind as usize]).collect());
        Self { kinds, of }
    }

    /// One activation for each row, without duplicates in `kinds`.
    pub(crate) fn of_rows(rows: impl Iterator<Item = Activation>) -> Self {
        let (mut kinds, mut known) = (Vec::new(), HashMap::new());
        let of = rows.map(|kind| {
            *known.entry(kind.key()).or_insert_with(|| {
                kinds.push(kind);
                kinds.len() as u32 - 1
            })
        });
        Self { of: Some(of.collect()), kinds }
    }

    /// The activations of the first rows of each part, one part after another, without duplicates in `kinds`.
    pub(crate) fn stack<'a>(parts: impl Iterator<Item = (&'a Self, usize)>) -> Self {
        Self::of_rows(parts.flat_map(|(part, rows)| (0..rows).map(|row| part.at(row).clone())))
    }

    /// The activations of `rows`, in this order.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        match &self.of {
            None => self.clone(),
            Some(of) => {
                let mut known = HashMap::new();
                let mut kinds = Vec::new();
                let of = rows.iter().map(|&row| {
                    *known.entry(of[row]).or_insert_with(|| {
                        kinds.push(self.at(row).clone());
                        kinds.len() as u32 - 1
                    })
                });
                let of = Some(of.collect());
                Self { kinds, of }
            }
        }
    }

    /// The index of a row's activation in `kinds`.
    pub(crate) fn index(&self, row: usize) -> usize {
        self.of.as_ref().map_or(0, |of| of[row] as usize)
    }

    /// The activation of a row.
    #[must_use]
    pub fn at(&self, row: usize) -> &Activation {
        &self.kinds[self.index(row)]
    }

    /// The activation of all rows, if it is the same.
    #[must_use]
    pub fn uniform(&self) -> Option<&Activation> {
        match (&self.of, self.kinds.as_slice()) {
            (None, [kind, ..]) | (Some(_), [kind]) => Some(kind),
            _ => None,
        }
    }

    /// The distinct activations.
    pub fn kinds(&self) -> &[Activation] {
        &self.kinds
    }

    /// Whether there is a finite activation for each of `rows` rows.
    pub(super) fn fits(&self, rows: usize) -> bool {
        let count = self.kinds.len();
        let each =
            |of: &Vec<u32>| of.len() == rows && of.iter().all(|&kind| (kind as usize) < count);
        (1..=rows).contains(&count)
            && self.kinds.iter().all(Activation::is_finite)
            && self.of.as_ref().is_none_or(each)
    }
}

/// Reads activations within bounds on memory: at most one for each possible row, and few of those that take one byte in
/// the file.
fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Activation>, D::Error> {
    let kinds = bounded::list::<_, Activation, { hermesh_engine::MAX_WIDTH }>(deserializer)?;
    let plain = |kind: &&Activation| match kind {
        Activation::Formula(_) | Activation::LeakyRelu { .. } | Activation::Clip { .. } => false,
        Activation::Table(values) => values.is_empty(),
        _ => true,
    };
    if kinds.iter().filter(plain).count() > MAX_PLAIN_KINDS {
        return Err(D::Error::custom("activations of a layer repeat"));
    }
    Ok(kinds)
}

/// The same activation for all rows.
impl From<Activation> for Activations {
    fn from(kind: Activation) -> Self {
        Self { kinds: vec![kind], of: None }
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
