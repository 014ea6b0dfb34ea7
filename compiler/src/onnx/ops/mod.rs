//! The operators. Each is a function from a node's inputs to its outputs. `OPERATORS` lists all that are supported.

mod arithmetic;
mod classes;
mod concat;
mod conv;
mod dense;
mod maximum;
mod one_hot;
mod shape;
mod sklearn;
mod trees;
mod unary;

pub(super) use one_hot::OneHots;

use super::context::Context;
use super::value::Value;
use crate::Error;
use crate::network::Activation;

type Lower = fn(&mut Context<'_>) -> Result<Vec<Value>, Error>;

/// The domain of scikit-learn's operators.
const ML: &str = "ai.onnx.ml";

/// Domain, operator, lowering.
const OPERATORS: &[(&str, &str, Lower)] = &[
    ("", "Abs", unary::unary),
    ("", "Add", arithmetic::add),
    ("", "ArgMax", classes::arg_max),
    (ML, "ArrayFeatureExtractor", sklearn::array_feature_extractor),
    ("", "AveragePool", conv::average_pool),
    ("", "BatchNormalization", dense::batch_normalization),
    (ML, "Binarizer", classes::binarizer),
    ("", "Cast", shape::cast),
    ("", "Ceil", unary::unary),
    ("", "Celu", unary::unary),
    ("", "Clip", clip),
    ("", "Concat", concat::concat),
    ("", "Constant", shape::constant),
    ("", "Conv", conv::conv),
    ("", "Cos", unary::unary),
    ("", "Div", arithmetic::div),
    ("", "Dropout", dropout),
    ("", "Elu", unary::unary),
    ("", "Erf", unary::unary),
    ("", "Exp", unary::unary),
    ("", "Flatten", shape::flatten),
    ("", "Floor", unary::unary),
    ("", "Gather", shape::gather),
    ("", "Gelu", unary::unary),
    ("", "Gemm", dense::gemm),
    ("", "GlobalAveragePool", conv::global_average_pool),
    ("", "GlobalMaxPool", maximum::global_max_pool),
    ("", "Greater", classes::greater),
    ("", "HardSigmoid", unary::unary),
    ("", "HardSwish", unary::unary),
    ("", "Identity", identity),
    ("", "LeakyRelu", leaky_relu),
    (ML, "LinearClassifier", sklearn::linear_classifier),
    (ML, "LinearRegressor", sklearn::linear_regressor),
    ("", "LogSoftmax", classes::log_softmax),
    ("", "MatMul", dense::mat_mul),
    ("", "Max", maximum::max),
    ("", "MaxPool", maximum::max_pool),
    ("", "Min", maximum::min),
    ("", "Mish", unary::unary),
    ("", "Mul", arithmetic::mul),
    ("", "Neg", unary::neg),
    (ML, "Normalizer", sklearn::normalizer),
    ("", "OneHot", one_hot::operator),
    ("", "Pow", unary::pow),
    ("", "PRelu", unary::prelu),
    ("", "ReduceMean", conv::reduce_mean),
    ("", "Relu", relu),
    ("", "Reshape", shape::reshape),
    ("", "Round", unary::unary),
    (ML, "Scaler", sklearn::scaler),
    ("", "Selu", unary::unary),
    ("", "Shape", shape::shape),
    ("", "Sigmoid", sigmoid),
    ("", "Sign", unary::unary),
    ("", "Sin", unary::unary),
    ("", "Slice", shape::slice),
    ("", "Softmax", classes::softmax),
    ("", "Softplus", unary::unary),
    ("", "Softsign", unary::unary),
    ("", "Sqrt", unary::unary),
    ("", "Squeeze", shape::squeeze),
    ("", "Sub", arithmetic::sub),
    ("", "Sum", arithmetic::sum),
    ("", "Tanh", tanh),
    ("", "ThresholdedRelu", unary::unary),
    ("", "Transpose", shape::transpose),
    (ML, "TreeEnsembleClassifier", trees::classifier),
    (ML, "TreeEnsembleRegressor", trees::regressor),
    ("", "Unsqueeze", shape::unsqueeze),
    (ML, "ZipMap", sklearn::zip_map),
];

/// The lowering of an operator, if it is supported.
pub(super) fn find(domain: &str, operator: &str) -> Option<Lower> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    OPERATORS.iter().find(|entry| entry.0 == domain && entry.1 == operator).map(|entry| entry.2)
}

/// The names of all supported operators.
pub fn supported() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|entry| entry.1)
}

fn relu(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    activate(cx, Activation::Relu)
}

fn leaky_relu(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let alpha = cx.float("alpha", 0.01)?;
    activate(cx, Activation::LeakyRelu { alpha })
}

fn sigmoid(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    activate(cx, Activation::Sigmoid)
}

fn tanh(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    activate(cx, Activation::Tanh)
}

/// The limits are attributes before opset 11, inputs since. Both are optional.
fn clip(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    let min = cx.float("min", f64::MIN)?;
    let max = cx.float("max", f64::MAX)?;
    let min = cx.optional_scalar(1)?.unwrap_or(min);
    let max = cx.optional_scalar(2)?.unwrap_or(max);
    activate(cx, Activation::Clip { min, max })
}

fn activate(cx: &mut Context<'_>, activation: Activation) -> Result<Vec<Value>, Error> {
    let features = cx.features(0)?;
    Ok(vec![Value::Features(cx.activate(features, activation)?)])
}

fn identity(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    Ok(vec![cx.value(0)?])
}

/// The identity at inference.
fn dropout(cx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
    if cx.optional_scalar(2)?.is_some_and(|training| training != 0.0) {
        return Err(cx.error(
            "it is in training mode: export the model for inference (model.eval() in PyTorch)",
        ));
    }
    identity(cx)
}
