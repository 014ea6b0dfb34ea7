"""Makes the golden models of this folder: small ONNX files, and what onnxruntime computes with them.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py [PART …]

With names of parts (the functions at the end), only their models are made; each part has random numbers of its own.
Every NAME.onnx comes with a NAME.json: {"inputs": rows, "scores": rows or null, "labels": list or null}.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

HERE = Path(__file__).resolve().parent
ROWS = 4
ML = "ai.onnx.ml"
random = np.random.default_rng(1)


def shortest(value):
    """A float32 as the shortest number that reads back the same."""
    return float(str(np.float32(value)))


def columns(output):
    """A score output as rows: a tensor, a vector, or a list of dictionaries."""
    if isinstance(output, list):
        output = [list(row.values()) for row in output]
    output = np.asarray(output)
    return output.reshape(len(output), -1)


def save(name, model, x, label=None, scores=()):
    """Writes the model and what onnxruntime says about the rows `x`, of several inputs a dictionary."""
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.get_outputs()
    single = session.get_inputs()[0].shape[0] == 1
    if isinstance(x, dict):
        runs, x = [x], np.concatenate([part.reshape(len(part), -1) for part in x.values()], axis=1)
    else:
        runs = [{session.get_inputs()[0].name: rows} for rows in (np.split(x, len(x)) if single else [x])]
    results = [session.run(None, run) for run in runs]
    merged = {
        output.name: sum((result[i] for result in results), [])
        if isinstance(results[0][i], list)
        else np.concatenate([result[i] for result in results])
        for i, output in enumerate(outputs)
        if output.name in (label, *scores)
    }
    labels = None if label is None else [v.item() if hasattr(v, "item") else v for v in np.ravel(merged[label])]
    found = np.concatenate([columns(merged[score]) for score in scores], axis=1) if scores else None
    golden = {
        "inputs": [[shortest(v) for v in row] for row in x.reshape(len(x), -1)],
        "scores": None if found is None else [[shortest(v) for v in row] for row in found],
        "labels": labels if labels is None else [int(v) if isinstance(v, bool) else v for v in labels],
    }
    (HERE / f"{name}.json").write_text(json.dumps(golden) + "\n")


# Single operators, by onnx.helper.


def graph(name, shape, nodes, weights=None, opset=17, outputs=("y",), label=None, batch="batch", x=None):
    """A model of these nodes from "x" to `outputs`; `weights` are initialisers by name."""
    initializers = [numpy_helper.from_array(np.asarray(w), key) for key, w in (weights or {}).items()]
    result = [helper.make_empty_tensor_value_info(output) for output in outputs]
    if label:
        result.insert(0, helper.make_empty_tensor_value_info(label))
    for value in result:
        value.type.tensor_type.elem_type = TensorProto.INT64 if value.name == label else TensorProto.FLOAT
        if value.name == label and any(n.op_type == "Greater" and label in n.output for n in nodes):
            value.type.tensor_type.elem_type = TensorProto.BOOL
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])]
    if isinstance(x, dict):
        kinds = {key: TensorProto.INT64 if rows.dtype == np.int64 else TensorProto.FLOAT for key, rows in x.items()}
        inputs = [helper.make_tensor_value_info(key, kinds[key], [batch, *x[key].shape[1:]]) for key in x]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(ML, 1)]
    model = helper.make_model(
        helper.make_graph(nodes, name, inputs, result, initializers), opset_imports=opsets, ir_version=8
    )
    if x is None:
        x = normal(ROWS, *shape)
    save(name, model, x if isinstance(x, dict) else x.astype(np.float32), label, outputs)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


def node(operator, inputs, output="y", **attributes):
    domain = attributes.pop("domain", None)
    names = inputs.split(" ")
    outputs = output.split(" ")
    return helper.make_node(operator, names, outputs, name=f"{operator}_{outputs[0]}", domain=domain, **attributes)


def ints(*values):
    return np.array(values, np.int64)


def operators():
    gemm = [node("Gemm", "x w b")]
    graph("gemm", [4], gemm, {"w": normal(4, 3), "b": normal(3)})
    scaled = [node("Gemm", "x w b", alpha=0.5, beta=-2.0, transB=1)]
    graph("gemm_scaled", [4], scaled, {"w": normal(3, 4), "b": normal(1, 3)})
    graph("gemm_scalar_bias", [4], gemm, {"w": normal(4, 3), "b": normal(1)})
    graph("gemm_no_bias", [4], [node("Gemm", "x w")], {"w": normal(4, 3)})
    graph("matmul", [4], [node("MatMul", "x w")], {"w": normal(4, 3)})
    graph("matmul_vector", [4], [node("MatMul", "x w")], {"w": normal(4)})
    graph("matmul_last_axis", [2, 4], [node("MatMul", "x w", "t"), node("Flatten", "t")], {"w": normal(4, 3)})

    for operator in ("Add", "Sub", "Mul", "Div"):
        graph(operator.lower(), [2, 3], [node(operator, "x c", "t"), node("Flatten", "t")], {"c": normal(3)})
    for operator in ("Add", "Sub", "Mul"):
        nodes = [node(operator, "c x", "t"), node("Flatten", "t")]
        graph(f"{operator.lower()}_left", [2, 3], nodes, {"c": normal(1, 2, 1)})
    graph("mul_expands", [3, 1], [node("Mul", "x c", "t"), node("Flatten", "t")], {"c": normal(1, 4)})

    conv = {"w": normal(2, 2, 3, 3), "b": normal(2)}
    flat = node("Flatten", "t")
    for name, attributes in {
        "conv": {},
        "conv_strides_pads": {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        "conv_dilations": {"dilations": [1, 2], "pads": [1, 1, 1, 1]},
        "conv_same_upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "conv_same_lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        "conv_valid": {"auto_pad": "VALID"},
    }.items():
        graph(name, [2, 6, 5], [node("Conv", "x w b", "t", **attributes), flat], conv)
    graph("conv_groups", [4, 4, 4], [node("Conv", "x w", "t", group=2), flat], {"w": normal(6, 2, 3, 3)})
    graph("conv_depthwise", [3, 4, 4], [node("Conv", "x w", "t", group=3), flat], {"w": normal(3, 1, 2, 2)})
    norm = {"s": normal(2), "o": normal(2), "m": normal(2), "v": normal(2) ** 2 + 0.1}
    block = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c s o m v", "n", epsilon=0.01),
        node("AveragePool", "n", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", "p", "r"),
        node("Flatten", "r", "f"),
        node("Gemm", "f g", "y"),
    ]
    graph("conv_block", [2, 6, 4], block, conv | norm | {"g": normal(12, 3)})
    graph("batch_norm_rows", [2], [node("BatchNormalization", "x s o m v")], norm)

    for name, attributes in {
        "pool": {"kernel_shape": [2, 3]},
        "pool_padded": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
        "pool_counts_padding": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        "pool_ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        "pool_ceil_counts": {
            "kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1
        },
        "pool_same": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "pool_dilated": {"kernel_shape": [2, 2], "dilations": [2, 1]},
    }.items():
        graph(name, [2, 6, 5], [node("AveragePool", "x", "t", **attributes), flat], opset=19)
    graph("pool_global", [2, 6, 5], [node("GlobalAveragePool", "x", "t"), flat])
    graph("reduce_mean", [2, 6, 5], [node("ReduceMean", "x", axes=[2, 3], keepdims=0)])
    graph("reduce_mean_18", [2, 6, 5], [node("ReduceMean", "x a", "t"), flat], {"a": ints(-2)}, opset=18)

    for operator, attributes in {"Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "Tanh": {}}.items():
        nodes = [node("Gemm", "x w b", "t"), node(operator, "t", "a", **attributes), node("Gemm", "a v", "y")]
        graph(operator.lower(), [4], nodes, {"w": normal(4, 5), "b": normal(5), "v": normal(5, 2)})
    graph("clip", [4], [node("Clip", "x lo hi")], {"lo": np.float32(-0.5), "hi": np.float32(0.25)})
    graph("clip_above", [4], [helper.make_node("Clip", ["x", "", "hi"], ["y"])], {"hi": np.float32(0.25)})
    graph("clip_attributes", [4], [node("Clip", "x", min=-0.5, max=0.25)], opset=10)
    graph("relu_last", [4], [node("Gemm", "x w", "t"), node("Relu", "t")], {"w": normal(4, 3)})

    nhwc = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Flatten", "c")]
    graph("transpose_conv", [4, 5, 2], nhwc, {"w": normal(2, 2, 3, 3)})
    folded = [
        node("Constant", "", "c", value=numpy_helper.from_array(normal(3, 4))),
        node("Transpose", "c", "t"),
        node("Reshape", "b s", "r"),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Mul", "t f", "w"),
        node("MatMul", "x w", "m"),
        node("Add", "m r", "y"),
    ]
    folded[0].ClearField("input")
    graph("folded_constants", [4], folded, {"b": normal(3, 1), "s": ints(1, -1), "i": ints(2)})
    view = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axis", "u"),
        node("Concat", "u rest", "to", axis=0),
        node("Reshape", "x to", "f"),
        node("Gemm", "f w", "y"),
    ]
    view_weights = {"zero": np.array(0, np.int64), "axis": ints(0), "rest": ints(-1), "w": normal(6, 2)}
    graph("reshape_view", [2, 3], view, view_weights)
    graph("reshape_single_row", [2, 3], [node("Reshape", "x s")], {"s": ints(1, 6)}, batch=1)
    image = [node("Reshape", "x s", "i"), node("Conv", "i w", "c"), node("Reshape", "c z")]
    graph("reshape_image", [16], image, {"s": ints(-1, 1, 4, 4), "w": normal(2, 1, 3, 3), "z": ints(0, -1)})
    axes = [
        node("Unsqueeze", "x a", "u"),
        node("Squeeze", "u a", "s"),
        node("Identity", "s", "i"),
        node("Dropout", "i", "y"),
    ]
    graph("relabels", [3], axes, {"a": ints(1)})
    graph("squeeze_attribute", [1, 3], [node("Squeeze", "x", axes=[1])], opset=11)
    parts = [
        node("Gemm", "x w", "g"),
        node("Slice", "g one three axis", "a"),
        node("Gather", "g last", "b", axis=1),
        node("Concat", "b a", "y", axis=1),
    ]
    part_weights = {"w": normal(4, 5), "one": ints(1), "three": ints(3), "axis": ints(-1), "last": ints(-1, 0)}
    graph("slice_gather_concat", [4], parts, part_weights)

    linear = node("Gemm", "x w", "g")
    weights = {"w": normal(4, 3)}
    graph("softmax", [4], [linear, node("Softmax", "g", axis=1)], weights)
    graph("softmax_11", [4], [linear, node("Softmax", "g")], weights, opset=11)
    graph("log_softmax", [4], [linear, node("LogSoftmax", "g", axis=-1)], weights)
    graph("argmax", [4], [linear, node("ArgMax", "g", "l", axis=1, keepdims=0)], weights, outputs=(), label="l")
    both = [linear, node("Softmax", "g"), node("ArgMax", "y", "l", axis=-1)]
    graph("softmax_argmax", [4], both, weights, label="l")
    one = {"w": normal(4, 1), "half": np.float32(0.6)}
    graph("sigmoid_last", [4], [linear, node("Sigmoid", "g")], {"w": one["w"]})
    above = [
        linear,
        node("Sigmoid", "g"),
        node("Binarizer", "y", "b", threshold=0.6, domain=ML),
        node("Cast", "b", "l", to=TensorProto.INT64),
    ]
    graph("binarizer", [4], above, {"w": one["w"]}, label="l")
    above = [linear, node("Sigmoid", "g"), node("Greater", "y half", "l")]
    graph("greater", [4], above, one, label="l")

    coefficients = [shortest(v) for v in normal(4)]
    classifier = {"domain": ML, "coefficients": coefficients, "intercepts": [0.1], "classlabels_ints": [3, 7]}
    one_row = [node("LinearClassifier", "x", "l y", post_transform="LOGISTIC", **classifier)]
    graph("linear_classifier_one_row", [4], one_row, label="l", x=normal(8, 4))
    several = {"domain": ML, "coefficients": coefficients * 3, "intercepts": [0.1, -0.3, 0.2]}
    several["coefficients"] = [shortest(v) for v in normal(12)]
    rest = [
        node("LinearClassifier", "x", "l p", post_transform="LOGISTIC", classlabels_ints=[1, 2, 3], **several),
        node("Normalizer", "p", "y", norm="L1", domain=ML),
    ]
    graph("one_versus_rest", [4], rest, label="l")
    regressor = [node("LinearRegressor", "x", targets=3, **several)]
    graph("linear_regressor", [4], regressor)
    picked = [
        node("ArrayFeatureExtractor", "x i", "p", domain=ML),
        node("Scaler", "p", "s", offset=[0.5, 1.0], scale=[2.0, -1.0], domain=ML),
        node("Gemm", "s w", "y"),
    ]
    graph("scaler_of_columns", [4], picked, {"i": ints(3, 1), "w": normal(2, 2)})


# scikit-learn, as skl2onnx exports it.


def export(name, model, sample=None, **options):
    sample = load_iris().data.astype(np.float32) if sample is None else sample
    options = {id(model): options} if options else None
    exported = to_onnx(model, sample[:1], options=options, name=name)
    outputs = [output.name for output in exported.graph.output]
    label = next((name for name in outputs if name in ("label", "output_label")), None)
    scores = [output for output in outputs if output not in (label, "class_labels")]
    save(name, exported, sample[:: len(sample) // ROWS], label, scores)


def sklearn():
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    targets = {"multi": y, "binary": (y > 0).astype(int), "text": np.array(["a", "b", "c"])[y]}

    def logistic():
        return LogisticRegression(max_iter=500)

    def mlp(**options):
        return MLPClassifier((5,), max_iter=60, random_state=1, **options)

    for make, kind in ((logistic, "logistic"), (mlp, "mlp")):
        for target, labels in targets.items():
            for zipmap in (None, True, False, "columns"):
                if zipmap is None:
                    export(f"{kind}_{target}", make().fit(x, labels))
                else:
                    export(f"{kind}_{target}_zipmap_{zipmap}".lower(), make().fit(x, labels), zipmap=zipmap)
        for scaler in (StandardScaler(), MinMaxScaler(), MinMaxScaler(clip=True)):
            clip = "_clip" if getattr(scaler, "clip", False) else ""
            pipeline = make_pipeline(scaler, make()).fit(x, y)
            export(f"{kind}_{type(scaler).__name__.lower()}{clip}", pipeline, zipmap=False)
        for kind_of_number in (np.float64, np.int64):
            sample = (x * 10).astype(kind_of_number)
            pipeline = make_pipeline(StandardScaler(), make()).fit(sample, targets["multi"])
            export(f"{kind}_{np.dtype(kind_of_number)}", pipeline, sample, zipmap=False)
    for activation in ("tanh", "logistic", "identity"):
        export(f"mlp_{activation}", mlp(activation=activation).fit(x, y), zipmap=False)
    export("logistic_raw_scores", logistic().fit(x, y), zipmap=False, raw_scores=True)
    export("logistic_binary_raw_scores", logistic().fit(x, targets["binary"]), zipmap=False, raw_scores=True)
    export("logistic_class_labels", logistic().fit(x, y), zipmap=False, output_class_labels=True)
    export("linear_regression", LinearRegression().fit(x, y))
    export("linear_regression_targets", LinearRegression().fit(x, np.stack([y, y * y], 1)))
    export("mlp_regression", MLPRegressor(hidden_layer_sizes=(5,), max_iter=60, random_state=1).fit(x, y))


# Several stages read together.


def joins():
    hidden = [node("Gemm", "x w b", "h"), node("Relu", "h", "r")]
    square = {"w": normal(4, 5), "b": normal(5), "v": normal(5, 5), "u": normal(5, 3)}
    second = [node("Gemm", "r v", "g")]
    last = node("Gemm", "s u", "y")
    graph("residual", [4], hidden + second + [node("Add", "r g", "s"), last], square)
    graph("residual_sub", [4], hidden + second + [node("Sub", "g r", "s"), last], square)
    graph("residual_relu", [4], hidden + second + [node("Add", "g r", "a"), node("Relu", "a", "s"), last], square)
    deep = second + [node("Tanh", "g", "t"), node("Add", "t r", "a"), node("Sigmoid", "a", "i"), node("Add", "i r", "s")]
    graph("residual_deep", [4], hidden + deep + [last], square)
    graph("residual_of_input", [4], hidden + [node("Gemm", "r u", "s"), node("Add", "s x", "y")],
          {"w": square["w"], "b": square["b"], "u": normal(5, 4)})
    graph("residual_of_linear", [4], hidden + second + [node("Relu", "g", "k"), node("Add", "k h", "s"), last], square)
    total = hidden + second + [node("Tanh", "g", "t"), node("Sum", "t c r g", "s"), last]
    graph("sum", [4], total, square | {"c": normal(1, 5)})
    graph("concat_stages", [4], hidden + [node("Tanh", "h", "t"), node("Concat", "t x r", "y", axis=1)],
          {key: square[key] for key in "wb"})
    apart = [
        node("Tanh", "x", "t"),
        node("Reshape", "t rows", "a"),
        node("Gemm", "x w", "h"),
        node("Relu", "h", "r"),
        node("Reshape", "r column", "c"),
        node("Add", "a c", "s"),
        node("Flatten", "s"),
    ]
    graph("add_broadcasts", [6], apart, {"rows": ints(-1, 2, 3), "column": ints(-1, 2, 1), "w": normal(6, 2)})
    flat = node("Flatten", "t")
    block = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "d", pads=[1, 1, 1, 1]),
        node("Add", "r d", "s"),
        node("Relu", "s", "t"),
        flat,
    ]
    kernels = {"w": normal(2, 1, 3, 3), "b": normal(2), "v": normal(2, 2, 3, 3)}
    graph("residual_conv", [1, 4, 5], block, kernels)
    both = [node("Gemm", "x w b", "h"), node("Sin", "h", "s"), node("Cos", "h", "c"),
            node("Concat", "s c", "t", axis=1), node("Gemm", "t u")]
    graph("sin_cos", [4], both, {"w": square["w"], "b": square["b"], "u": normal(10, 2)})

    three = hidden + second + [node("Tanh", "g", "t"), node("Max", "t r g c", "s"), last]
    graph("max", [4], three, square | {"c": normal(5)})
    graph("min", [4], three[:4] + [node("Min", "c t r", "s"), last], square | {"c": np.float32(0.3)})
    graph("max_of_input", [4], [node("Gemm", "x w", "g"), node("Max", "x g")], {"w": normal(4, 4)})
    for name, attributes in {
        "max_pool": {"kernel_shape": [2, 2], "strides": [2, 2]},
        "max_pool_overlaps": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        "max_pool_every": {"kernel_shape": [3, 2]},
        "max_pool_ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        "max_pool_same": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "max_pool_dilated": {"kernel_shape": [2, 2], "dilations": [2, 1]},
    }.items():
        pool = node("MaxPool", "x", "t", **attributes)
        graph(name, [2, 6, 5], [pool, flat], opset=19)
        pool = [node("MaxPool", "c", "p", **attributes), node("Relu", "p", "t")]
        graph(f"{name}_of_conv", [1, 6, 5], [node("Conv", "x w b", "c", pads=[1, 1, 1, 1])] + pool + [flat],
              {key: kernels[key] for key in "wb"}, opset=19)
        inside = [
            node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("MaxPool", "r", "p", **attributes),
            node("Conv", "p v", "d", pads=[1, 1, 1, 1]),
            node("Sigmoid", "d", "s"),
            node("GlobalMaxPool", "s", "t"),
            flat,
        ]
        graph(f"{name}_inside", [1, 6, 5], inside, kernels, opset=19)
    graph("max_pool_global", [2, 3, 5], [node("GlobalMaxPool", "x", "t"), flat])


# Functions of one value.


def functions():
    weights = {"w": normal(4, 5), "b": normal(5), "v": normal(5, 3)}

    def inside(name, nodes, extra=None, opset=20):
        """`nodes` from h to a, between two dense layers."""
        graph(name, [4], [node("Gemm", "x w b", "h"), *nodes, node("Gemm", "a v")], weights | (extra or {}), opset)

    for name, operator, attributes in [
        ("abs", "Abs", {}),
        ("ceil", "Ceil", {}),
        ("celu", "Celu", {"alpha": 0.7}),
        ("cos", "Cos", {}),
        ("elu", "Elu", {"alpha": 1.5}),
        ("erf", "Erf", {}),
        ("exp", "Exp", {}),
        ("floor", "Floor", {}),
        ("gelu", "Gelu", {}),
        ("gelu_tanh", "Gelu", {"approximate": "tanh"}),
        ("hard_sigmoid", "HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("hard_swish", "HardSwish", {}),
        ("mish", "Mish", {}),
        ("neg", "Neg", {}),
        ("round", "Round", {}),
        ("selu", "Selu", {}),
        ("selu_attributes", "Selu", {"alpha": 2.0, "gamma": 3.0}),
        ("sign", "Sign", {}),
        ("sin", "Sin", {}),
        ("softplus", "Softplus", {}),
        ("softsign", "Softsign", {}),
        ("thresholded_relu", "ThresholdedRelu", {"alpha": 0.5}),
    ]:
        inside(name, [node(operator, "h", "a", **attributes)])
    inside("sqrt", [node("Abs", "h", "p"), node("Sqrt", "p", "a")])
    inside("prelu", [node("PRelu", "h s", "a")], {"s": normal(5)})
    inside("prelu_shared", [node("PRelu", "h s", "a")], {"s": np.array([0.3], np.float32)})
    inside("pow_square", [node("Pow", "h e", "a")], {"e": np.float32(2)})
    inside("pow_cube", [node("Pow", "h e", "a")], {"e": np.float32(3)})
    silu = [node("Sigmoid", "h", "s"), node("Mul", "h s", "a")]
    inside("silu", silu)
    gelu = [
        node("Div", "h root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "f"),
        node("Mul", "h f", "g"),
        node("Mul", "g half", "a"),
    ]
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    inside("gelu_in_steps", gelu, constants)
    inside("square_by_mul", [node("Mul", "h h", "a")])
    inside("product", [node("Gemm", "x w", "k"), node("Tanh", "k", "t"), node("Mul", "h t", "a")])
    gate = [node("Sigmoid", "h", "s"), node("Gemm", "x u", "k"), node("Tanh", "k", "t"), node("Mul", "t s", "a")]
    inside("gate", gate, {"u": normal(4, 5)})
    chain = [
        node("Tanh", "h", "t"),
        node("Mul", "t c", "m"),
        node("Add", "m one", "p"),
        node("Relu", "p", "r"),
        node("Clip", "r low high", "a"),
    ]
    limits = {"c": normal(5) + 1, "one": np.float32(1), "low": np.float32(0.2), "high": np.float32(1.4)}
    inside("functions_of_functions", chain, limits)


# Several inputs, and indices among them.


def indices():
    def draw(most, width=1):
        return random.integers(0, most, (ROWS, width))

    def embedding(index, table, output):
        return [node("Gather", f"{table} {index}", f"{output}g"), node("Flatten", f"{output}g", output)]

    two = {"u": draw(5), "i": draw(7)}
    tables = {"a": normal(5, 3), "b": normal(7, 2), "w": normal(5, 4), "v": normal(4, 1)}
    pair = [
        *embedding("u", "a", "p"),
        *embedding("i", "b", "q"),
        node("Concat", "p q", "c", axis=1),
        node("Gemm", "c w", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r v"),
    ]
    graph("embeddings", [1], pair, tables, x=two)
    several = {"bag": draw(6, 4), "x": normal(ROWS, 2)}
    words = [
        *embedding("bag", "a", "p"),
        node("Concat", "x p", "c", axis=1),
        node("Gemm", "c w", "h"),
        node("Tanh", "h", "t"),
        node("Add", "t h", "y"),
    ]
    graph("embedding_and_features", [1], words, {"a": normal(6, 3), "w": normal(14, 3)}, x=several)
    same = [*embedding("u", "a", "p"), *embedding("u", "b", "q"), node("Add", "p q", "s"), node("Relu", "s")]
    graph("embeddings_of_one_index", [1], same, {"a": normal(5, 3), "b": normal(5, 3)}, x={"u": draw(5)})
    picked = [
        node("Gather", "x zero", "f", axis=1),
        node("Cast", "f", "k", to=TensorProto.INT64),
        node("Gather", "a k", "p"),
        node("Gemm", "p w"),
    ]
    graph("embedding_of_a_column", [2], picked, {"zero": np.array(1), "a": normal(5, 3), "w": normal(3, 2)},
          x={"x": draw(5, 2)})
    hot = [node("OneHot", "k depth values", "o"), node("Flatten", "o", "f"), node("Gemm", "f w")]
    sizes = {"depth": np.array(4), "values": np.array([0.5, 2], np.float32), "w": normal(8, 2)}
    graph("one_hot", [2], hot, sizes, x={"k": draw(4, 2)})
    sums = [node("Gemm", "a w", "g"), node("Add", "g b", "s"), node("Relu", "s", "y")]
    graph("inputs", [1], sums, {"w": normal(3, 2)}, x={"a": normal(ROWS, 3), "b": normal(ROWS, 2)})


# Trees, as skl2onnx exports them, and as only other exporters do.


def trees():
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    binary = (y > 0).astype(int)
    text = np.array(["a", "b", "c"])[y]

    def tree(kind, **options):
        return kind(max_depth=3, random_state=1, **options)

    for target, labels in {"multi": y, "binary": binary, "text": text}.items():
        export(f"tree_{target}", tree(DecisionTreeClassifier).fit(x, labels), zipmap=False)
        export(f"forest_{target}", tree(RandomForestClassifier, n_estimators=3).fit(x, labels), zipmap=False)
        export(f"boost_{target}", tree(GradientBoostingClassifier, n_estimators=3).fit(x, labels), zipmap=False)
    export("tree_regression", tree(DecisionTreeRegressor).fit(x, x[:, 3] * 2))
    export("tree_regression_targets", tree(DecisionTreeRegressor).fit(x, np.stack([y, x[:, 0]], 1)))
    export("forest_regression", tree(RandomForestRegressor, n_estimators=3).fit(x, x[:, 3] * 2))
    export("tree_scaled", make_pipeline(StandardScaler(), tree(DecisionTreeClassifier)).fit(x, y), zipmap=False)

    # Two trees on two features, at whole numbers, where < and <= differ.
    nodes = {
        "domain": ML,
        "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 1, 0, 0, 0, 1, 0, 0],
        "nodes_values": [1.0, 2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
    }
    weights = [0.5, -1.5, 2.0, 1.0, -0.25]
    rows = np.array([[0, 2], [1, 2], [1, 1], [2, 0], [0, 1], [2, 3]], np.float32)
    leaf = {"treeids": [0, 0, 0, 1, 1], "nodeids": [2, 3, 4, 1, 2]}
    target = {f"target_{key}": value for key, value in leaf.items()}
    target |= {"target_ids": [0] * 5, "target_weights": weights, "n_targets": 1}
    for mode in ("LEQ", "LT", "GT", "GTE"):
        modes = [f"BRANCH_{mode}"] * 2 + ["LEAF"] * 3 + [f"BRANCH_{mode}"] + ["LEAF"] * 2
        regressor = node("TreeEnsembleRegressor", "x", nodes_modes=modes, **nodes, **target)
        graph(f"tree_by_{mode.lower()}", [2], [regressor], x=rows)
    modes = ["BRANCH_LEQ"] * 2 + ["LEAF"] * 3 + ["BRANCH_LEQ"] + ["LEAF"] * 2
    average = {"aggregate_function": "AVERAGE", "base_values": [0.75]}
    graph("tree_average", [2], [node("TreeEnsembleRegressor", "x", nodes_modes=modes, **nodes, **target, **average)],
          x=rows)
    classes = {f"class_{key}": value for key, value in leaf.items()}
    classes |= {"class_ids": [0, 1, 2, 0, 1], "class_weights": weights, "classlabels_int64s": [4, 5, 6]}
    classifier = node("TreeEnsembleClassifier", "x", "l y", nodes_modes=modes, base_values=[0.1, 0.2, 0.3],
                      post_transform="SOFTMAX", **nodes, **classes)
    graph("tree_classifier_base", [2], [classifier], label="l", x=rows)
    two = {f"class_{key}": value for key, value in leaf.items()}
    two |= {"class_ids": [0] * 5, "class_weights": weights, "classlabels_int64s": [0, 1]}
    logistic = node("TreeEnsembleClassifier", "x", "l y", nodes_modes=modes, base_values=[-0.5],
                    post_transform="LOGISTIC", **nodes, **two)
    graph("tree_classifier_logistic", [2], [logistic], label="l", x=rows)


PARTS = {
    "operators": operators,
    "sklearn": sklearn,
    "joins": joins,
    "functions": functions,
    "indices": indices,
    "trees": trees,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parts = sys.argv[1:] or PARTS
    if not sys.argv[1:]:
        for old in (*HERE.glob("*.onnx"), *HERE.glob("*.json")):
            old.unlink()
    for part in parts:
        random = np.random.default_rng(1 + max(0, list(PARTS).index(part) - 1))
        PARTS[part]()
