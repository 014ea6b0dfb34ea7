//! Models that are refused, and the messages.

use super::*;

/// The node and the reason of an [`Error::Node`].
fn reason(result: Result<Network, Error>) -> String {
    match result {
        Err(Error::Node { node, operator, reason }) => format!("{node} {operator} {reason}"),
        Err(other) => panic!("{other}"),
        Ok(network) => panic!("imported {} layers", network.layers.len()),
    }
}

#[test]
fn an_unknown_operator_is_named_with_what_is_supported() {
    let model = model(&[1, 4, 4], vec![node("LSTM", &["x"], &["y"])], vec![]);
    let Err(Error::UnsupportedOperator { node, operator, supported }) = model.import() else {
        panic!("imported")
    };
    assert_eq!((node.as_str(), operator.as_str()), ("`the_LSTM`", "LSTM"));
    assert!(supported.contains("AveragePool, BatchNormalization"));
}

#[test]
fn an_operator_of_another_domain_is_not_the_same() {
    let model = model(&[4], vec![node("Relu", &["x"], &["y"]).domain("com.example")], vec![]);
    assert!(matches!(model.import(), Err(Error::UnsupportedOperator { .. })));
    let alias = super::model(&[4], vec![node("Relu", &["x"], &["y"]).domain("ai.onnx")], vec![]);
    assert!(alias.import().is_ok());
}

#[test]
fn nodes_that_no_chain_of_layers_can_do_are_refused() {
    let relu = || node("Relu", &["x"], &["r"]);
    let gemm = |input: &str| node("Gemm", &[input, "w"], &["y"]);
    let normalizer = || node("Normalizer", &["x"], &["n"]).domain(ML);
    let classifier = node("LinearClassifier", &["x"], &["y"]).domain(ML);
    let cases = vec![
        ("the divisor depends", vec![relu(), node("Div", &["x", "r"], &["y"])]),
        ("do not broadcast", vec![gemm("x"), node("Add", &["x", "y"], &["sum"])]),
        ("the divisor depends", vec![node("Div", &["c", "x"], &["y"])]),
        ("divides by zero", vec![node("Div", &["x", "zero"], &["y"])]),
        ("the division rounds", vec![node("Div", &["x", "i"], &["y"])]),
        ("does not broadcast", vec![node("Add", &["x", "w"], &["y"])]),
        ("broadcasting by attribute", vec![node("Add", &["x", "c"], &["y"]).int("broadcast", 1)]),
        ("norm L2 mixes", vec![normalizer().text("norm", "L2"), gemm("n")]),
        ("follows a Softmax", vec![normalizer().text("norm", "L1"), gemm("n")]),
        ("follows a Softmax", vec![node("Softmax", &["x"], &["s"]), gemm("s")]),
        ("follows a Softmax", vec![node("ArgMax", &["x"], &["a"]).int("axis", 1), gemm("a")]),
        ("cast to element type 7", vec![node("Cast", &["x"], &["y"]).int("to", 7)]),
        ("does not keep the batch", vec![node("Reshape", &["x", "i"], &["y"])]),
        ("merges the batch", vec![node("Flatten", &["x"], &["y"]).int("axis", 0)]),
        ("keeps the batch first", vec![node("Transpose", &["x"], &["y"]).ints("perm", &[1, 0])]),
        ("slices the batch", vec![node("Slice", &["x", "i", "i", "z"], &["y"])]),
        ("transA", vec![gemm("x").int("transA", 1)]),
        ("must be on the right", vec![node("MatMul", &["w", "x"], &["y"])]),
        ("4 features times a matrix for 3", vec![node("Gemm", &["x", "v"], &["y"])]),
        ("a bias of shape [3]", vec![node("Gemm", &["x", "w", "z3"], &["y"])]),
        ("must be a constant", vec![relu(), node("Gemm", &["x", "r"], &["y"])]),
        ("input 1 is missing", vec![node("Gemm", &["x"], &["y"])]),
        ("expected 2-D images", vec![node("Conv", &["x", "k"], &["y"])]),
        ("only axis of rows", vec![node("ArgMax", &["x"], &["y"]).int("axis", 0)]),
        ("out of range", vec![node("Softmax", &["x"], &["y"]).int("axis", 5)]),
        ("one score of two classes", vec![node("Greater", &["x", "zero"], &["y"])]),
        ("averages over the batch", vec![node("ReduceMean", &["x"], &["y"])]),
        (
            "3 coefficients for rows of shape [4]",
            vec![classifier.floats("coefficients", &[1.0; 3])],
        ),
    ];
    let weights = vec![
        counting("w", &[4, 2]),
        counting("v", &[3, 2]),
        counting("c", &[4]),
        counting("z3", &[3]),
        counting("k", &[1, 1, 3, 3]),
        tensor("zero", &[], &[0.0]),
        ints("i", &[2]),
        ints("z", &[0]),
    ];
    for (expected, nodes) in cases {
        let last = nodes.last().unwrap().op_type.clone();
        let output = nodes.last().unwrap().output[0].clone();
        let found = reason(model(&[4], nodes, weights.clone()).outputs(&[&output]).import());
        assert!(found.contains(expected), "{last}: expected {expected:?} in {found:?}");
        assert!(found.contains("`the_"), "{found}");
    }
}

#[test]
fn convolutions_out_of_range_are_refused() {
    let conv = || node("Conv", &["x", "w"], &["y"]);
    let cases = [
        ("does not fit", conv().ints("dilations", &[9, 1])),
        ("strides must be", conv().ints("strides", &[0, 1])),
        ("strides must be", conv().ints("strides", &[1])),
        ("pads must be", conv().ints("pads", &[-1, 0, 0, 0])),
        ("pads must be", conv().ints("pads", &[i64::MAX, 0, 0, 0])),
        ("auto_pad", conv().text("auto_pad", "WRAP")),
        ("do not fit 1 channels", conv().int("group", 2)),
        ("do not fit 1 channels", conv().int("group", i64::MIN)),
        ("kernel_shape", conv().ints("kernel_shape", &[2, 2])),
    ];
    for (expected, node) in cases {
        let found =
            reason(model(&[1, 4, 4], vec![node], vec![counting("w", &[2, 1, 3, 3])]).import());
        assert!(found.contains(expected), "expected {expected:?} in {found:?}");
    }
}

#[test]
fn damaged_graphs_are_refused() {
    let gemm = || node("Gemm", &["x", "w"], &["y"]);
    let weights = || vec![counting("w", &[4, 2])];
    let cycle = vec![
        node("Relu", &["b"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Relu", &["a"], &["y"]),
    ];
    assert!(matches!(model(&[4], cycle, vec![]).import(), Err(Error::Cycle { .. })));
    assert!(matches!(
        model(&[4], vec![gemm()], vec![]).import(),
        Err(Error::UndefinedValue { .. })
    ));
    assert!(matches!(model(&[4], vec![], vec![]).import(), Err(Error::UndefinedValue { .. })));
    let twice = model(&[4], vec![gemm(), gemm()], weights());
    assert!(matches!(twice.import(), Err(Error::DuplicateValue { .. })));
    let mask = model(&[4], vec![node("Dropout", &["x"], &["d", "y"])], vec![]);
    assert!(matches!(mask.import(), Err(Error::Model { .. })));
    let constant = model(&[4], vec![node("Identity", &["w"], &["y"])], weights());
    assert!(matches!(constant.import(), Err(Error::Model { .. })));
    assert!(matches!(ModelProto::default().import(), Err(Error::Malformed { .. })));
    assert!(matches!(super::super::import(b"PK\x03\x04"), Err(Error::Malformed { .. })));
}

#[test]
fn outputs_that_are_no_single_answer_are_refused() {
    let nodes = vec![
        node("Gemm", &["x", "w"], &["g"]),
        node("Relu", &["g"], &["r"]),
        node("ArgMax", &["r"], &["label"]).int("axis", 1),
        node("Softmax", &["g"], &["p"]),
    ];
    let model = model(&[4], nodes, vec![counting("w", &[4, 2])]);
    for outputs in [&["g", "p"][..], &["g", "r"], &["label", "p"]] {
        assert!(
            matches!(model.clone().outputs(outputs).import(), Err(Error::Model { .. })),
            "{outputs:?}"
        );
    }
    assert!(model.outputs(&["label", "r"]).import().is_ok());
}

#[test]
fn inputs_must_be_rows_of_numbers_of_a_fixed_size() {
    let with_input = |input: Vec<ValueInfoProto>| {
        let mut model = model(&[4], vec![node("Relu", &["x"], &["y"])], vec![]);
        model.graph.as_mut().unwrap().input = input;
        model.import()
    };
    let dynamic = with_input(vec![value_info("x", &[None, Some(3), None])]);
    assert!(matches!(dynamic, Err(Error::DynamicShape { axis: 2, .. })));
    let negative = with_input(vec![value_info("x", &[None, Some(-3)])]);
    assert!(matches!(negative, Err(Error::DynamicShape { axis: 1, .. })));
    let mut text = value_info("x", &[None, Some(4)]);
    text.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = 8;
    let none = ValueInfoProto { name: "x".into(), r#type: None };
    let batch = value_info("x", &[Some(64), Some(4)]);
    for input in [vec![], vec![text], vec![none], vec![batch], vec![value_info("x", &[Some(4)])]] {
        assert!(matches!(with_input(input), Err(Error::Model { .. })));
    }
    let twice = vec![value_info("x", &[None, Some(4)]); 2];
    assert!(matches!(with_input(twice), Err(Error::DuplicateValue { .. })));
}

#[test]
fn damaged_tensors_are_refused() {
    let with = |tensor: TensorProto| {
        model(&[4], vec![node("Add", &["x", "w"], &["y"])], vec![tensor]).import()
    };
    let good = counting("w", &[4]);
    assert!(with(good.clone()).is_ok());
    for value in [f32::NAN, f32::INFINITY] {
        let mut weights = good.clone();
        weights.float_data[2] = value;
        assert!(matches!(with(weights), Err(Error::NotFinite { .. })));
    }
    let broken = [
        TensorProto { dims: vec![5], ..good.clone() },
        TensorProto { dims: vec![-4], ..good.clone() },
        TensorProto { dims: vec![0, 4], float_data: vec![], ..good.clone() },
        TensorProto { data_type: 10, ..good.clone() },
        TensorProto { data_location: 1, ..good.clone() },
        TensorProto { raw_data: vec![0; 17], float_data: vec![], ..good.clone() },
        TensorProto { raw_data: vec![0; 19], float_data: vec![], ..good.clone() },
    ];
    for tensor in broken {
        assert!(matches!(with(tensor), Err(Error::Tensor { .. })));
    }
    let overflow = vec![node("Mul", &["x", "w"], &["m"]), node("Mul", &["m", "w"], &["y"])];
    let large =
        TensorProto { data_type: 11, float_data: vec![], double_data: vec![1e200; 4], ..good };
    assert!(matches!(model(&[4], overflow, vec![large]).import(), Err(Error::NotFinite { .. })));
}

#[test]
fn attributes_must_be_finite() {
    let alpha =
        model(&[4], vec![node("LeakyRelu", &["x"], &["y"]).float("alpha", f32::NAN)], vec![]);
    assert!(matches!(alpha.import(), Err(Error::NotFinite { .. })));
}

#[test]
fn the_batch_size_is_not_a_number_to_compute_with() {
    let nodes = vec![
        node("Shape", &["x"], &["s"]),
        node("Add", &["s", "one"], &["t"]),
        node("Reshape", &["x", "t"], &["y"]),
    ];
    let found = reason(model(&[4], nodes, vec![ints("one", &[1])]).import());
    assert!(found.contains("the size of the batch"), "{found}");
}
