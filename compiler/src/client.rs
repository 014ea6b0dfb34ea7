//! The client model: encodes rows for encryption and decodes answers, without the model's weights.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::bounded;
use crate::domain::Domain;
use crate::error::Refusal;
use crate::network::{Decision, Head, Label, Layer, MAX_LAYERS, Prediction};
use crate::report::Report;
use crate::scale::{Decoding, Encoding};
use hermesh_engine::parameters::PACKING_SIZE;
use hermesh_engine::{Outline, Precision, noise};
use zeroize::Zeroizing;

/// log₂ of the highest failure probability that is accepted for an `exact` model.
pub(crate) const LEAST_FAILURE_LOG2: f64 = -40.0;

/// What a program guarantees about its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guarantee {
    /// For every row in the domain, no sum leaves its frame. Proven by interval arithmetic over the integer program.
    Bounded,
    /// Frames fit rows like those of calibration. The client evaluates each row through the program and refuses it if a
    /// sum leaves its frame. This needs the whole model.
    Checked,
}

/// What to do with rows that would get a wrong answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Refuse them.
    #[default]
    Refuse,
    /// Move features into the domain first and answer the changed row. It is refused if a sum still leaves its frame,
    /// or an index is not one.
    Clamp,
    /// Encrypt them; their answers may be wrong.
    Keep,
}

/// A row that may be encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The values to encrypt: torus elements scaled by 2⁶⁴.
    pub torus: Vec<u64>,
    /// Number of values that were outside their range and were moved to its edge.
    pub clamped: usize,
    /// The reason for refusal, if the row was kept although its answer may be wrong.
    pub kept: Option<Refusal>,
}

/// A row on its way into encryption.
pub(crate) struct Prepared {
    /// The row that is answered: the client's own, or moved into the domain.
    pub(crate) asked: Zeroizing<Vec<f64>>,
    /// What the client's own layers make of it.
    pub(crate) values: Zeroizing<Vec<f64>>,
    /// See [`Admitted::clamped`].
    pub(crate) clamped: usize,
    /// See [`Admitted::kept`].
    pub(crate) kept: Option<Refusal>,
}

/// The client model: encodes rows for a program and decodes the answers. It contains the layers that the client
/// computes itself (functions of one feature at a time) and only bounds of the other layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    pub(crate) outline: Outline,
    pub(crate) features: usize,
    pub(crate) domain: Domain,
    pub(crate) guarantee: Guarantee,
    /// Layers that the client computes before it encrypts: each value depends on one feature.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    pub(crate) prefix: Vec<Layer>,
    pub(crate) input: Encoding,
    pub(crate) output: Decoding,
    pub(crate) head: Head,
    /// Each output is rounded to a multiple of this before it is shown; 0 for `exact` programs.
    pub(crate) resolution: Vec<f64>,
    /// For each input: an upper bound on how far an output moves if the input moves by one, in units of what proven
    /// bounds on rounding leave of the output's limit; a power of two. `None` if no such bounds are known.
    pub(crate) sensitivity: Option<Vec<f64>>,
    pub(crate) report: Report,
}

impl Client {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let malformed = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        let Self { outline, input, output, resolution, .. } = self;
        let deviation = &self.report.deviation;
        outline.validate()?;
        self.domain.validate(self.features)?;
        self.head.validate(outline.outputs)?;
        let mut width = self.features;
        for layer in &self.prefix {
            layer.validate(width)?;
            width = layer.affine.rows();
        }
        let lengths = [outline.inputs, input.low.len(), input.high.len()];
        if lengths.iter().any(|&length| length != width) {
            return malformed("encoding and program differ in their inputs");
        }
        if let Some(sensitivity) = &self.sensitivity
            && (sensitivity.len() != width || sensitivity.iter().any(|x| !(0.0..).contains(x)))
        {
            return malformed("its bounds do not match its inputs, or are negative");
        }
        let sensitivity = self.sensitivity.as_deref().unwrap_or_default();
        let lengths = [output.centre.len(), output.scale.len(), resolution.len(), deviation.len()];
        if lengths.iter().any(|&length| length != outline.outputs) {
            return malformed("decoding and program differ in their outputs");
        }
        let bits = match outline.precision {
            Precision::Approximate => None,
            Precision::Exact { output_bits } => Some(output_bits),
        };
        if input.steps == 0
            || output.bits != bits
            || bits.is_some_and(|bits| !(1..=24).contains(&bits))
        {
            return malformed("steps or bits are out of range");
        }
        let numbers =
            [&input.low, &input.high, &output.centre, &output.scale, resolution, deviation];
        let ordered = input.low.iter().zip(&input.high).all(|(low, high)| low <= high);
        if !numbers.into_iter().flatten().chain(sensitivity).all(|x| x.is_finite()) || !ordered {
            return malformed("a range is not finite or has its ends reversed");
        }
        Ok(())
    }

    /// Rejects a client model that would certainly show noise, which depends on the secret key. The packing noise is
    /// known without the program: scores must be rounded at least that coarsely, and `exact` outputs must have steps that
    /// it does not change. Most noise comes from weights that only the whole model has; there the maker of the client
    /// model is trusted. A whole model is checked against its program's noise as well.
    pub(crate) fn check_claims(&self) -> Result<(), Error> {
        let bad = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        let packing = noise::packing(self.outline.parameter_set, PACKING_SIZE).sqrt();
        match self.outline.precision {
            Precision::Approximate => {
                let mut outputs = self.resolution.iter().zip(&self.output.scale);
                if outputs.any(|(&step, scale)| step <= 0.0 || step < 2.0 * packing * scale.abs()) {
                    return bad("its scores are rounded below their noise: export it again");
                }
            }
            Precision::Exact { output_bits } => {
                let half_step = f64::from(output_bits + 1).exp2().recip();
                if noise::two_sided_tail_log2(half_step / packing) > LEAST_FAILURE_LOG2 {
                    return bad("it is marked exact, but noise would change its answers");
                }
            }
        }
        Ok(())
    }

    /// The program's digest and widths.
    #[must_use]
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// The compiler's report.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The domain of the features.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What the program guarantees about its sums.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// How scores and label are derived from the outputs.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Each output of an `approximate` program is rounded to a multiple of this before it is shown: four times the
    /// standard deviation in the report. Rounding does not hide the noise; `hermesh_engine::reveal` counts the
    /// information that remains. Zero for `exact` programs.
    #[must_use]
    pub fn resolution(&self) -> &[f64] {
        &self.resolution
    }

    /// For each encoded value: an upper bound on how far an output moves if the value moves by one, in parts of the
    /// output's limit. `None` if no proven bounds are known.
    #[must_use]
    pub fn sensitivity(&self) -> Option<&[f64]> {
        self.sensitivity.as_deref()
    }

    /// Names of the layers that the client computes itself; the client model contains their weights.
    #[must_use]
    pub fn revealed_layers(&self) -> Vec<&str> {
        self.prefix.iter().map(|layer| layer.name.as_str()).collect()
    }

    /// Whether the client model alone refuses every row that would get a wrong answer.
    #[must_use]
    pub fn vouches(&self) -> bool {
        self.guarantee == Guarantee::Bounded && self.sensitivity.is_some()
    }

    /// Checks a row against the domain and the bounds, and encodes it. If [`Self::vouches`] is false, rows with wrong
    /// answers can pass.
    ///
    /// # Errors
    /// The row has another number of features than the model, or one that is not finite; or it is refused.
    pub fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error> {
        let Prepared { values, clamped, mut kept, .. } = self.prepare(row, policy)?;
        if let Some(refusal) = self.too_far(&values) {
            match policy {
                OutOfRange::Refuse | OutOfRange::Clamp => return Err(refusal.into()),
                OutOfRange::Keep => kept = kept.or(Some(refusal)),
            }
        }
        let torus = self.encode_values(&values).iter().map(|&x| x as u64).collect();
        Ok(Admitted { torus, clamped, kept })
    }

    /// Checks the domain and returns the values to encode: the row after the client's own layers.
    pub(crate) fn prepare(&self, row: &[f64], policy: OutOfRange) -> Result<Prepared, Error> {
        if row.len() != self.features {
            return Err(Error::RowLength { expected: self.features, found: row.len() });
        }
        if !row.iter().all(|x| x.is_finite()) {
            return Err(Error::NotFinite { what: "the row".into() });
        }
        let mut kept = None;
        let asked = Zeroizing::new(match (policy, self.domain.check(row)) {
            (OutOfRange::Refuse, Err(refusal))
            | (OutOfRange::Clamp, Err(refusal @ Refusal::NoIndex { .. })) => {
                return Err(refusal.into());
            }
            (OutOfRange::Keep, Err(refusal)) => {
                kept = Some(refusal);
                row.to_vec()
            }
            (OutOfRange::Clamp, _) => self.domain.clamp(row),
            (_, Ok(())) => row.to_vec(),
        });
        let moved = asked.iter().zip(row).filter(|(asked, x)| asked != x).count();
        let values = Zeroizing::new(apply(&self.prefix, &asked));
        if !values.iter().all(|x| x.is_finite()) {
            return Err(Error::NotFinite {
                what: "the row, after the client's own layers,".into(),
            });
        }
        let outside = (0..values.len()).filter(|&i| self.input.is_outside(i, values[i])).count();
        Ok(Prepared { asked, values, clamped: moved + outside, kept })
    }

    /// Encoded values in units of 2⁻⁶⁴ turns.
    pub(crate) fn encode_values(&self, values: &[f64]) -> Zeroizing<Vec<i128>> {
        let encode = |(i, &x)| self.input.clamped(i, x);
        Zeroizing::new(values.iter().enumerate().map(encode).collect())
    }

    /// Refuses values if clamping them to their ranges may move an output by more than its limit.
    fn too_far(&self, values: &[f64]) -> Option<Refusal> {
        let sensitivity = self.sensitivity.as_ref()?;
        let moved = |i: usize| {
            let beyond = (self.input.low[i] - values[i]).max(values[i] - self.input.high[i]);
            if self.input.is_outside(i, values[i]) { sensitivity[i] * beyond } else { 0.0 }
        };
        let total: f64 = (0..values.len()).map(moved).sum();
        if total <= 1.0 {
            return None;
        }
        let feature = (0..values.len()).max_by(|&a, &b| moved(a).total_cmp(&moved(b)))?;
        let (low, high) = (self.input.low[feature], self.input.high[feature]);
        Some(Refusal::Clamped { feature, value: values[feature], low, high })
    }

    /// The network's outputs, before the head, from decrypted torus values. Noise included.
    #[must_use]
    pub fn decode_outputs(&self, torus: &[u64]) -> Vec<f64> {
        torus.iter().enumerate().map(|(i, &x)| self.output.decode(i, x)).collect()
    }

    /// The head's scores and label for the outputs. A model with several scores and no decision is read as a
    /// classifier: its label is the index of the largest score.
    #[must_use]
    pub fn interpret(&self, outputs: &[f64]) -> Prediction {
        interpret(&self.head, outputs)
    }
}

/// A whole model or a client model: checks rows and encodes them.
pub trait Admit: AsRef<Client> {
    /// Checks a row, and encodes it.
    ///
    /// # Errors
    /// The row has another number of features than the model, or one that is not finite; or it is refused.
    fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error>;
}

impl Admit for Client {
    fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error> {
        Client::admit(self, row, policy)
    }
}

impl AsRef<Client> for Client {
    fn as_ref(&self) -> &Client {
        self
    }
}

/// See [`Client::interpret`].
pub(crate) fn interpret(head: &Head, outputs: &[f64]) -> Prediction {
    let mut prediction = head.apply(outputs);
    if head.decision == Decision::Scores && outputs.len() > 1 {
        let best = outputs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        prediction.label = best.map(|(index, _)| Label::Int(index as i64));
    }
    prediction
}

/// Applies layers to a row, in order.
pub(crate) fn apply(layers: &[Layer], row: &[f64]) -> Vec<f64> {
    layers.iter().fold(row.to_vec(), |values, layer| layer.apply(&values))
}
