//! Frames: the part of the torus that each sum must stay in. See [`hermesh_engine::reach`].

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::error::Refusal;
use crate::network::MAX_LAYERS;
use crate::scale::Encoding;
use hermesh_engine::noise::StageNoise;
use hermesh_engine::reach::{Interval, LOOKUP_FRAME, OUTPUT_FRAME};
use hermesh_engine::{Precision, Program};

/// Standard deviations of noise that are kept free at both ends of a frame, before lookup tables and in outputs. A row
/// has many values before tables, few of them near an end; every output is shown.
const NOISE_ROOM: (f64, f64) = (4.0, 6.0);
/// Which sums the client must check for each row, by stage: those not proven to stay in their frames. Sums before sine
/// and cosine tables are not checked, because these tables have the period of the torus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frames {
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    followed: Vec<Vec<bool>>,
    /// The whole turns of each stage's biases.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_LAYERS>")]
    turns: Vec<Vec<i32>>,
}

/// Facts about a program's sums that are not in the program.
pub(crate) struct Known<'a> {
    /// The encoding of the inputs.
    pub(crate) input: &'a Encoding,
    /// For each stage except the last: the rows whose tables are sines or cosines with the period of the torus.
    pub(crate) waves: &'a [Vec<bool>],
    /// The whole turns of each stage's biases.
    pub(crate) turns: Vec<Vec<i32>>,
    /// Whether the outputs are sums of trees, whose bounds [`crate::sums`] has proven.
    pub(crate) bounded_sums: bool,
}

impl Frames {
    /// Determines the sums to check, by interval arithmetic over all inputs that can be encoded.
    pub(crate) fn new(program: &Program, known: Known<'_>) -> Self {
        let encoding = known.input;
        let input = |i: usize| {
            (encoding.clamped(i, encoding.low[i]), encoding.clamped(i, encoding.high[i]))
        };
        let inputs: Vec<Interval> = (0..encoding.low.len()).map(input).collect();
        let noise = program.noise();
        let reach = program.reach(&inputs, &known.turns);
        let followed = reach.iter().enumerate().map(|(s, sums)| {
            let last = s + 1 == program.stages().len();
            let follow = |(r, &(low, high)): (usize, &Interval)| {
                if last && known.bounded_sums || known.waves.get(s).is_some_and(|waves| waves[r]) {
                    return false;
                }
                let frame = frame(program, &noise, s, r);
                frame.is_some_and(|(least, most)| low < least || most < high)
            };
            sums.iter().enumerate().map(follow).collect()
        });
        Self { followed: followed.collect(), turns: known.turns }
    }

    /// Whether all sums are proven to stay in their frames.
    pub(crate) fn are_bounds(&self) -> bool {
        !self.followed.iter().flatten().any(|&followed| followed)
    }

    /// For each stage: whether all its sums are proven to stay in their frames.
    pub(crate) fn bounded_stages(&self) -> impl Iterator<Item = bool> + '_ {
        self.followed.iter().map(|rows| !rows.contains(&true))
    }

    pub(crate) fn fits(&self, program: &Program) -> bool {
        let rows = program.stages().iter().map(|stage| stage.linear.matrix.rows());
        rows.clone().eq(self.followed.iter().map(Vec::len))
            && rows.eq(self.turns.iter().map(Vec::len))
    }

    /// The sums of a row: see [`Program::trace`].
    pub(crate) fn trace(&self, program: &Program, row: &[i128]) -> Vec<Vec<i128>> {
        program.trace(row, &self.turns)
    }

    /// Refuses a row if a sum leaves its frame.
    pub(crate) fn check(&self, program: &Program, trace: &[Vec<i128>]) -> Result<(), Refusal> {
        if self.are_bounds() {
            return Ok(());
        }
        let noise = program.noise();
        for (s, sums) in trace.iter().enumerate() {
            for (r, &sum) in sums.iter().enumerate().filter(|(r, _)| self.followed[s][*r]) {
                let Some((least, most)) = frame(program, &noise, s, r) else {
                    continue;
                };
                if sum < least || most < sum {
                    let whole = if s + 1 == trace.len() { OUTPUT_FRAME } else { LOOKUP_FRAME };
                    let width = (whole.1 - whole.0) as f64;
                    let part = |x: i128| (x - whole.0) as f64 / width;
                    let (at, low, high) = (part(sum), part(least), part(most));
                    return Err(Refusal::OutOfFrame { layer: s, value: r, at, low, high });
                }
            }
        }
        Ok(())
    }
}

/// The frame of a sum minus the margin for its noise. `None` for a value that passes its stage.
fn frame(program: &Program, noise: &[StageNoise], stage: usize, row: usize) -> Option<Interval> {
    let exact = program.precision() != Precision::Approximate;
    let lookup = program.stages()[stage].lookup.as_ref();
    let (frame, deviations) = match lookup {
        Some(lookup) => {
            lookup.table(row)?;
            (LOOKUP_FRAME, NOISE_ROOM.0)
        }
        None => (OUTPUT_FRAME, NOISE_ROOM.1),
    };
    // The effect of noise on exact sums is part of the failure probability.
    let room = if exact { 0.0 } else { deviations * noise[stage].input[row].sqrt() };
    let room = (room * 2f64.powi(64)) as i128;
    Some((frame.0 + room, frame.1 - room))
}

/// Whether two numbers differ by more than a limit plus floating-point rounding.
pub(crate) fn differs(a: f64, b: f64, limit: f64) -> bool {
    // Written so that NaN differs.
    let close = (a - b).abs() <= limit + 1e-9 * (a.abs() + b.abs());
    !close
}
