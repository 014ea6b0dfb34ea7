//! The model artifact: a program, and what the client needs to use it.

use crate::Error;
use crate::bounded;
use crate::network::{Decision, Label, Layer, MAX_LAYERS, Network, Prediction};
use crate::report::Report;
use crate::scale::{Decoding, Encoding};
use hermesh_engine::noise::StageNoise;
use hermesh_engine::{Noise, Precision, Program};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"HMX\0";
const VERSION: u16 = 3;
/// Most that an `exact` model may be wrong with, as log₂ of the probability.
const LEAST_FAILURE_LOG2: f64 = -40.0;
/// Largest model file that is read, in bytes.
pub const MAX_MODEL_BYTES: u64 = 256 << 20;

/// A compiled model. Its [`Model::program`] is all that servers see; encoding, head and the plain network stay with the
/// client.
#[derive(Clone, Debug)]
pub struct Model {
    program: Program,
    client: Client,
}

/// The part of a model that only the client uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) network: Network,
    /// Layers that the client computes itself, before it encrypts: they look at one feature at a time.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    pub(crate) prefix: Vec<Layer>,
    pub(crate) input: Encoding,
    pub(crate) output: Decoding,
    /// What each output is rounded to before it is shown; 0 for `exact` programs.
    pub(crate) resolution: Vec<f64>,
    pub(crate) report: Report,
}

impl Model {
    pub(crate) fn new(program: Program, client: Client) -> Result<Self, Error> {
        client.network.validate()?;
        let Client { network, prefix, input, output, resolution, .. } = &client;
        let malformed = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        let mut width = network.inputs;
        for layer in prefix {
            layer.validate(width)?;
            width = layer.affine.rows();
        }
        let lengths = [program.inputs(), input.low.len(), input.high.len()];
        if lengths.iter().any(|&length| length != width) {
            return malformed("encoding and program differ in their inputs");
        }
        let lengths =
            [program.outputs(), output.centre.len(), output.scale.len(), resolution.len()];
        if lengths.iter().any(|&length| length != network.outputs()) {
            return malformed("decoding and program differ in their outputs");
        }
        let bits = match program.precision() {
            Precision::Approximate => None,
            Precision::Exact { output_bits } => Some(output_bits),
        };
        if input.steps == 0 || output.bits != bits {
            return malformed("steps or bits are out of range");
        }
        let numbers = [&input.low, &input.high, &output.centre, &output.scale, resolution];
        let ordered = input.low.iter().zip(&input.high).all(|(low, high)| low <= high);
        if !numbers.into_iter().flatten().all(|x| x.is_finite()) || !ordered {
            return malformed("a range is not finite or upside down");
        }
        Ok(Self { program, client })
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Anything but a well-formed model of at most [`MAX_MODEL_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_MODEL_BYTES {
            return Err(Error::TooLarge { what: "the model file is", limit: MAX_MODEL_BYTES });
        }
        let bad = |reason: String| Error::BadModel { reason };
        let (header, rest) =
            bytes.split_first_chunk::<6>().ok_or_else(|| bad("it is too short".into()))?;
        if &header[..4] != MAGIC {
            return Err(bad("it was not written by `hermesh compile`".into()));
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(bad(format!(
                "it has format version {version}, this build reads {VERSION}: compile it again"
            )));
        }
        let ((program, client), rest): ((Vec<u8>, Client), _) =
            postcard::take_from_bytes(rest).map_err(|e| bad(e.to_string()))?;
        if !rest.is_empty() {
            return Err(bad(format!("{} bytes are left over", rest.len())));
        }
        let model = Self::new(Program::decode(&program)?, client)?;
        model.check_claims()?;
        Ok(model)
    }

    /// A file is not believed where that would show noise, which depends on the client's key: scores are rounded to no
    /// less than the noise of the last stage alone, and what is called exact is.
    fn check_claims(&self) -> Result<(), Error> {
        let bad = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        if self.program.failure_log2().is_some_and(|log2| log2 > LEAST_FAILURE_LOG2) {
            return bad("it is called exact, but noise would change its answers: compile it again");
        }
        let noise = self.program.noise();
        let outputs = noise.last().map_or(&[][..], |stage| &stage.input);
        let Client { output, resolution, .. } = &self.client;
        let shown = |i: usize| resolution[i] < 2.0 * outputs[i].sqrt() * output.scale[i].abs();
        if output.bits.is_none() && (0..outputs.len()).any(shown) {
            return bad("its scores are rounded to less than their noise: compile it again");
        }
        Ok(())
    }

    /// The model as bytes.
    ///
    /// # Errors
    /// None in practice: the encoding of a valid model does not fail.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        postcard::to_extend(&(self.program.encode(), &self.client), bytes)
            .map_err(|e| Error::BadModel { reason: e.to_string() })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What servers evaluate.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The model in floating point.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.client.network
    }

    /// What the compiler found out.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.client.report
    }

    /// What each output of an `approximate` program is to be rounded to before others see it: four
    /// standard deviations of its noise, which hides most of it. Zero for `exact` programs.
    #[must_use]
    pub fn resolution(&self) -> &[f64] {
        &self.client.resolution
    }

    /// A row of features as torus values, ready to be encrypted.
    ///
    /// # Errors
    /// The row has another number of features than the model, or one that is not finite.
    pub fn encode_row(&self, row: &[f64]) -> Result<Vec<u64>, Error> {
        let Client { network, prefix, input, .. } = &self.client;
        network.check_row(row)?;
        let values = apply(prefix, row);
        if !values.iter().all(|x| x.is_finite()) {
            return Err(Error::NotFinite { what: "the row".into() });
        }
        Ok(values.iter().enumerate().map(|(i, &x)| input.encode_clamped(i, x)).collect())
    }

    /// Decrypted torus values as the network's outputs, before the head. Noise included.
    #[must_use]
    pub fn decode_outputs(&self, torus: &[u64]) -> Vec<f64> {
        torus.iter().enumerate().map(|(i, &x)| self.client.output.decode(i, x)).collect()
    }

    /// What the outputs mean: the head's scores and label. A model that only gives several scores
    /// is read as a classifier, with the index of the largest as its label.
    #[must_use]
    pub fn interpret(&self, outputs: &[f64]) -> Prediction {
        interpret(&self.client.network, outputs)
    }

    /// The prediction of the network in floating point.
    ///
    /// # Errors
    /// The row has another number of features than the model.
    pub fn plain(&self, row: &[f64]) -> Result<Prediction, Error> {
        Ok(self.interpret(&self.client.network.evaluate(row)?))
    }

    /// The prediction to expect of the encrypted computation: the program in the clear, with noise
    /// of the predicted variance from `normal`, a source of standard normal values.
    ///
    /// # Errors
    /// The row has another number of features than the model.
    pub fn simulate(
        &self,
        row: &[f64],
        stages: &[StageNoise],
        normal: &mut dyn FnMut() -> f64,
    ) -> Result<Prediction, Error> {
        let torus = self.encode_row(row)?;
        let out = self.program.simulate(&torus, &mut Noise::Predicted { stages, normal });
        Ok(self.interpret(&self.decode_outputs(&out)))
    }
}

/// See [`Model::interpret`].
pub(crate) fn interpret(network: &Network, outputs: &[f64]) -> Prediction {
    let mut prediction = network.head.apply(outputs);
    if network.head.decision == Decision::Scores && outputs.len() > 1 {
        let best = outputs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        prediction.label = best.map(|(index, _)| Label::Int(index as i64));
    }
    prediction
}

/// What layers make of a row, one after another.
pub(crate) fn apply(layers: &[Layer], row: &[f64]) -> Vec<f64> {
    layers.iter().fold(row.to_vec(), |values, layer| layer.apply(&values))
}
