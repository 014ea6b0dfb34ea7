//! Functions of one value: each is an activation.

use crate::Error;
use crate::network::{Activation, Activations, Formula, Term};
use crate::onnx::context::Context;
use crate::onnx::tensor::{broadcast, broadcast_indices};
use crate::onnx::value::Value;

/// The function of a node.
pub(super) fn unary(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let half = Term::Linear { scale: 0.5, shift: 0.5 };
    let formula = match cx.node.op_type.as_str() {
        "Abs" => Formula::of(&[Term::Abs]),
        "Ceil" => Formula::of(&[Term::Ceil]),
        "Celu" => {
            let alpha = nonzero(cx, "alpha", 1.0)?;
            let inner = Formula::of(&[]).linear(1.0 / alpha, 0.0);
            let elu = Formula::of(&[Term::Elu { alpha: 1.0 }]).linear(alpha, 0.0);
            elu.after(&inner).ok_or_else(|| cx.error("alpha is out of range"))?
        }
        "Cos" => Formula::of(&[Term::Cos]),
        "Elu" => Formula::of(&[Term::Elu { alpha: cx.float("alpha", 1.0)? }]),
        "Erf" => Formula::of(&[Term::Erf]),
        "Exp" => Formula::of(&[Term::Exp]),
        "Floor" => Formula::of(&[Term::Floor]),
        "Gelu" => match cx.text("approximate", "none").as_str() {
            "none" => {
                let scale = Term::Linear { scale: std::f64::consts::FRAC_1_SQRT_2, shift: 0.0 };
                Formula::of(&[scale, Term::Erf, half]).times_x()
            }
            "tanh" => {
                // √(2/π) · (x + 0.044715·x³) is x · √(2/π) · (1 + 0.044715·x²).
                let square = [Term::Input, Term::Multiply];
                let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
                let rest = Term::Linear { scale: 0.044715 * scale, shift: scale };
                let cubic = Formula::of(&[&square[..], &[rest]].concat()).times_x();
                let tanh = Formula::of(&[Term::Tanh, half]).after(&cubic);
                tanh.ok_or_else(|| cx.error("it has too many steps"))?.times_x()
            }
            other => return Err(cx.error(format!("approximate {other}; supported: none, tanh"))),
        },
        "HardSigmoid" => hard_sigmoid(cx.float("alpha", 0.2)?, cx.float("beta", 0.5)?),
        "HardSwish" => hard_sigmoid(1.0 / 6.0, 0.5).times_x(),
        "Mish" => Formula::of(&[Term::Softplus, Term::Tanh]).times_x(),
        "Round" => Formula::of(&[Term::Round]),
        "Selu" => {
            let alpha = cx.float("alpha", 1.673_263_192_176_818_8)?;
            let gamma = cx.float("gamma", 1.050_701_022_148_132_3)?;
            Formula::of(&[Term::Elu { alpha }]).linear(gamma, 0.0)
        }
        "Sign" => Formula::of(&[Term::Sign]),
        "Sin" => Formula::of(&[Term::Sin]),
        "Softplus" => Formula::of(&[Term::Softplus]),
        "Softsign" => Formula::of(&[Term::Softsign]),
        "Sqrt" => Formula::of(&[Term::Sqrt]),
        "ThresholdedRelu" => {
            Formula::of(&[Term::ThresholdedRelu { alpha: cx.float("alpha", 1.0)? }])
        }
        _ => return Err(cx.error("it is not a function of one value")),
    };
    super::activate(cx, Activation::from(formula))
}

fn hard_sigmoid(alpha: f64, beta: f64) -> Formula {
    Formula::of(&[Term::Linear { scale: alpha, shift: beta }, Term::Clip { min: 0.0, max: 1.0 }])
}

fn nonzero(cx: &Context<'_>, name: &str, default: f64) -> Result<f64, Error> {
    let value = cx.float(name, default)?;
    if (1.0 / value).is_finite() { Ok(value) } else { Err(cx.error(format!("{name} is zero"))) }
}

pub(super) fn neg(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let scale = vec![-1.0; features.len()];
    Ok(vec![Value::Features(cx.rescale(features, Some(&scale), None)?)])
}

/// Powers with a constant exponent.
pub(super) fn pow(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let exponents = cx.optional_floats(1)?.unwrap_or_default();
    let square = [Term::Input, Term::Multiply];
    let uniform = exponents.iter().all(|e| Some(e) == exponents.first());
    let formula = match exponents.first() {
        Some(&e) if uniform && e == 1.0 => Formula::of(&[]),
        Some(&e) if uniform && e == 2.0 => Formula::of(&square),
        Some(&e) if uniform && e == 3.0 => Formula::of(&[square, square].concat()),
        Some(&e) if uniform && e == 0.5 => Formula::of(&[Term::Sqrt]),
        _ => return Err(cx.error("expected a constant exponent of 0.5, 1, 2 or 3")),
    };
    super::activate(cx, Activation::from(formula))
}

/// LeakyRelu with a slope for each value.
pub(super) fn prelu(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    let slopes = cx.constant(1)?;
    let row = [&[1], features.shape.as_slice()].concat();
    let fits =
        slopes.shape.len() <= row.len() && broadcast(&row, &slopes.shape).as_ref() == Some(&row);
    let (true, Some(values)) = (fits, slopes.to_floats()) else {
        return Err(cx.error(format!(
            "slopes of shape {:?} do not broadcast to rows of shape {:?}",
            slopes.shape, features.shape
        )));
    };
    cx.allocate(&row)?;
    let slopes = broadcast_indices(&slopes.shape, &row)
        .into_iter()
        .map(|i| Activation::LeakyRelu { alpha: values[i] });
    let slopes = Activations::of_rows(slopes);
    Ok(vec![Value::Features(cx.activate(features, slopes)?)])
}
