//! Frames: the part of the torus that each sum must stay in. See [`hermesh_engine::reach`].

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::error::Refusal;
use crate::network::MAX_LAYERS;
use crate::scale::Encoding;
use hermesh_engine::reach::{Interval, LOOKUP_FRAME, OUTPUT_FRAME};
use hermesh_engine::{Moments, Precision, Program, Spread};

/// Standard deviations of noise that are kept free at both ends of a frame, before lookup tables and in outputs. A row
/// has many values before tables, few of them near an end, where one in 31,000 wraps around; every output is shown.
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
        let variances = steepest(program);
        let reach = program.reach(&inputs, &known.turns);
        let followed = reach.iter().enumerate().map(|(s, sums)| {
            let last = s + 1 == program.stages().len();
            let follow = |(r, &(low, high)): (usize, &Interval)| {
                if last && known.bounded_sums || known.waves.get(s).is_some_and(|waves| waves[r]) {
                    return false;
                }
                let frame = frame(program, s, r, variances[s][r]);
                frame.is_some_and(|(least, most)| low < least || most < high)
            };
            sums.iter().enumerate().map(follow).collect()
        });
        Self { followed: followed.collect(), turns: known.turns }
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
    /// `noise` is the row's; none counts for `exact` programs.
    pub(crate) fn check(
        &self,
        program: &Program,
        trace: &[Vec<i128>],
        noise: Option<&Spread>,
    ) -> Result<(), Refusal> {
        for (s, sums) in trace.iter().enumerate() {
            for (r, &sum) in sums.iter().enumerate().filter(|(r, _)| self.followed[s][*r]) {
                let Moments { shift, variance } =
                    noise.map_or_else(Moments::default, |noise| noise.sums[s][r]);
                let Some((least, most)) = frame(program, s, r, variance) else {
                    continue;
                };
                let sum = sum.saturating_add((shift * 2f64.powi(64)) as i128);
                if sum < least || most < sum {
                    let whole = if s + 1 == trace.len() { OUTPUT_FRAME } else { LOOKUP_FRAME };
                    let width = (whole.1 - whole.0) as f64;
                    let part = |x: i128| x.saturating_sub(whole.0) as f64 / width;
                    let (at, low, high) = (part(sum), part(least), part(most));
                    return Err(Refusal::OutOfFrame { layer: s, value: r, at, low, high });
                }
            }
        }
        Ok(())
    }
}

/// The frame of a sum minus the margin for its noise. `None` for a value that passes its stage.
fn frame(program: &Program, stage: usize, row: usize, variance: f64) -> Option<Interval> {
    let exact = program.precision() != Precision::Approximate;
    let (frame, deviations) = match &program.stages()[stage].lookup {
        Some(lookup) => {
            lookup.table(row)?;
            (LOOKUP_FRAME, NOISE_ROOM.0)
        }
        None => (OUTPUT_FRAME, NOISE_ROOM.1),
    };
    // The effect of noise on exact sums is part of the failure probability.
    let room = if exact { 0.0 } else { deviations * variance.sqrt() };
    let room = (room * 2f64.powi(64)) as i128;
    Some((frame.0 + room, frame.1 - room))
}

/// The variance of each sum for the worst row: each table is taken where it is steepest.
fn steepest(program: &Program) -> Vec<Vec<f64>> {
    let mut variances = Vec::new();
    let mut incoming = vec![0.0; program.inputs()];
    for (stage, noise) in program.stages().iter().zip(program.noise()) {
        let matrix = &stage.linear.matrix;
        let sum = |r: usize| matrix.row(r).map(|(c, w)| f64::from(w).powi(2) * incoming[c]).sum();
        let tables: Vec<f64> = (0..matrix.rows()).map(sum).collect();
        let all: Vec<f64> = tables.iter().zip(&noise.input).map(|(a, b)| a + b).collect();
        if let Some(lookup) = &stage.lookup {
            let mut known = HashMap::new();
            let worst = |r: usize| {
                let Some(table) = lookup.table(r) else { return tables[r] };
                // A table spans half a turn.
                let window = (all[r].sqrt() * 2.0 * table.len() as f64).ceil() as usize;
                let steepest = || {
                    let rise = |(i, a): (usize, &u64)| {
                        let near = table[i..].iter().take(2 * window + 1);
                        near.map(|b| (b.wrapping_sub(*a) as i64).unsigned_abs()).max()
                    };
                    let most = table.iter().enumerate().filter_map(rise).max();
                    (most.unwrap_or_default() as f64 / 2f64.powi(65)).powi(2)
                };
                *known.entry((lookup.table_of[r], window)).or_insert_with(steepest)
            };
            incoming = (0..matrix.rows()).map(worst).collect();
        }
        variances.push(all);
    }
    variances
}
