//! Files that would take too much memory or time are refused first.

use super::*;
use crate::network::{Activation, Activations};
use crate::onnx::budget::Budget;
use crate::onnx::{import, import_within, wire};

fn too_large(result: Result<Network, Error>) -> bool {
    matches!(result, Err(Error::TooLarge { .. }))
}

#[test]
fn a_file_over_the_limit_is_not_decoded() {
    assert!(too_large(import(&vec![0; wire::MAX_FILE_BYTES as usize + 1])));
}

#[test]
fn a_file_of_nothing_but_empty_messages_is_not_decoded() {
    // Two bytes each in the file, hundreds in memory.
    let empty_nodes = [0x0a, 0x00].repeat(4 << 20);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(empty_nodes.len() as u64, &mut file);
    file.extend(empty_nodes);
    assert!(too_large(import(&file)));
}

#[test]
fn a_packed_list_of_small_integers_is_counted_as_it_decodes() {
    let list = vec![0u8; 80 << 20];
    let mut tensor = vec![0x3a];
    prost::encoding::encode_varint(list.len() as u64, &mut tensor);
    tensor.extend(list);
    let mut graph = vec![0x2a];
    prost::encoding::encode_varint(tensor.len() as u64, &mut graph);
    graph.extend(tensor);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(graph.len() as u64, &mut file);
    file.extend(graph);
    assert!(too_large(import(&file)));
}

#[test]
fn fields_must_end_inside_their_message() {
    for file in
        [&[0x3a, 0x05, 0x00][..], &[0x3a, 0x80], &[0x3b], &[0x3a, 0x02, 0x0a, 0x7f], &[0x01]]
    {
        assert!(matches!(import(file), Err(Error::Malformed { .. })), "{file:?}");
    }
}

#[test]
fn declared_sizes_are_not_believed() {
    let huge = TensorProto { dims: vec![i64::MAX, i64::MAX], ..counting("w", &[4]) };
    assert!(too_large(model(&[4], vec![node("Gemm", &["x", "w"], &["y"])], vec![huge]).import()));
    assert!(too_large(
        model(&[1 << 40, 1 << 40], vec![node("Relu", &["x"], &["y"])], vec![]).import()
    ));
    let images = vec![node("AveragePool", &["x"], &["y"]).ints("kernel_shape", &[1, 1])];
    assert!(too_large(model(&[1 << 26, 1, 1], images, vec![]).import()));
}

#[test]
fn a_small_file_cannot_ask_for_large_matrices() {
    // One megabyte of weights, applied at a million positions.
    let conv = vec![node("Conv", &["x", "w"], &["y"]).ints("pads", &[500, 500, 500, 500])];
    assert!(too_large(
        model(&[1, 100, 100], conv, vec![counting("w", &[1, 1, 100, 100])]).import()
    ));
    // Constants that broadcast to the size of their product.
    let outer = vec![node("Mul", &["a", "b"], &["c"]), node("Add", &["x", "c"], &["y"])];
    let weights = vec![counting("a", &[1 << 14, 1]), counting("b", &[1, 1 << 14])];
    assert!(too_large(model(&[4], outer, weights).import()));
    // A chain without activations folds into one matrix; each step multiplies two.
    let mut chain = (0..20_000)
        .map(|i| node("Gemm", &[&format!("g{i}"), "w"], &[&format!("g{}", i + 1)]))
        .collect::<Vec<_>>();
    chain[0].input[0] = "x".into();
    let chain = model(&[64], chain, vec![counting("w", &[64, 64])]).outputs(&["g20000"]);
    assert!(too_large(chain.import()));
}

#[test]
fn an_empty_constant_cannot_take_on_large_sizes() {
    let nodes = vec![
        node("Reshape", &["nothing", "to"], &["empty"]),
        node("Slice", &["empty", "start", "end", "axis"], &["part"]),
        node("Reshape", &["x", "part"], &["y"]),
    ];
    let weights = vec![
        ints("nothing", &[]),
        ints("to", &[0, 1 << 40]),
        ints("start", &[0]),
        ints("end", &[1 << 40]),
        ints("axis", &[1]),
    ];
    assert!(matches!(model(&[4], nodes, weights).import(), Err(Error::Node { .. })));
}

#[test]
fn a_deep_graph_does_not_exhaust_the_stack() {
    let depth = 100_000;
    let chain =
        (0..depth).map(|i| node("Identity", &[&format!("v{i}")], &[&format!("v{}", i + 1)]));
    let mut chain = chain.collect::<Vec<_>>();
    chain[0].input[0] = "x".into();
    let network = model(&[4], chain, vec![]).outputs(&[&format!("v{depth}")]).import().unwrap();
    assert_eq!(network.evaluate(&[1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

/// Imports a model with a smaller budget than usual.
fn within(model: &ModelProto, elements: u64, work: u64) -> Result<Network, Error> {
    import_within(&model.encode_to_vec(), Budget::of(elements, work))
}

#[test]
fn a_value_of_many_stages_is_not_joined_once_for_each_time_it_is_read() {
    let (stages, times) = (200, 2000);
    let relu = |i: usize| format!("r{i}");
    let mut nodes = vec![node("Relu", &["x"], &[&relu(0)])];
    nodes.extend((1..stages).map(|i| node("Relu", &["x"], &[&relu(i)])));
    let names = (0..stages).map(relu).collect::<Vec<_>>();
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    nodes.push(node("Concat", &names, &["all"]).int("axis", 1));
    nodes.push(node("Gemm", &["all", "w"], &["s"]));
    // With one more stage, so that it is a different join.
    nodes.push(node("Tanh", &["x"], &["t"]));
    let mut read = vec!["s"; times];
    read.push("t");
    nodes.push(node("Concat", &read, &["y"]).int("axis", 1));
    let weights = vec![tensor("w", &[stages as i64, 1], &vec![1.0; stages])];
    let model = model(&[1], nodes, weights);
    // Each repetition takes the weights of `s` three times, and not its places among all values again.
    let network = within(&model, 7 * (stages * times) as u64 / 2, 1 << 24).unwrap();
    assert_eq!(network.outputs(), times + 1);
}

#[test]
fn looking_for_features_of_one_value_is_charged() {
    let (inputs, times) = (500, 20);
    let mut nodes = vec![node("Gemm", &["x", "w"], &["s"])];
    nodes.extend((0..times).map(|i| node("Relu", &["s"], &[&format!("r{i}")])));
    let names = (0..times).map(|i| format!("r{i}")).collect::<Vec<_>>();
    nodes.push(node("Sum", &names.iter().map(String::as_str).collect::<Vec<_>>(), &["y"]));
    let weights = vec![tensor("w", &[inputs, 1], &vec![1.0; inputs as usize])];
    let model = model(&[inputs], nodes, weights);
    // Each activation reads the weights of `s`; its layer is charged for its width twice.
    let look = (inputs * times) as u64;
    assert!(within(&model, 1 << 20, 7 * look / 2).is_ok());
    assert!(too_large(within(&model, 1 << 20, 5 * look / 2)));
}

#[test]
fn functions_of_too_many_kinds_are_not_fused() {
    let rows = 1500;
    let limits = (0..rows).map(|i| i as f32).collect::<Vec<_>>();
    let nodes = vec![node("Relu", &["x"], &["r"]), node("Min", &["r", "c"], &["y"])];
    let network = model(&[rows], nodes, vec![tensor("c", &[rows], &limits)]).import().unwrap();
    let kinds = network.layers.iter().filter_map(|layer| layer.activation.as_ref());
    let fused = kinds.flat_map(Activations::kinds);
    assert_eq!(fused.filter(|kind| matches!(kind, Activation::Formula(_))).count(), 0);
    // A few are accepted.
    let nodes = vec![node("Relu", &["x"], &["r"]), node("Min", &["r", "c"], &["y"])];
    let network = model(&[8], nodes, vec![tensor("c", &[8], &limits[..8])]).import().unwrap();
    let kinds = network.layers[0].activation.as_ref().unwrap().kinds();
    assert!(matches!(kinds[0], Activation::Formula(_)));
}

/// Trees of one comparison each.
fn stumps(trees: i64, targets: i64) -> NodeProto {
    let count = 3 * trees as usize;
    let repeat = |values: [i64; 3]| values.repeat(trees as usize);
    let of = (0..trees).flat_map(|tree| [tree; 3]).collect::<Vec<_>>();
    let leaves = (0..trees).flat_map(|tree| [tree; 2]).collect::<Vec<_>>();
    let thresholds = (0..count).map(|i| i as f32).collect::<Vec<_>>();
    let modes = ["BRANCH_LEQ", "LEAF", "LEAF"].repeat(trees as usize);
    node("TreeEnsembleRegressor", &["x"], &["y"])
        .domain(ML)
        .ints("nodes_treeids", &of)
        .ints("nodes_nodeids", &repeat([0, 1, 2]))
        .ints("nodes_featureids", &repeat([0, 0, 0]))
        .floats("nodes_values", &thresholds)
        .ints("nodes_truenodeids", &repeat([1, 0, 0]))
        .ints("nodes_falsenodeids", &repeat([2, 0, 0]))
        .with(AttributeProto {
            name: "nodes_modes".into(),
            strings: modes.into_iter().map(Into::into).collect(),
            ..AttributeProto::default()
        })
        .ints("target_treeids", &leaves)
        .ints("target_nodeids", &[1, 2].repeat(trees as usize))
        .ints("target_ids", &vec![0; leaves.len()])
        .floats("target_weights", &[1.0, -1.0].repeat(trees as usize))
        .int("n_targets", targets)
}

#[test]
fn trees_are_charged_for_each_output() {
    let trees = |trees, targets| model(&[1], vec![stumps(trees, targets)], vec![]);
    assert!(trees(10, 3).import().is_ok());
    assert!(too_large(within(&trees(10, 1000), 1 << 20, 10_000)));
    let refused = trees(1, 1025).import().unwrap_err().to_string();
    assert!(refused.contains("1025 outputs; expected at most 1024"), "{refused}");
}

#[test]
fn a_column_that_is_two_outputs_has_no_bounds_of_one() {
    let nodes = vec![stumps(2, 1), node("Identity", &["y"], &["z"])];
    let network = model(&[1], nodes, vec![]).outputs(&["y", "z"]).import().unwrap();
    assert_eq!(network.outputs(), 2);
}

fn attribute<'a>(node: &'a mut NodeProto, name: &str) -> &'a mut AttributeProto {
    node.attribute.iter_mut().find(|attribute| attribute.name == name).unwrap()
}

#[test]
fn weights_of_trees_are_limited() {
    let mut node = stumps(1, 1);
    let count = (1 << 20) + 1;
    for (name, value) in [("target_treeids", 0), ("target_nodeids", 1), ("target_ids", 0)] {
        attribute(&mut node, name).ints = vec![value; count];
    }
    attribute(&mut node, "target_weights").floats = vec![1.0; count];
    let refused = model(&[1], vec![node], vec![]).import().unwrap_err().to_string();
    assert!(refused.contains("1048577 weights; expected at most 1048576"), "{refused}");
}

#[test]
fn what_a_deep_ensemble_would_cost_is_counted_where_that_is_cheap() {
    let deep = |stumps_before: i64| {
        let mut node = stumps(stumps_before, 1);
        // A chain of seven comparisons, each with a leaf on one side.
        for i in 0..15 {
            let split = i % 2 == 0 && i < 14;
            let mut push = |name: &str, value: i64| attribute(&mut node, name).ints.push(value);
            push("nodes_treeids", stumps_before);
            push("nodes_nodeids", i);
            push("nodes_featureids", 0);
            push("nodes_truenodeids", if split { i + 1 } else { 0 });
            push("nodes_falsenodeids", if split { i + 2 } else { 0 });
            attribute(&mut node, "nodes_values").floats.push(i as f32);
            let mode = if split { "BRANCH_LEQ" } else { "LEAF" };
            attribute(&mut node, "nodes_modes").strings.push(mode.into());
        }
        model(&[1], vec![node], vec![]).import().unwrap_err().to_string()
    };
    let (small, large) = (deep(1), deep(1400));
    assert!(small.contains("has depth 7") && small.contains("bootstraps"), "{small}");
    assert!(large.contains("has depth 7") && !large.contains("bootstraps"), "{large}");
}
