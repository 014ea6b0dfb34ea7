//! The model artifact: program, network, value ranges and client model.

use crate::Error;
use crate::client::{Admit, Admitted, Client, LEAST_FAILURE_LOG2, OutOfRange, Prepared};
use crate::error::Refusal;
use crate::frame::Frames;
use crate::network::{Network, Prediction};
use crate::report::Report;
use hermesh_engine::artifact::{Format, append_digest, check_digest};
use hermesh_engine::noise::StageNoise;
use hermesh_engine::{Moments, Noise, Precision, Program, Spread};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"HMX\0";
const FORMAT: Format =
    Format { oldest: 4, newest: 4, readers: &[(3, "0.1.0")], again: "run `hermesh compile` again" };
/// Largest accepted model file, in bytes.
pub const MAX_MODEL_BYTES: u64 = 256 << 20;

/// Magic, version and kind.
const HEADER_BYTES: usize = 7;

/// The content of a model file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Client,
}

/// A compiled model. Servers receive only [`Model::program`]. The rest stays with the model's owner and with clients
/// who may know the model; other clients receive [`Model::client`].
#[derive(Clone, Debug)]
pub struct Model {
    program: Program,
    /// Of the program.
    noise: Vec<StageNoise>,
    network: Network,
    frames: Frames,
    client: Client,
}

/// A model file: the whole model or a client model.
#[derive(Clone, Debug)]
pub enum Artifact {
    /// The whole model.
    Whole(Box<Model>),
    /// A client model.
    Client(Box<Client>),
}

impl Model {
    pub(crate) fn new(
        program: Program,
        network: Network,
        frames: Frames,
        client: Client,
    ) -> Result<Self, Error> {
        network.validate()?;
        client.validate()?;
        let malformed = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        let same = client.features == network.inputs
            && client.outline == *program.outline()
            && client.head == network.head
            && client.domain.indices == network.indices
            && program.outputs() == network.outputs();
        if !same {
            return malformed("program, network and client model do not belong together");
        }
        if !frames.fits(&program) {
            return malformed("its frames do not match its program");
        }
        Ok(Self { noise: program.noise(), program, network, frames, client })
    }

    pub(crate) fn with_client(self, client: Client) -> Result<Self, Error> {
        Self::new(self.program, self.network, self.frames, client)
    }

    /// Reads the bytes of [`Self::encode`].
    ///
    /// # Errors
    /// The bytes are not a well-formed whole model of at most [`MAX_MODEL_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        match Artifact::decode(bytes)? {
            Artifact::Whole(model) => Ok(*model),
            Artifact::Client(_) => Err(Error::ClientHalf),
        }
    }

    /// Rejects a model that would show noise, which depends on the client's secret key: scores must be rounded at least
    /// as coarsely as the noise of the last stage, and noise must not change `exact` answers.
    fn check_claims(&self) -> Result<(), Error> {
        let bad = |reason: &str| Err(Error::BadModel { reason: reason.into() });
        if self.program.failure_log2().is_some_and(|log2| log2 > LEAST_FAILURE_LOG2) {
            return bad("it is marked exact, but noise would change its answers: compile it again");
        }
        let outputs = self.noise.last().map_or(&[][..], |stage| &stage.input);
        let Client { output, resolution, .. } = &self.client;
        let shown = |i: usize| {
            resolution[i] <= 0.0 || resolution[i] < 2.0 * outputs[i].sqrt() * output.scale[i].abs()
        };
        if output.bits.is_none() && (0..outputs.len()).any(shown) {
            return bad("its scores are rounded below their noise: compile it again");
        }
        Ok(())
    }

    /// The model as bytes.
    ///
    /// # Errors
    /// None in practice: the encoding of a valid model does not fail.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let parts = (self.program.encode(), &self.network, &self.frames, &self.client);
        encode(Kind::Whole, &parts)
    }

    /// The client model. It has no weights except those of layers that the client computes itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The program that servers evaluate.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The model in floating point.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The compiler's report.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.client.report
    }

    /// See [`Client::resolution`].
    #[must_use]
    pub fn resolution(&self) -> &[f64] {
        self.client.resolution()
    }

    /// Checks a row and encodes it. Evaluates the row exactly through the program, and compares the result with the
    /// plain model.
    ///
    /// # Errors
    /// The row has another number of features than the model, or one that is not finite; or it is refused.
    pub fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error> {
        let Prepared { asked, values, clamped, mut kept } = self.client.prepare(row, policy)?;
        let encoded = self.client.encode_values(&values);
        let plain = Zeroizing::new(self.network.evaluate(&asked)?);
        if let Err(refusal) = self.follow(&asked, &encoded, &plain) {
            match policy {
                OutOfRange::Keep => kept = kept.or(Some(refusal)),
                OutOfRange::Refuse | OutOfRange::Clamp => return Err(refusal.into()),
            }
        }
        Ok(Admitted { torus: encoded.iter().map(|&x| x as u64).collect(), clamped, kept })
    }

    /// Refuses a row of which a sum leaves its frame, or an output may be further from `plain` than is stated.
    fn follow(&self, row: &[f64], encoded: &[i128], plain: &[f64]) -> Result<(), Refusal> {
        let errors = self.errors(encoded, plain)?;
        let stated = |i: usize| 6.0 * self.client.report.deviation[i];
        match errors.iter().enumerate().find(|&(i, &error)| exceeds(error, plain[i], stated(i))) {
            None => Ok(()),
            Some((output, &by)) => Err(Refusal::Deviates {
                output,
                by,
                limit: stated(output),
                furthest: self.client.domain.furthest(row),
            }),
        }
    }

    /// The sums of a row and their noise. Noise that changes an `exact` answer is part of the failure probability, so
    /// it counts for nothing here.
    fn trace(&self, encoded: &[i128]) -> (Zeroizing<Vec<Vec<i128>>>, Option<Spread>) {
        let trace = Zeroizing::new(self.frames.trace(&self.program, encoded));
        let approximate = self.program.precision() == Precision::Approximate;
        let spread = approximate.then(|| self.program.spread(&trace, &self.noise));
        (trace, spread)
    }

    /// For each output, how far its mean is from `plain`, and six standard deviations of its noise on top. An error if
    /// a sum leaves its frame.
    fn errors(&self, encoded: &[i128], plain: &[f64]) -> Result<Vec<f64>, Refusal> {
        let (trace, mut spread) = self.trace(encoded);
        let outputs = spread.as_mut().map(|spread| {
            let outputs = self.program.output_moments(spread, &self.noise);
            if let Some(last) = spread.sums.last_mut() {
                last.clone_from(&outputs);
            }
            outputs
        });
        self.frames.check(&self.program, &trace, spread.as_ref())?;
        let quiet: Zeroizing<Vec<u64>> = Zeroizing::new(last(&trace).map(|x| x as u64).collect());
        let quiet = Zeroizing::new(self.client.decode_outputs(&quiet));
        let error = |(i, (quiet, plain)): (usize, (&f64, &f64))| {
            let noise = outputs.as_ref().map_or_else(Moments::default, |outputs| outputs[i]);
            let scale = self.client.output.scale[i];
            let mean = quiet + scale * noise.shift;
            (mean - plain).abs() + 6.0 * scale.abs() * noise.variance.sqrt()
        };
        Ok(quiet.iter().zip(plain).enumerate().map(error).collect())
    }

    /// [`Self::errors`] of a row of features; `None` if a sum leaves its frame.
    pub(crate) fn errors_of(&self, row: &[f64]) -> Result<Option<Vec<f64>>, Error> {
        let Prepared { values, .. } = self.client.prepare(row, OutOfRange::Keep)?;
        let plain = self.network.evaluate(row)?;
        Ok(self.errors(&self.client.encode_values(&values), &plain).ok())
    }

    /// The outputs of encoded values without noise, and before `exact` ones are rounded to their steps.
    pub(crate) fn unrounded(&self, encoded: &[i128]) -> Vec<f64> {
        let trace = self.frames.trace(&self.program, encoded);
        let Client { output, .. } = &self.client;
        let decode =
            |(i, x): (usize, i128)| output.centre[i] + output.scale[i] * (x as f64) / 2f64.powi(64);
        last(&trace).enumerate().map(decode).collect()
    }

    /// A row without noise and without checks: what is encrypted, the outputs, and whether all sums are in their frames.
    pub(crate) fn quiet(&self, row: &[f64]) -> Result<(Vec<u64>, Vec<f64>, bool), Error> {
        let Prepared { values, .. } = self.client.prepare(row, OutOfRange::Keep)?;
        let encoded = self.client.encode_values(&values);
        let (trace, spread) = self.trace(&encoded);
        let inside = self.frames.check(&self.program, &trace, spread.as_ref()).is_ok();
        let outputs: Vec<u64> = last(&trace).map(|x| x as u64).collect();
        let torus = encoded.iter().map(|&x| x as u64).collect();
        Ok((torus, self.decode_outputs(&outputs), inside))
    }

    /// Encodes a row of features as torus values, without any check: values outside their range are moved to its edge.
    ///
    /// # Errors
    /// The row has another number of features than the model, or one that is not finite.
    pub fn encode_row(&self, row: &[f64]) -> Result<Vec<u64>, Error> {
        let Prepared { values, .. } = self.client.prepare(row, OutOfRange::Keep)?;
        Ok(self.client.encode_values(&values).iter().map(|&x| x as u64).collect())
    }

    /// See [`Client::decode_outputs`].
    #[must_use]
    pub fn decode_outputs(&self, torus: &[u64]) -> Vec<f64> {
        self.client.decode_outputs(torus)
    }

    /// See [`Client::interpret`].
    #[must_use]
    pub fn interpret(&self, outputs: &[f64]) -> Prediction {
        self.client.interpret(outputs)
    }

    /// The prediction of the network in floating point.
    ///
    /// # Errors
    /// The row has another number of features than the model.
    pub fn plain(&self, row: &[f64]) -> Result<Prediction, Error> {
        Ok(self.interpret(&self.network.evaluate(row)?))
    }

    /// Simulates the encrypted computation: the program in the clear, with noise of the predicted variance. `normal`
    /// provides standard normal values.
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

/// Whether an error is more than is stated, floating-point rounding aside. One that is not finite is.
fn exceeds(error: f64, plain: f64, stated: f64) -> bool {
    let within = plain.is_finite() && error <= stated + 1e-9 * (error.abs() + plain.abs());
    !within
}

/// The sums of the last stage.
fn last(trace: &[Vec<i128>]) -> impl Iterator<Item = i128> + '_ {
    trace.last().into_iter().flatten().copied()
}

impl Artifact {
    /// Reads the bytes of [`Model::encode`] or [`Client::encode`].
    ///
    /// # Errors
    /// The bytes are not a well-formed model of at most [`MAX_MODEL_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_MODEL_BYTES {
            return Err(Error::TooLarge { what: "the model file is", limit: MAX_MODEL_BYTES });
        }
        let bad = |reason: String| Error::BadModel { reason };
        let (header, _) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| bad("it is too short".into()))?;
        if &header[..4] != MAGIC {
            return Err(bad("it was not written by `hermesh compile`".into()));
        }
        let what = "the model file";
        FORMAT.check(what, u16::from_le_bytes([header[4], header[5]]).into())?;
        let content = check_digest(bytes, what, "copy it again, or run `hermesh compile` again")?;
        match content.get(HEADER_BYTES - 1..).and_then(<[u8]>::split_first) {
            Some((0, body)) => {
                let (program, network, frames, client): (Vec<u8>, _, _, _) = whole(body)?;
                let model = Model::new(Program::decode(&program)?, network, frames, client)?;
                model.check_claims()?;
                Ok(Self::Whole(Box::new(model)))
            }
            Some((1, body)) => {
                let client: Client = whole(body)?;
                client.validate()?;
                client.check_claims()?;
                Ok(Self::Client(Box::new(client)))
            }
            _ => Err(bad("it is neither a whole model nor a client model".into())),
        }
    }

    /// The client model, also of a whole model.
    #[must_use]
    pub fn client(&self) -> &Client {
        match self {
            Self::Whole(model) => model.client(),
            Self::Client(client) => client,
        }
    }

    /// The whole model; `None` for a client model.
    #[must_use]
    pub fn whole(&self) -> Option<&Model> {
        match self {
            Self::Whole(model) => Some(model),
            Self::Client(_) => None,
        }
    }
}

impl Admit for Artifact {
    fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error> {
        match self {
            Self::Whole(model) => model.admit(row, policy),
            Self::Client(client) => client.admit(row, policy),
        }
    }
}

impl AsRef<Client> for Artifact {
    fn as_ref(&self) -> &Client {
        self.client()
    }
}

impl Admit for Model {
    fn admit(&self, row: &[f64], policy: OutOfRange) -> Result<Admitted, Error> {
        Model::admit(self, row, policy)
    }
}

impl AsRef<Client> for Model {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    /// The client model as bytes.
    ///
    /// # Errors
    /// None in practice: the encoding of a valid client model does not fail.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        encode(Kind::Client, self)
    }
}

fn encode(kind: Kind, body: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(FORMAT.newest as u16).to_le_bytes());
    bytes.push(kind as u8);
    postcard::to_extend(body, bytes)
        .map(append_digest)
        .map_err(|e| Error::BadModel { reason: e.to_string() })
}

fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let bad = |reason: String| Error::BadModel { reason };
    let (value, rest) = postcard::take_from_bytes(body).map_err(|e| bad(e.to_string()))?;
    match rest.len() {
        0 => Ok(value),
        left => Err(bad(format!("{left} bytes are left over"))),
    }
}
