//! The layers that models fold into.

use super::*;
use crate::network::{Activation, Decision, Label, Matrix, Transform};

fn int_labels(count: i64) -> Vec<Label> {
    (0..count).map(Label::Int).collect()
}

fn conv_weights() -> Vec<TensorProto> {
    vec![
        counting("w", &[2, 1, 3, 3]),
        tensor("scale", &[2], &[2.0, -1.0]),
        tensor("offset", &[2], &[0.5, 1.0]),
        tensor("mean", &[2], &[0.0, 1.0]),
        tensor("variance", &[2], &[1.0, 4.0]),
    ]
}

#[test]
fn convolution_batch_norm_and_pooling_are_one_sparse_layer() {
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"]).ints("pads", &[1, 1, 1, 1]),
        node("BatchNormalization", &["c", "scale", "offset", "mean", "variance"], &["n"]),
        node("AveragePool", &["n"], &["p"]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]),
        node("Relu", &["p"], &["y"]),
    ];
    let network = model(&[1, 8, 8], nodes, conv_weights()).import().unwrap();
    let [layer] = &network.layers[..] else { panic!("{} layers", network.layers.len()) };
    assert_eq!(layer.name, "the_Conv+the_BatchNormalization+the_AveragePool+the_Relu");
    assert!(matches!(layer.affine.matrix, Matrix::Sparse(_)));
    // Along an axis the four windows of a pool and a kernel see 3, 4, 4 and 3 values.
    assert_eq!((layer.affine.rows(), layer.affine.matrix.entries()), (32, 2 * 14 * 14));
    assert_eq!(layer.activation, Some(Activation::Relu.into()));
    assert_eq!(layer.groups, Some([vec![0; 16], vec![1; 16]].concat()));
    assert_eq!(network.head.decision, Decision::Scores);
}

#[test]
fn a_shift_before_a_padded_convolution_does_not_reach_the_padding() {
    // x + 1, then a kernel of ones over a 3 × 3 image padded by one: the corner sees four of the nine.
    let nodes = vec![
        node("Add", &["x", "one"], &["shifted"]),
        node("Conv", &["shifted", "ones"], &["y"]).ints("pads", &[1, 1, 1, 1]),
    ];
    let weights = vec![tensor("one", &[], &[1.0]), tensor("ones", &[1, 1, 3, 3], &[1.0; 9])];
    let network = model(&[1, 3, 3], nodes, weights).import().unwrap();
    assert_eq!(network.evaluate(&[0.0; 9]).unwrap(), [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
}

#[test]
fn values_that_are_read_twice_keep_their_value() {
    let nodes = vec![
        node("Mul", &["x", "two"], &["a"]),
        node("Add", &["a", "two"], &["b"]),
        node("Mul", &["a", "two"], &["c"]),
        node("Concat", &["c", "a", "b"], &["y"]).int("axis", 1),
    ];
    let network = model(&[1], nodes, vec![tensor("two", &[], &[2.0])]).import().unwrap();
    assert_eq!(network.evaluate(&[10.0]).unwrap(), [40.0, 20.0, 22.0]);
}

#[test]
fn nodes_out_of_order_and_nodes_nobody_needs_do_no_harm() {
    let nodes = vec![
        node("Gemm", &["r", "v"], &["y"]),
        node("Relu", &["g"], &["r"]),
        node("NonMaxSuppression", &["g"], &["unused"]),
        node("Gemm", &["x", "w"], &["g"]),
    ];
    let weights = vec![counting("w", &[2, 3]), counting("v", &[3, 1]), tensor("broken", &[9], &[])];
    let network = model(&[2], nodes, weights).import().unwrap();
    assert_eq!(network.evaluate(&[1.0, -1.0]).unwrap(), [0.0]);
    assert_eq!(network.evaluate(&[-1.0, 1.0]).unwrap(), [3.0 * (1.0 + 2.0 + 3.0)]);
}

#[test]
fn a_final_sigmoid_is_the_clients() {
    let nodes = vec![node("Gemm", &["x", "w"], &["g"]), node("Sigmoid", &["g"], &["y"])];
    let network = model(&[2], nodes, vec![counting("w", &[2, 1])]).import().unwrap();
    assert_eq!(network.layers.len(), 1);
    assert_eq!(network.layers[0].activation, None);
    assert_eq!(network.head.transforms, [Transform::Sigmoid]);
    assert_eq!(network.head.decision, Decision::Scores);
}

#[test]
fn a_threshold_on_a_probability_becomes_one_on_the_logit() {
    let nodes = vec![
        node("Gemm", &["x", "w"], &["g"]),
        node("Sigmoid", &["g"], &["p"]),
        node("Greater", &["p", "limit"], &["above"]),
        node("Cast", &["above"], &["y"]).int("to", 7),
    ];
    let build = |limit| {
        model(&[2], nodes.clone(), vec![counting("w", &[2, 1]), tensor("limit", &[], &[limit])])
            .import()
    };
    let Decision::Threshold { above, labels } = build(0.75).unwrap().head.decision else {
        panic!("no threshold")
    };
    assert!((above - 3f64.ln()).abs() < 1e-12);
    assert_eq!(labels.to_vec(), int_labels(2));
    assert!(matches!(build(1.0), Err(Error::Model { .. })));
}

#[test]
fn a_sigmoid_that_more_depends_on_stays_a_layer() {
    let nodes = vec![
        node("Gemm", &["x", "w"], &["g"]),
        node("Sigmoid", &["g"], &["s"]),
        node("Mul", &["s", "two"], &["y"]),
    ];
    let weights = vec![counting("w", &[2, 2]), tensor("two", &[], &[2.0])];
    let network = model(&[2], nodes, weights).import().unwrap();
    assert_eq!(network.layers[0].activation, Some(Activation::Sigmoid.into()));
    assert_eq!(network.layers.len(), 2);
    assert_eq!(network.head.transforms, []);
}

#[test]
fn several_plain_outputs_are_classes_unless_the_model_is_a_regression() {
    let gemm = |outputs| {
        model(&[2], vec![node("Gemm", &["x", "w"], &["y"])], vec![counting("w", &[2, outputs])])
    };
    assert_eq!(gemm(3).import().unwrap().head.decision, Decision::ArgMax { labels: int_labels(3) });
    assert_eq!(gemm(1).import().unwrap().head.decision, Decision::Scores);
    let sklearn = ModelProto { producer_name: "skl2onnx".into(), ..gemm(3) };
    assert_eq!(sklearn.import().unwrap().head.decision, Decision::Scores);
    let regressor =
        node("LinearRegressor", &["x"], &["y"]).domain(ML).floats("coefficients", &[1.0; 4]);
    let network = model(&[2], vec![regressor.int("targets", 2)], vec![]).import().unwrap();
    assert_eq!(network.head.decision, Decision::Scores);
}

#[test]
fn a_batch_of_one_may_be_fixed() {
    let mut model =
        model(&[2, 2], vec![node("Reshape", &["x", "to"], &["y"])], vec![ints("to", &[1, 4])]);
    assert!(matches!(model.import(), Err(Error::Node { .. })));
    model.graph.as_mut().unwrap().input = vec![value_info("x", &[Some(1), Some(2), Some(2)])];
    let network = model.import().unwrap();
    assert_eq!((network.inputs, network.input_shape.as_slice()), (4, &[2, 2][..]));
}

#[test]
fn clipping_before_the_first_layer_can_be_done_by_the_client() {
    let nodes = vec![
        node("Scaler", &["x"], &["s"]).domain(ML).floats("offset", &[1.0]).floats("scale", &[0.5]),
        node("Clip", &["s", "zero", "one"], &["c"]),
        node("Gemm", &["c", "w"], &["y"]),
    ];
    let weights =
        vec![tensor("zero", &[], &[0.0]), tensor("one", &[], &[1.0]), counting("w", &[2, 2])];
    let network = model(&[2], nodes, weights).import().unwrap();
    assert_eq!(network.elementwise_prefix(), 1);
    assert_eq!(network.evaluate(&[2.0, 9.0]).unwrap(), [0.5 + 3.0, 2.0 * 0.5 + 4.0]);
}

#[test]
fn initialisers_may_be_declared_as_inputs_too() {
    let mut model =
        model(&[2], vec![node("Gemm", &["x", "w"], &["y"])], vec![counting("w", &[2, 2])]);
    model.graph.as_mut().unwrap().input.push(value_info("w", &[Some(2), Some(2)]));
    assert_eq!(model.import().unwrap().evaluate(&[1.0, 0.0]).unwrap(), [1.0, 2.0]);
}

#[test]
fn every_element_type_decodes() {
    let bytes = |raw_data: Vec<u8>, data_type| TensorProto {
        name: "w".into(),
        dims: vec![2],
        data_type,
        raw_data,
        ..TensorProto::default()
    };
    let typed = TensorProto { name: "w".into(), dims: vec![2], ..TensorProto::default() };
    let tensors = [
        bytes([2f32.to_le_bytes(), 3f32.to_le_bytes()].concat(), 1),
        bytes([2f64.to_le_bytes(), 3f64.to_le_bytes()].concat(), 11),
        bytes([2i64.to_le_bytes(), 3i64.to_le_bytes()].concat(), 7),
        bytes([2i32.to_le_bytes(), 3i32.to_le_bytes()].concat(), 6),
        bytes(vec![2, 3], 9),
        tensor("w", &[2], &[2.0, 3.0]),
        TensorProto { data_type: 11, double_data: vec![2.0, 3.0], ..typed.clone() },
        TensorProto { data_type: 7, int64_data: vec![2, 3], ..typed.clone() },
        TensorProto { data_type: 6, int32_data: vec![2, 3], ..typed },
    ];
    for tensor in tensors {
        let kind = tensor.data_type;
        let network =
            model(&[2], vec![node("Mul", &["x", "w"], &["y"])], vec![tensor]).import().unwrap();
        assert_eq!(network.evaluate(&[1.0, 1.0]).unwrap(), [2.0, 3.0], "element type {kind}");
    }
}
