//! Files that would take too much memory or time are refused before they do.

use super::*;
use crate::onnx::{import, wire};

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
