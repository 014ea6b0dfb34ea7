//! Quantises a network in floating point to a program on the torus.
//!
//! For a row of a layer, `a = Σ wᵢ·xᵢ + b`, the encoding before it represents the inputs as `tᵢ = unit·steps·(xᵢ −
//! lowᵢ)/rangeᵢ`. The row's weights are divided by a step `s`, rounded to integers, and applied to the `tᵢ`; `s` is
//! chosen so that the calibrated range of `a` with a margin fills the frame: half the torus before a table, the whole
//! torus for outputs. Bias, activation and the encoding for the next layer become the table (operator fusion). The
//! remaining choice is the unit: a smaller one makes the integers larger, which reduces their rounding error and
//! increases noise, which grows with their 2-norm.

mod encoding;
mod fit;
mod integers;
mod readers;
mod rows;
mod scaled;

use crate::Error;
use crate::calibration::Spans;
use crate::frame::{Frames, Known};
use crate::network::Network;
use crate::scale::{Decoding, Encoding};
use crate::sums;
use hermesh_engine::{Linear, ParameterSet, Precision, Program, Stage, noise};
pub(crate) use integers::{FirstLayer, are_possible, integers};
use readers::readers;
use rows::Rows;
pub(crate) use rows::TABLE_ROOM;
use scaled::Scaled;

const TURN: f64 = 18_446_744_073_709_551_616.0;

/// A program, and the encodings that the client uses with it.
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    pub(crate) program: Program,
    pub(crate) input: Encoding,
    pub(crate) output: Decoding,
    /// log₂ of the largest weight of each stage, rounded up, plus the sign.
    pub(crate) weight_bits: Vec<u32>,
    /// Which sums are not proven to stay in their frames.
    pub(crate) frames: Frames,
}

/// The resolution of a layer's sums.
#[derive(Clone, Copy)]
enum Accumulator {
    /// As fine as the torus.
    Continuous,
    /// Integers of this many bits.
    Bits(u32),
}

/// Quantises for a set. For `exact` = `(bits, output_bits)`, accumulators before tables have `bits` bits and outputs
/// `output_bits`. `None` if the set cannot hold the tables.
pub(crate) fn quantise(
    network: &Network,
    spans: &Spans,
    set: &'static ParameterSet,
    exact: Option<(u32, u32)>,
) -> Result<Option<Quantised>, Error> {
    let mut stages = Vec::new();
    let mut weight_bits = Vec::new();
    let mut noise_in = vec![noise::fresh(set); network.inputs];
    let mut before = &spans.inputs;
    let (mut passed, mut waves) = (Vec::new(), Vec::new());
    let (mut all_waves, mut turns, mut bounded_sums) = (Vec::new(), Vec::new(), false);
    let mut incoming = None;
    let mut input = None;
    let last = network.layers.len() - 1;
    for (i, layer) in network.layers.iter().enumerate() {
        let accumulator = match exact {
            None => Accumulator::Continuous,
            Some((_, output)) if i == last => Accumulator::Bits(output),
            Some((bits, _)) => Accumulator::Bits(layer.table_bits().unwrap_or(bits)),
        };
        let mut row = Rows {
            layer,
            spans: &spans.before[i],
            before,
            whole_turn: i == last,
            accumulator,
            noise: &noise_in,
            passed: &passed,
            waves: &waves,
            correlation: spans.correlations[i].as_deref().filter(|_| exact.is_none()),
            first: i == 0,
            turn_of_sums: None,
            readers: Vec::new(),
        };
        row.readers = readers(network, spans, i, &row);
        if let (Some((_, output)), true) = (exact, i == last) {
            row.turn_of_sums = match sums::turn(network, output) {
                Some(None) => return Ok(None),
                turn => turn.flatten(),
            };
        }
        bounded_sums = i > 0
            && network.layers[i - 1].table_bits().is_some()
            && layer.bounds.is_some()
            && (exact.is_none() || row.turn_of_sums.is_some());
        let encoding = row.choose_encoding()?;
        match incoming.take() {
            None => input = Some(encoding.clone()),
            Some((linear, layer_before, rows)) => {
                let rows: Scaled = rows;
                let Some(lookup) = rows.tables(layer_before, &encoding, set) else {
                    return Ok(None);
                };
                stages.push(Stage { linear, lookup: Some(lookup) });
            }
        }
        let (linear, scaled) = row.scale(&encoding);
        weight_bits.push(bits(&linear));
        let output = noise::bootstrap(set);
        noise_in = (0..layer.affine.rows())
            .map(|r| row.passing(r).map_or(output, |column| row.noise[column]))
            .collect::<Vec<_>>();
        passed = scaled.passed();
        waves = scaled.waves.iter().map(Option::is_some).collect::<Vec<_>>();
        all_waves.push(waves.clone());
        turns.push(scaled.turns.clone());
        incoming = Some((linear, layer, scaled));
        before = &spans.after[i];
    }
    let (Some((linear, _, scaled)), Some(input)) = (incoming, input) else {
        return Err(Error::Network { reason: "no layer".into() });
    };
    stages.push(Stage { linear, lookup: None });
    let precision = match exact {
        None => Precision::Approximate,
        Some((_, output_bits)) => Precision::Exact { output_bits },
    };
    let output =
        Decoding { centre: scaled.centre, scale: scaled.scale, bits: exact.map(|(_, bits)| bits) };
    let program = Program::new(set, precision, stages)?;
    all_waves.pop();
    let frames =
        Frames::new(&program, Known { input: &input, waves: &all_waves, turns, bounded_sums });
    Ok(Some(Quantised { program, input, output, weight_bits, frames }))
}

fn bits(linear: &Linear) -> u32 {
    let matrix = &linear.matrix;
    let largest =
        (0..matrix.rows()).flat_map(|r| matrix.row(r)).map(|(_, w)| w.unsigned_abs()).max();
    33 - largest.unwrap_or(0).leading_zeros()
}
