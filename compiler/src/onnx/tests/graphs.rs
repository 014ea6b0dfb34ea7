//! Layers of graphs that are not chains, and hostile graphs.

use super::*;
use crate::domain::Index;
use crate::network::{Activation, Activations};

/// A model of integer inputs `x`.
fn indices(shape: &[i64], nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    let mut model = model(shape, nodes, weights);
    let input = &mut model.graph.as_mut().unwrap().input[0];
    input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = 7;
    model
}

/// Rows of each layer, and the number of carried ones.
fn shape_of(network: &Network) -> Vec<(usize, usize)> {
    let rows = network.layers.iter().map(|layer| {
        let rows = layer.affine.rows();
        let carried = layer.activation.as_ref().map_or(0, |activations| {
            (0..rows).filter(|&r| *activations.at(r) == Activation::Identity).count()
        });
        (rows, carried)
    });
    rows.collect()
}

#[test]
fn a_residual_connection_carries_values_until_they_are_read() {
    let nodes = vec![
        node("Gemm", &["x", "w"], &["a"]),
        node("Relu", &["a"], &["r"]),
        node("Gemm", &["r", "v"], &["b"]),
        node("Tanh", &["b"], &["t"]),
        node("Slice", &["r", "one", "three", "one"], &["s"]),
        node("Gemm", &["t", "u"], &["c"]),
        node("Relu", &["c"], &["d"]),
        node("Add", &["s", "d"], &["y"]),
    ];
    let weights = vec![
        counting("w", &[4, 3]),
        counting("v", &[3, 5]),
        counting("u", &[5, 2]),
        ints("one", &[1]),
        ints("three", &[3]),
    ];
    let network = model(&[4], nodes, weights).import().unwrap();
    // Two of the three values are still needed.
    assert_eq!(shape_of(&network), [(3, 0), (7, 2), (4, 2), (2, 0)]);
}

#[test]
fn activations_of_the_same_values_are_one_layer() {
    let nodes = vec![
        node("Gemm", &["x", "w"], &["z"]),
        node("Sin", &["z"], &["s"]),
        node("Cos", &["z"], &["c"]),
        node("Concat", &["s", "c"], &["b"]).int("axis", 1),
        node("Gemm", &["b", "v"], &["y"]),
    ];
    let weights = vec![counting("w", &[2, 3]), counting("v", &[6, 1])];
    let network = model(&[2], nodes, weights).import().unwrap();
    assert_eq!(shape_of(&network), [(6, 0), (1, 0)]);
}

#[test]
fn functions_of_functions_are_one_lookup() {
    let silu = vec![
        node("Gemm", &["x", "w"], &["z"]),
        node("Sigmoid", &["z"], &["s"]),
        node("Mul", &["z", "s"], &["m"]),
        node("Mul", &["m", "two"], &["n"]),
        node("Relu", &["n"], &["y"]),
    ];
    let weights = vec![counting("w", &[2, 3]), tensor("two", &[], &[2.0])];
    let network = model(&[2], silu, weights).import().unwrap();
    assert_eq!(shape_of(&network), [(3, 0)]);
    assert_eq!(network.layers[0].activation.as_ref().map(|a| a.kinds().len()), Some(1));
    // The same name for the same function.
    let nodes = vec![
        node("Neg", &["x"], &["n"]),
        node("Relu", &["n"], &["r"]),
        node("Relu", &["r"], &["y"]),
    ];
    let twice = model(&[2], nodes, vec![]).import().unwrap();
    assert_eq!(twice.layers.len(), 1);
}

#[test]
fn windows_that_overlap_share_comparisons() {
    let pool = |strides: &[i64]| {
        let pool =
            node("MaxPool", &["r"], &["y"]).ints("kernel_shape", &[3, 3]).ints("strides", strides);
        let nodes = vec![node("Conv", &["x", "one"], &["c"]), node("Tanh", &["c"], &["r"]), pool];
        let network = model(&[1, 9, 9], nodes, vec![tensor("one", &[1, 1, 1, 1], &[1.0])]).import();
        crate::prune::lookups(&network.unwrap().layers, false)
    };
    // 9 × 4 maxima of three along rows and 4 × 4 along columns, two comparisons each; 9 × 5 values carried from the
    // input to them; and 16 times the function.
    assert_eq!(pool(&[2, 2]), 2 * 36 + 2 * 16 + 45 + 16);
    // All 81 values first: not fewer Lookups.
    assert_eq!(pool(&[1, 1]), 81 + 2 * 63 + 2 * 49);
}

#[test]
fn a_maximum_before_relu_takes_a_lookup_for_each_window() {
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"]),
        node("Relu", &["c"], &["r"]),
        node("MaxPool", &["r"], &["y"]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]),
    ];
    let network = model(&[1, 5, 5], nodes, vec![counting("w", &[1, 1, 2, 2])]).import().unwrap();
    // Of 16 values, two of the four in each window are carried from the first layer, by Lookups.
    assert_eq!(crate::prune::lookups(&network.layers, false), 4 * (2 + 2 + 1 + 1));
}

#[test]
fn an_embedding_is_a_matrix_of_what_the_client_compares() {
    let gather = |table: &str, to: &str| node("Gather", &[table, "x"], &[to]);
    let nodes = vec![
        gather("a", "p"),
        gather("b", "q"),
        node("Add", &["p", "q"], &["s"]),
        node("Reshape", &["s", "to"], &["f"]),
        node("Relu", &["f"], &["y"]),
    ];
    let weights = vec![counting("a", &[5, 3]), counting("b", &[5, 3]), ints("to", &[-1, 6])];
    let network = indices(&[2], nodes, weights).import().unwrap();
    // Both tables read one code.
    assert_eq!(shape_of(&network), [(10, 0), (6, 0)]);
    assert_eq!(network.layers[0].activation, Some(Activation::Equal.into()));
    assert_eq!(network.elementwise_prefix(), 1);
    assert_eq!(network.evaluate(&[1.0, 4.0]).unwrap(), [8.0, 10.0, 12.0, 26.0, 28.0, 30.0]);
    let index = |feature| Index { feature, low: 0.0, high: 4.0 };
    assert_eq!(network.indices, [index(0), index(1)]);
}

#[test]
fn what_the_client_can_compute_stays_with_it() {
    // An embedding, and a dense layer of features beside it: the comparisons are a layer of their own.
    let mut model = indices(
        &[1],
        vec![
            node("Gather", &["a", "x"], &["g"]),
            node("Flatten", &["g"], &["e"]),
            node("Gemm", &["z", "w"], &["h"]),
            node("Relu", &["h"], &["r"]),
            node("Add", &["e", "r"], &["y"]),
        ],
        vec![counting("a", &[4, 3]), counting("w", &[2, 3])],
    );
    model.graph.as_mut().unwrap().input.push(value_info("z", &[None, Some(2)]));
    let network = model.import().unwrap();
    assert_eq!((network.inputs, network.input_shape.as_slice()), (3, &[3][..]));
    assert_eq!(network.elementwise_prefix(), 1);
    assert_eq!(network.evaluate(&[2.0, 1.0, -1.0]).unwrap(), [7.0, 8.0, 9.0]);
    // Four comparisons and two features; then three values of the table, which are fewer than the code, next to the
    // layer.
    assert_eq!(shape_of(&network), [(6, 2), (6, 3), (3, 0)]);
}

#[test]
fn indices_must_be_the_clients() {
    let refused = |model: ModelProto| match model.import() {
        Err(Error::Node { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let gather = || vec![node("Gather", &["a", "x"], &["y"])];
    let table = || vec![counting("a", &[5, 3])];
    assert!(refused(model(&[2], gather(), table())).contains("integer inputs"));
    let mixed = vec![node("Gemm", &["x", "w"], &["z"]), node("Gather", &["a", "z"], &["y"])];
    let weights = vec![counting("a", &[5, 3]), counting("w", &[2, 2])];
    assert!(refused(indices(&[2], mixed, weights)).contains("integer inputs"));
    let axis = vec![node("Gather", &["a", "x"], &["y"]).int("axis", 1)];
    assert!(refused(indices(&[2], axis, table())).contains("axis 0"));
    let wide = |inputs, depth| indices(&[inputs], gather(), vec![counting("a", &[depth, 1])]);
    assert!(refused(wide(1, 65_537)).contains("65536"));
    assert!(refused(wide(70_000, 2)).contains("65536"));
    assert!(wide(1, 65_536).import().is_ok());
    let hot = vec![node("OneHot", &["x", "depth", "values"], &["y"])];
    let weights = |depth| vec![tensor("depth", &[], &[depth]), counting("values", &[2])];
    for depth in [0.0, -1.0, 1e9, 1e30] {
        assert!(refused(indices(&[2], hot.clone(), weights(depth))).contains("a depth"));
    }
}

/// `a` has five rows, `b` has three, and is read at `9 - 2x`.
#[test]
fn the_smallest_table_limits_an_index() {
    let nodes = |shift| {
        vec![
            node("Gather", &["a", "x"], &["p"]),
            node("Mul", &["x", "minus two"], &["m"]),
            node("Add", &["m", shift], &["n"]),
            node("Gather", &["b", "n"], &["q"]),
            node("Concat", &["p", "q"], &["y"]).int("axis", 1),
        ]
    };
    let weights = vec![
        counting("a", &[5, 3]),
        counting("b", &[3, 3]),
        ints("minus two", &[-2]),
        ints("nine", &[9]),
        ints("ninety", &[90]),
        ints("huge", &[(1 << 52) + 2]),
    ];
    let network = indices(&[1], nodes("nine"), weights.clone()).import().unwrap();
    assert_eq!(network.indices, [Index { feature: 0, low: 4.0, high: 4.0 }]);
    for shift in ["ninety", "huge"] {
        let impossible = indices(&[1], nodes(shift), weights.clone()).import();
        assert!(matches!(impossible, Err(Error::Node { .. })), "{impossible:?}");
    }
}

#[test]
fn narrow_integers_are_indices_only_as_they_are() {
    let narrow = |kind, nodes, weights| {
        let mut model = indices(&[1], nodes, weights);
        let input = &mut model.graph.as_mut().unwrap().input[0];
        input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = kind;
        model.import()
    };
    let (uint8, int8) = (2, 3);
    let table = || vec![counting("a", &[200, 1]), ints("one", &[1])];
    let plain = || vec![node("Gather", &["a", "x"], &["y"])];
    let most = |kind| narrow(kind, plain(), table()).unwrap().indices[0].high;
    assert_eq!((most(uint8), most(int8)), (199.0, 127.0));
    let moved = vec![node("Add", &["x", "one"], &["z"]), node("Gather", &["a", "z"], &["y"])];
    let wraps = narrow(uint8, moved.clone(), table());
    assert!(matches!(wraps, Err(Error::Node { .. })), "{wraps:?}");
    let index = Index { feature: 0, low: -1.0, high: 198.0 };
    assert_eq!(narrow(7, moved, table()).unwrap().indices, [index]);
}

#[test]
fn codes_take_indices_beyond_their_depth_and_tables_do_not() {
    let hot = node("OneHot", &["x", "depth", "values"], &["p"]);
    let weights = || {
        vec![
            tensor("depth", &[], &[3.0]),
            tensor("values", &[2], &[0.0, 1.0]),
            counting("a", &[10, 3]),
            ints("none", &[]),
        ]
    };
    let mut only = hot.clone();
    only.output = vec!["y".into()];
    let network = indices(&[1], vec![only], weights()).import().unwrap();
    assert_eq!(network.indices[0].low, 0.0);
    assert!(network.indices[0].high > 1e18);
    assert_eq!(network.evaluate(&[7.0]).unwrap(), [0.0; 3]);
    let both = vec![hot, node("Gather", &["a", "x"], &["q"]), node("Add", &["p", "q"], &["y"])];
    let network = indices(&[1], both, weights()).import().unwrap();
    assert_eq!(network.indices, [Index { feature: 0, low: 0.0, high: 9.0 }]);
    let empty = indices(&[1], vec![node("Gather", &["none", "x"], &["y"])], weights()).import();
    assert!(empty.is_err(), "{empty:?}");
}

fn too_large(model: &ModelProto) {
    assert!(matches!(model.import(), Err(Error::TooLarge { .. })), "{:?}", model.import().err());
}

#[test]
fn joins_that_explode_are_refused() {
    // Each value is the sum of all earlier ones: the last layers read thousands of stages.
    let mut nodes = Vec::new();
    for i in 0..5_000 {
        nodes.push(node("Relu", &[&format!("v{i}")], &[&format!("r{i}")]));
        nodes.push(node("Add", &[&format!("v{i}"), &format!("r{i}")], &[&format!("v{}", i + 1)]));
    }
    nodes[0].input[0] = "x".into();
    nodes[1].input[0] = "x".into();
    too_large(&model(&[64], nodes, vec![]).outputs(&["v5000"]));
    // Each is twice as wide as the one before.
    let double = |i: usize| {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        node("Concat", &[&from, &from], &[&to]).int("axis", 1)
    };
    let mut nodes = (0..60).map(double).collect::<Vec<_>>();
    nodes[0].input = vec!["x".into(); 2];
    too_large(&model(&[4], nodes, vec![]).outputs(&["v60"]));
    // More layers than a program may have.
    let layer = |i: usize| {
        let names = [format!("v{i}"), format!("g{i}"), format!("v{}", i + 1)];
        [node("Gemm", &[&names[0], "w"], &[&names[1]]), node("Relu", &[&names[1]], &[&names[2]])]
    };
    let mut nodes = (0..1_100).flat_map(layer).collect::<Vec<_>>();
    nodes[0].input[0] = "x".into();
    too_large(&model(&[2], nodes, vec![counting("w", &[2, 2])]).outputs(&["v1100"]));
}

#[test]
fn functions_of_functions_stay_short() {
    for operator in ["Gelu", "Mish"] {
        let mut nodes = (0..200)
            .map(|i| node(operator, &[&format!("v{i}")], &[&format!("v{}", i + 1)]))
            .collect::<Vec<_>>();
        nodes[0].input[0] = "x".into();
        let network = model(&[2], nodes, vec![]).outputs(&["v200"]).import().unwrap();
        assert!(network.layers.len() < 200);
    }
    // Squares of squares exceed the range of numbers.
    let mut nodes = (0..100)
        .map(|i| node("Mul", &[&format!("v{i}"), &format!("v{i}")], &[&format!("v{}", i + 1)]))
        .collect::<Vec<_>>();
    nodes[0].input = vec!["x".into(); 2];
    let network = model(&[2], nodes, vec![]).outputs(&["v100"]).import().unwrap();
    network.evaluate(&[3.0, 0.5]).unwrap();
}

#[test]
fn pools_out_of_range_are_refused() {
    let pool = |node: NodeProto| model(&[1, 40, 40], vec![node], vec![]).import();
    let of = || node("MaxPool", &["x"], &["y"]);
    let huge = of().ints("kernel_shape", &[1 << 20, 1 << 20]).ints("pads", &[1 << 20; 4]);
    assert!(matches!(pool(huge), Err(Error::TooLarge { .. })));
    let padding = of().ints("kernel_shape", &[1, 1]).ints("pads", &[2, 0, 0, 0]);
    let refused = [
        of(),
        of().ints("kernel_shape", &[41, 41]),
        of().ints("kernel_shape", &[0, 2]),
        of().ints("kernel_shape", &[2, 2, 2]),
        of().ints("kernel_shape", &[2, 2]).int("storage_order", 1),
        padding,
        NodeProto {
            output: vec!["y".into(), "places".into()],
            ..of().ints("kernel_shape", &[2, 2])
        },
    ];
    for node in refused {
        assert!(matches!(pool(node), Err(Error::Node { .. })));
    }
    too_large(&model(&[1 << 22], vec![node("Max", &["x", "x"], &["y"])], vec![]));
}

#[test]
fn trees_that_are_none_are_refused() {
    let regressor = |change: &dyn Fn(&mut NodeProto)| {
        let mut node = node("TreeEnsembleRegressor", &["x"], &["y"])
            .domain(ML)
            .ints("nodes_treeids", &[0, 0, 0])
            .ints("nodes_nodeids", &[0, 1, 2])
            .ints("nodes_featureids", &[0, 0, 0])
            .floats("nodes_values", &[0.5, 0.0, 0.0])
            .ints("nodes_truenodeids", &[1, 0, 0])
            .ints("nodes_falsenodeids", &[2, 0, 0])
            .with(AttributeProto {
                name: "nodes_modes".into(),
                strings: ["BRANCH_LEQ", "LEAF", "LEAF"].map(Into::into).to_vec(),
                ..AttributeProto::default()
            })
            .ints("target_treeids", &[0, 0])
            .ints("target_nodeids", &[1, 2])
            .ints("target_ids", &[0, 0])
            .floats("target_weights", &[1.0, -1.0]);
        change(&mut node);
        model(&[2], vec![node], vec![]).import()
    };
    assert!(regressor(&|_| ()).is_ok());
    fn at<'a>(node: &'a mut NodeProto, name: &str) -> &'a mut AttributeProto {
        node.attribute.iter_mut().find(|attribute| attribute.name == name).unwrap()
    }
    type Change = Box<dyn Fn(&mut NodeProto)>;
    let ints = |name: &'static str, values: &'static [i64]| -> Change {
        Box::new(move |node| at(node, name).ints = values.into())
    };
    let broken: Vec<Change> = vec![
        ints("nodes_treeids", &[0, 0]),
        ints("nodes_nodeids", &[]),
        ints("nodes_featureids", &[0, 0, 0, 0]),
        // A missing feature, missing children, a node below itself, one below two nodes, a node twice.
        ints("nodes_featureids", &[2, 0, 0]),
        ints("nodes_featureids", &[i64::MIN, 0, 0]),
        ints("nodes_truenodeids", &[9, 0, 0]),
        ints("nodes_truenodeids", &[0, 0, 0]),
        ints("nodes_truenodeids", &[2, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 1]),
        ints("target_treeids", &[0]),
        ints("target_nodeids", &[1, 7]),
        ints("target_ids", &[0, 1]),
        ints("target_ids", &[0, -1]),
        Box::new(|node| at(node, "target_weights").floats = vec![f32::NAN, 0.0]),
        Box::new(|node| at(node, "nodes_values").floats = vec![f32::INFINITY, 0.0, 0.0]),
        Box::new(|node| at(node, "nodes_modes").strings = vec![b"BRANCH_EQ".to_vec(); 3]),
        Box::new(|node| at(node, "nodes_modes").strings = vec![]),
        Box::new(|node| *node = node.clone().int("n_targets", i64::MAX)),
        Box::new(|node| *node = node.clone().int("n_targets", 0)),
        Box::new(|node| *node = node.clone().floats("base_values", &[0.0; 3])),
        Box::new(|node| *node = node.clone().text("aggregate_function", "MAX")),
        Box::new(|node| *node = node.clone().text("post_transform", "PROBIT")),
    ];
    for (i, change) in broken.iter().enumerate() {
        let refused = regressor(change);
        assert!(
            matches!(refused, Err(Error::Node { .. } | Error::NotFinite { .. })),
            "{i}: {:?}",
            refused.err()
        );
    }
    // Deeper than a recursion should go.
    let depth = 5_000;
    let chain = (0..depth).collect::<Vec<i64>>();
    let deep = regressor(&|node| {
        at(node, "nodes_treeids").ints = vec![0; 5_001];
        at(node, "nodes_nodeids").ints = (0..=depth).collect();
        at(node, "nodes_featureids").ints = vec![0; 5_001];
        at(node, "nodes_values").floats = vec![0.5; 5_001];
        at(node, "nodes_truenodeids").ints = chain.iter().map(|i| i + 1).chain([0]).collect();
        at(node, "nodes_falsenodeids").ints = chain.iter().map(|i| i + 1).chain([0]).collect();
        at(node, "nodes_modes").strings = vec![b"BRANCH_LEQ".to_vec(); 5_001];
    });
    assert!(matches!(deep, Err(Error::Node { .. })));
}

#[test]
fn activations_that_are_equal_are_kept_once() {
    let rows = [0.1, 0.2, 0.1].map(|alpha| Activation::LeakyRelu { alpha });
    let activations = Activations::of_rows(rows.into_iter());
    assert_eq!(activations.kinds().len(), 2);
    assert_eq!(*activations.at(2), Activation::LeakyRelu { alpha: 0.1 });
}
