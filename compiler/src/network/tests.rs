use proptest::prelude::*;

use super::*;

fn dense(rows: usize, cols: usize, values: &[f64]) -> Affine {
    Affine { matrix: Matrix::Dense { rows, cols, values: values.into() }, bias: vec![0.0; rows] }
}

/// The same function with a sparse matrix.
fn sparse(affine: &Affine) -> Affine {
    let mut matrix = Sparse::new(affine.cols());
    for r in 0..affine.rows() {
        affine.matrix.row(r).for_each(|(column, value)| matrix.push(column, value));
        matrix.end_row();
    }
    Affine { matrix: Matrix::Sparse(matrix), bias: affine.bias.clone() }
}

fn layer(affine: Affine, activation: Option<Activation>) -> Layer {
    Layer {
        name: "layer".into(),
        affine,
        activation: activation.map(Into::into),
        groups: None,
        bounds: None,
    }
}

/// Two features, hidden layer of three, two classes.
fn network() -> Network {
    Network {
        name: "test".into(),
        inputs: 2,
        input_shape: vec![2],
        layers: vec![
            layer(dense(3, 2, &[1.0, -1.0, 2.0, 0.0, 0.0, 3.0]), Some(Activation::Relu)),
            layer(dense(2, 3, &[1.0, 1.0, 1.0, -1.0, 0.0, 1.0]), None),
        ],
        head: Head {
            transforms: vec![Transform::Softmax],
            decision: Decision::ArgMax { labels: vec![Label::Int(7), Label::String("b".into())] },
        },
        indices: vec![],
    }
}

#[test]
fn a_row_goes_through_all_layers() {
    let network = network();
    network.validate().unwrap();
    assert_eq!(network.trace(&[1.0, 2.0]).unwrap(), [vec![-1.0, 2.0, 6.0], vec![8.0, 6.0]]);
    assert_eq!(network.evaluate(&[1.0, 2.0]).unwrap(), [8.0, 6.0]);
    let prediction = network.predict(&[1.0, 2.0]).unwrap();
    assert_eq!(prediction.label, Some(Label::Int(7)));
    assert!((prediction.scores[0] - 1.0 / (1.0 + (-2.0f64).exp())).abs() < 1e-12);
}

#[test]
fn a_row_of_the_wrong_length_is_an_error() {
    let row = network().evaluate(&[1.0]);
    assert!(matches!(row, Err(Error::RowLength { expected: 2, found: 1 })));
}

#[test]
fn validation_finds_what_does_not_fit() {
    type Break = fn(&mut Network);
    let broken: [(&str, Break); 9] = [
        ("no inputs", |n| n.inputs = 0),
        ("shape", |n| n.input_shape = vec![usize::MAX, 2]),
        ("no layers", |n| n.layers.clear()),
        ("columns", |n| n.layers[1].affine = dense(2, 2, &[0.0; 4])),
        ("biases", |n| n.layers[0].affine.bias.push(0.0)),
        ("values", |n| n.layers[0].affine = dense(3, 2, &[0.0; 5])),
        ("activation", |n| n.layers[0].activation = None),
        ("groups", |n| n.layers[0].groups = Some(vec![0])),
        ("labels", |n| n.head.decision = Decision::ArgMax { labels: vec![Label::Int(0)] }),
    ];
    for (name, break_it) in broken {
        let mut network = network();
        break_it(&mut network);
        assert!(matches!(network.validate(), Err(Error::Network { .. })), "{name}");
    }
    let mut infinite = network();
    infinite.layers[0].affine.bias[1] = f64::INFINITY;
    assert!(matches!(infinite.validate(), Err(Error::NotFinite { .. })));
}

#[test]
fn validation_finds_malformed_sparse_matrices() {
    let good =
        Sparse { cols: 3, offsets: vec![0, 2, 3], columns: vec![0, 2, 1], values: vec![1.0; 3] };
    assert!(Matrix::Sparse(good.clone()).validate().is_ok());
    let broken: [fn(&mut Sparse); 6] = [
        |m| m.offsets.clear(),
        |m| m.offsets = vec![0, 3, 2, 3],
        |m| m.offsets = vec![0, 2, 4],
        |m| m.columns = vec![2, 0, 1],
        |m| m.columns = vec![0, 3, 1],
        |m| m.columns = vec![0, 2],
    ];
    for break_it in broken {
        let mut matrix = good.clone();
        break_it(&mut matrix);
        assert!(matches!(Matrix::Sparse(matrix).validate(), Err(Error::Network { .. })));
    }
}

#[test]
fn activations_have_their_values() {
    let clip = Activation::Clip { min: -1.0, max: 2.0 };
    let table = [
        (Activation::Relu, -2.0, 0.0),
        (Activation::Relu, 2.0, 2.0),
        (Activation::LeakyRelu { alpha: 0.1 }, -2.0, -0.2),
        (Activation::Sigmoid, 0.0, 0.5),
        (Activation::Sigmoid, -1000.0, 0.0),
        (Activation::Sigmoid, 1000.0, 1.0),
        (Activation::Tanh, 1000.0, 1.0),
        (clip.clone(), -5.0, -1.0),
        (clip, 5.0, 2.0),
        (Activation::Clip { min: 3.0, max: 2.0 }, 0.0, 2.0),
    ];
    for (activation, x, expected) in table {
        assert!((activation.apply(x) - expected).abs() < 1e-12, "{activation:?} of {x}");
    }
}

#[test]
fn heads_turn_outputs_into_scores() {
    let scores = |transforms: &[Transform], outputs: &[f64]| {
        Head { transforms: transforms.to_vec(), decision: Decision::Scores }.apply(outputs).scores
    };
    assert_eq!(scores(&[Transform::Softmax], &[1000.0, 1000.0]), [0.5, 0.5]);
    assert!((scores(&[Transform::LogSoftmax], &[0.0, 0.0])[0] + 2f64.ln()).abs() < 1e-12);
    assert_eq!(scores(&[Transform::Sigmoid, Transform::Complement], &[0.0]), [0.5, 0.5]);
    assert_eq!(scores(&[Transform::NormalizeL1], &[1.0, -3.0]), [0.25, -0.75]);
    assert_eq!(scores(&[Transform::NormalizeL1], &[0.0, 0.0]), [0.0, 0.0]);
}

#[test]
fn labels_follow_from_outputs_even_where_probabilities_are_equal() {
    let decision = Decision::ArgMax { labels: vec![Label::Int(0), Label::Int(1)] };
    let head = Head { transforms: vec![Transform::Sigmoid], decision };
    // Both round to a probability of 1.
    assert_eq!(head.apply(&[50.0, 60.0]).label, Some(Label::Int(1)));
    assert_eq!(head.apply(&[1.0, 1.0]).label, Some(Label::Int(0)));
    let labels = [Label::Int(0), Label::Int(1)];
    let head = Head { transforms: vec![], decision: Decision::Threshold { above: 0.5, labels } };
    assert_eq!(head.apply(&[0.5]).label, Some(Label::Int(0)));
    assert_eq!(head.apply(&[0.6]).label, Some(Label::Int(1)));
}

#[test]
fn a_head_survives_serialisation() {
    let head = network().head;
    let json = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<Head>(&json).unwrap(), head);
}

#[test]
fn elementwise_layers_at_the_front_are_the_clients() {
    let mut network = network();
    assert_eq!(network.elementwise_prefix(), 0);
    network.layers.insert(0, layer(Affine::diagonal(&[2.0, 3.0]), Some(Activation::Relu)));
    network.validate().unwrap();
    assert_eq!(network.elementwise_prefix(), 1);
    // The last layer is never the client's, because something must remain to be encrypted.
    network.layers.truncate(1);
    assert_eq!(network.elementwise_prefix(), 0);
}

#[test]
fn rows_of_a_convolution_share_a_group() {
    // Kernel (1, 2, 3) over five values padded by one, and a second channel with kernel (4).
    let mut matrix = Sparse::new(5);
    for output in 0..5usize {
        for (k, weight) in [1.0, 2.0, 3.0].into_iter().enumerate() {
            match (output + k).checked_sub(1) {
                Some(input) if input < 5 => matrix.push(input, weight),
                _ => {}
            }
        }
        matrix.end_row();
    }
    for output in 0..5 {
        matrix.push(output, 4.0);
        matrix.end_row();
    }
    let mut affine = Affine { matrix: Matrix::Sparse(matrix), bias: vec![1.0; 10] };
    assert_eq!(shared_rows(&affine, 5), Some(vec![0, 0, 0, 0, 0, 1, 1, 1, 1, 1]));
    // A row with another bias needs a table of its own.
    affine.bias[7] = 2.0;
    assert_eq!(shared_rows(&affine, 5), Some(vec![0, 0, 0, 0, 0, 1, 1, 2, 1, 1]));
    // With one row per channel there is nothing to share.
    assert_eq!(shared_rows(&affine, 1), None);
    let different = (0..40).map(f64::from).collect::<Vec<_>>();
    assert_eq!(shared_rows(&Affine::diagonal(&different[1..]), 39), None);
}

#[test]
fn few_bytes_of_a_file_do_not_ask_for_much_memory() {
    fn reads<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> bool {
        postcard::from_bytes::<T>(&postcard::to_stdvec(value).unwrap()).is_ok()
    }
    let activations = |kinds: usize| Activations::each(vec![Activation::Relu; kinds], vec![0; 100]);
    assert!(reads(&activations(2)));
    assert!(!reads(&activations(65)));
    let head = |transforms| Head {
        transforms: vec![Transform::Sigmoid; transforms],
        decision: Decision::Scores,
    };
    assert!(reads(&head(16)));
    assert!(!reads(&head(17)));
    assert!(reads(&Formula::of(&[Term::Relu; 127])));
    assert!(!reads(&Formula::of(&[Term::Relu; 128])));
    let layer = |activation: Activations| Layer {
        name: String::new(),
        affine: Affine::diagonal(&[1.0]),
        activation: Some(activation),
        groups: None,
        bounds: None,
    };
    let network = |layers| Network {
        name: String::new(),
        inputs: 1,
        input_shape: vec![1],
        layers: vec![layer(Activation::Relu.into()); layers],
        head: head(0),
        indices: vec![],
    };
    assert!(reads(&network(1024)));
    assert!(!reads(&network(1025)));
    // More activations than rows.
    let kinds = vec![Activation::Relu, Activation::Tanh];
    assert!(layer(Activations::each(kinds.clone(), vec![0])).validate(1).is_err());
    assert!(layer(Activations::each(kinds[..1].to_vec(), vec![0])).validate(1).is_ok());
}

#[test]
fn one_long_row_among_many_is_not_compared_with_each() {
    let (rows, long) = (1 << 13, 1 << 15);
    let mut matrix = Sparse::new(long);
    (0..long).for_each(|column| matrix.push(column, 0.5));
    matrix.end_row();
    for row in 1..rows {
        matrix.push(row, 1.0);
        matrix.end_row();
    }
    let affine = Affine { matrix: Matrix::Sparse(matrix), bias: vec![0.0; rows] };
    assert_eq!(shared_rows(&affine, rows), None);
}

fn affine(rows: usize, cols: usize) -> impl Strategy<Value = Affine> {
    // Many zeros, and sums that cancel.
    let value = prop_oneof![Just(0i8), -3i8..3].prop_map(f64::from);
    let values = prop::collection::vec(value, rows * cols);
    (values, prop::collection::vec(-3i8..3, rows), any::<bool>()).prop_map(
        move |(values, bias, is_sparse)| {
            let mut affine = dense(rows, cols, &values);
            affine.bias = bias.into_iter().map(f64::from).collect();
            if is_sparse { sparse(&affine) } else { affine }
        },
    )
}

proptest! {
    #[test]
    fn composition_is_application_of_both(
        (outer, inner, x) in (1usize..5, 1usize..5, 1usize..12).prop_flat_map(|(a, b, c)| {
            (affine(a, b), affine(b, c), prop::collection::vec(-3i8..3, c))
        })
    ) {
        let x = x.into_iter().map(f64::from).collect::<Vec<_>>();
        let composed = outer.after(&inner);
        prop_assert!(composed.matrix.validate().is_ok());
        prop_assert_eq!(composed.apply(&x), outer.apply(&inner.apply(&x)));
        let both = |kind: fn(&Matrix) -> bool| kind(&outer.matrix) && kind(&inner.matrix);
        let is_sparse = |matrix: &Matrix| matches!(matrix, Matrix::Sparse(_));
        prop_assert_eq!(is_sparse(&composed.matrix), both(is_sparse));
        if is_sparse(&composed.matrix) {
            prop_assert!(composed.matrix.entries() as u64 <= outer.cost_after(&inner));
        }
    }

    #[test]
    fn selecting_and_stacking_rows_is_selecting_and_stacking_values(
        (a, b, x, picks) in (1usize..5, 1usize..5, 1usize..5).prop_flat_map(|(a, b, c)| {
            let picks = prop::collection::vec(0..a + b, 1..6);
            (affine(a, c), affine(b, c), prop::collection::vec(-3i8..3, c), picks)
        })
    ) {
        let x = x.into_iter().map(f64::from).collect::<Vec<_>>();
        let stacked = Affine::stack(&[&a, &b], x.len());
        prop_assert!(stacked.matrix.validate().is_ok());
        let values = [a.apply(&x), b.apply(&x)].concat();
        prop_assert_eq!(&stacked.apply(&x), &values);
        let selected = stacked.select(&picks);
        prop_assert!(selected.matrix.validate().is_ok());
        prop_assert_eq!(selected.apply(&x), picks.iter().map(|&pick| values[pick]).collect::<Vec<_>>());
    }
}
