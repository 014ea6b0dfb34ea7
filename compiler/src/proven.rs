//! Proven bounds on how far outputs are from those of the plain model before noise, for every row of the domain.
//!
//! The client model has no weights, so it cannot compare an answer with the plain model. It may only answer for rows where
//! such a bound is known: linear models, and sums of trees that are compared with their own thresholds.

use crate::model::Model;
use crate::network::Network;
use crate::sums;

/// For each output, the most that rounding moves it, in its own unit. `None` where no bound is known. `core` is the part
/// of the network that is computed on ciphertexts.
pub(crate) fn rounding(core: &Network, model: &Model) -> Option<Vec<f64>> {
    match core.layers.as_slice() {
        [layer] if layer.activation.is_none() => Some(of_linear(core, model)),
        _ => of_sums(core, model),
    }
}

/// The program and the plain model are both affine in the encoded values, so their difference is, and is largest at a
/// corner of the domain: its value at the lowest corner and its slopes bound it. What is not affine is added: values and
/// outputs that are rounded to whole steps.
fn of_linear(core: &Network, model: &Model) -> Vec<f64> {
    let client = model.client();
    let (input, output) = (&client.input, &client.output);
    let program = |values: &[f64]| model.unrounded(&client.encode_values(values));
    let plain = |values: &[f64]| core.layers[0].apply(values);
    let lowest = input.low.clone();
    let (at_low, plain_at_low) = (program(&lowest), plain(&lowest));
    let start: Vec<f64> = at_low.iter().zip(&plain_at_low).map(|(a, b)| a - b).collect();
    let (mut least, mut most) = (start.clone(), start);
    for (i, &high) in input.high.iter().enumerate() {
        let mut moved = lowest.clone();
        moved[i] = high;
        let (at, plain_at) = (program(&moved), plain(&moved));
        for o in 0..least.len() {
            let rise = at[o] - at_low[o];
            let slope = rise - (plain_at[o] - plain_at_low[o]);
            let half_step =
                if input.rounded { rise.abs() / (2.0 * f64::from(input.steps)) } else { 0.0 };
            least[o] += slope.min(0.0) - half_step;
            most[o] += slope.max(0.0) + half_step;
        }
    }
    let half_step = |o: usize| match output.bits {
        Some(bits) => output.scale[o].abs() / f64::from(bits + 1).exp2(),
        None => 0.0,
    };
    (0..least.len()).map(|o| most[o].max(-least[o]) + half_step(o)).collect()
}

/// Comparisons with a tree's own thresholds are exact, so only leaves and the output's centre are rounded.
fn of_sums(core: &Network, model: &Model) -> Option<Vec<f64>> {
    let output = &model.client().output;
    let bits = output.bits?;
    sums::turn(core, bits)??;
    let [tables, sums] = core.layers.as_slice() else { return None };
    let of = |(o, scale): (usize, &f64)| {
        let step = scale.abs() / f64::from(bits).exp2();
        step * (sums::rounding(tables, sums, o, step) + 0.5)
    };
    Some(output.scale.iter().enumerate().map(of).collect())
}
