"""Concrete ML, in its deployment roles: FHEModelDev, FHEModelClient, FHEModelServer.

The model is that of the ONNX file: its weights or trees are quantised after training, with the fewest
bits that keep the accuracy on calibration data. One kind is trained further, with quantisation.
"""

import time
from pathlib import Path

import numpy as np
import onnx
import reference
from onnx import helper, numpy_helper

# Accuracy that the search for bits may lose on calibration data, and the range of the search.
POINTS, ROUNDING, BITS = 0.01, range(4, 7), range(3, 7)
OPSET = 14
NETWORK_ROWS, SIMULATED = 500, 200


def compile(job):
    start = time.perf_counter()
    calibration, labels = np.load(job["calibration"]), np.load(job["calibration_labels"])
    inputs, test, truth = (np.load(job[name]) for name in ("inputs", "test", "test_labels"))
    kind = KINDS[job["options"]["kind"]]
    model, prepare, circuit, settings = kind(job, calibration, labels)

    from concrete.ml.deployment import FHEModelDev

    FHEModelDev(str(Path(job["folder"]) / "deployed"), model).save()
    compiled = time.perf_counter()
    np.save(Path(job["folder"]) / "prepared.npy", prepare(inputs))
    # In a network, errors of bootstraps are simulated. That runs one row at a time, so only on few rows.
    simulated = job["options"]["kind"] in ("network", "retrained")
    if simulated:
        test, truth = test[:SIMULATED], truth[:SIMULATED]
        answers = model.forward(prepare(test), fhe="simulate").argmax(1)
    else:
        answers = predict(model, prepare(test))
    return {
        "settings": settings,
        "bootstraps": getattr(circuit, "programmable_bootstrap_count", None),
        "plain": predict(model, prepare(inputs)).tolist(),
        "accuracy": float((answers == truth).mean()),
        "float_accuracy": reference.accuracy(job, len(test)),
        "rows": f"{len(test)} held-out rows, " + ("errors simulated" if simulated else "quantised"),
        "seconds": compiled - start,
    }


def predict(model, rows):
    """Labels of the quantised model, in the clear."""
    if hasattr(model, "predict"):
        return model.predict(rows)
    return np.concatenate([model.forward(part, fhe="disable").argmax(1) for part in batches(rows)])


def batches(rows, size=250):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def logistic(job, calibration, labels):
    """The coefficients of the file in scikit-learn's class. The scaler runs on the client, in the clear,
        as in Concrete ML's pipelines."""
    import sklearn.linear_model
    from concrete.ml.sklearn import LogisticRegression

    graph = onnx.load(job["onnx"]).graph
    scaler, classifier = attributes(graph, "Scaler"), attributes(graph, "LinearClassifier")
    classes = np.array(classifier["classlabels_ints"])
    plain = sklearn.linear_model.LogisticRegression()
    plain.classes_ = classes
    plain.coef_ = np.array(classifier["coefficients"], np.float64).reshape(len(classes), -1)
    plain.intercept_ = np.array(classifier["intercepts"], np.float64)
    plain.n_features_in_ = plain.coef_.shape[1]

    def prepare(rows):
        return (rows - np.array(scaler["offset"])) * np.array(scaler["scale"])

    bits = job["options"]["n_bits"]
    model = LogisticRegression.from_sklearn_model(plain, prepare(calibration), n_bits=bits)
    circuit = model.compile(prepare(calibration), **errors(job))
    return model, prepare, circuit, f"LogisticRegression, n_bits={bits}"


def boosted(job, calibration, labels):
    """The trees of the file, imported as a booster. Checks that it predicts the same as the file."""
    import xgboost
    from concrete.ml.sklearn import XGBClassifier
    from trees import booster

    graph = onnx.load(job["onnx"]).graph
    path = Path(job["folder"]) / "booster.json"
    path.write_text(booster(attributes(graph, "TreeEnsembleClassifier"), calibration.shape[1]))
    plain = xgboost.XGBClassifier(n_jobs=len(job["cores"]))
    plain.load_model(path)
    expected = reference.labels(job["onnx"], calibration)
    if (plain.predict(calibration) != expected).any():
        raise RuntimeError("the imported trees do not predict the same as the ONNX file")
    bits = job["options"]["n_bits"]
    # Concrete ML reads the depth and number of trees from the parameters.
    model = XGBClassifier.from_sklearn_model(plain, calibration, n_bits=bits)
    circuit = model.compile(calibration, **errors(job))
    return model, lambda rows: rows, circuit, f"XGBClassifier, n_bits={bits}, imported"


def network(job, calibration, labels):
    """The network of the file, quantised after training."""
    from concrete.ml.torch.compile import build_quantized_module, compile_onnx_model

    model, prepare = simplified(onnx.load(job["onnx"]))
    few = prepare(calibration[:NETWORK_ROWS])

    def settings(bits, rounding):
        width = {"model_inputs": bits, "op_inputs": bits, "op_weights": bits, "model_outputs": 8}
        return {"n_bits": width, "rounding_threshold_bits": rounded(job, rounding)}

    def accuracy(bits, rounding):
        module = build_quantized_module(model, few, **settings(bits, rounding))
        return (predict(module, prepare(calibration)) == labels).mean()

    bits, rounding = fewest(job, calibration, labels, accuracy)
    module = compile_onnx_model(model, few, **settings(bits, rounding), **errors(job))
    return module, prepare, module.fhe_circuit, f"quantised after training, {told(job, module, bits, rounding)}"


def retrained(job, calibration, labels):
    """The network of the file, trained further with quantisation. Dense networks only."""
    import concrete_qat
    from concrete.ml.torch.compile import compile_brevitas_qat_model

    model, prepare = simplified(onnx.load(job["onnx"]))
    few = prepare(calibration[:NETWORK_ROWS])
    trained = {}

    def compiled(bits, rounding, **more):
        if bits not in trained:
            trained[bits] = concrete_qat.retrained(
                model, bits, prepare(np.load(job["train"])), np.load(job["train_labels"])
            )
        return compile_brevitas_qat_model(
            trained[bits], few, rounding_threshold_bits=rounded(job, rounding), **more
        )

    def accuracy(bits, rounding):
        # p_error does not matter here, and larger ones compile faster.
        module = compiled(bits, rounding, p_error=0.01)
        return (predict(module, prepare(calibration)) == labels).mean()

    bits, rounding = fewest(job, calibration, labels, accuracy)
    module = compiled(bits, rounding, **errors(job))
    what = f"trained further with quantisation, {told(job, module, bits, rounding)}"
    return module, prepare, module.fhe_circuit, what


def fewest(job, calibration, labels, accuracy):
    """Bits of quantisation and of rounding: the cheapest that lose little accuracy, else the most accurate.
        The bits of rounding, which are the inputs of bootstraps, matter more than those of quantisation."""
    goal = (reference.labels(job["onnx"], calibration) == labels).mean() - POINTS
    best = None
    for rounding in among(job["options"].get("rounding"), ROUNDING):
        for bits in among(job["options"].get("n_bits"), BITS):
            found = accuracy(bits, rounding)
            if found >= goal:
                return bits, rounding
            best = max(best or (found, bits, rounding), (found, bits, rounding))
    return best[1:]


def among(given, several):
    return several if given is None else [given]


def method(job):
    """Method of rounding: exact removes one bit at a time, each with a bootstrap. With approximate, noise decides
    values near the middle of two results."""
    return "EXACT" if job["options"].get("exact") else "APPROXIMATE"


def rounded(job, bits):
    return {"n_bits": bits, "method": method(job)}


def told(job, module, bits, rounding):
    width = module.fhe_circuit.graph.maximum_integer_bit_width()
    return f"n_bits={bits}, accumulators rounded from up to {width} bits to {rounding}, {method(job).lower()}"


KINDS = {"logistic": logistic, "boosted": boosted, "network": network, "retrained": retrained}


def errors(job):
    """The error probability of one bootstrap, if not the default."""
    p_error = job["options"].get("p_error")
    return {} if p_error is None else {"p_error": p_error}


def attributes(graph, operator):
    [node] = [node for node in graph.node if node.op_type == operator]
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def simplified(model):
    """The network in the ONNX operators that Concrete ML supports, and the preparation of its rows. The
        client scales and shapes the inputs, because on the server that would cost bootstraps."""
    graph = model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
    nodes = [node for node in graph.node if node.op_type not in ("Constant", "Identity")]
    name = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    for node in nodes:
        for index, source in enumerate(node.input):
            while source in name:
                source = name[source]
            node.input[index] = source

    start = graph.input[0].name
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim][1:]
    scale, head = 1.0, start
    while nodes[0].op_type in ("Mul", "Div", "Reshape"):
        node = nodes.pop(0)
        [constant] = [values[source] for source in node.input if source != head]
        if node.op_type == "Reshape":
            shape = [int(d) for d in constant[1:]]
        elif constant.size == 1:
            factor = float(constant.reshape(-1)[0])
            scale *= factor if node.op_type == "Mul" else 1 / factor
        else:
            raise ValueError("inputs scaled one by one are not supported")
        head = node.output[0]
    first = nodes[0]
    first.input[0] = start
    if first.op_type not in ("Gemm", "MatMul", "Conv"):
        raise ValueError(f"the first operator is {first.op_type}")

    used = {source for node in nodes for source in node.input}
    built = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, ["batch", *shape])],
        [graph.output[0]],
        [numpy_helper.from_array(array, key) for key, array in values.items() if key in used],
    )
    result = helper.make_model(built, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(result)
    return result, lambda rows: (rows * scale).reshape(-1, *shape).astype(np.float64)


class Client:
    def __init__(self, job):
        from concrete.ml.deployment import FHEModelClient

        self.client = FHEModelClient(str(Path(job["folder"]) / "deployed"), None)
        self.rows = np.load(Path(job["folder"]) / "prepared.npy")

    def keygen(self):
        self.client.generate_private_and_evaluation_keys(force=True)
        return self.client.get_serialized_evaluation_keys()

    def encrypt(self, index):
        return self.client.quantize_encrypt_serialize(self.rows[index : index + 1]), {}

    def decrypt(self, answer):
        return None, {"label": int(self.client.deserialize_decrypt_dequantize(answer).argmax())}


class Server:
    def __init__(self, job):
        from concrete.ml.deployment import FHEModelServer

        self.server = FHEModelServer(str(Path(job["folder"]) / "deployed"))

    def load(self, key):
        from concrete import fhe

        self.keys = fhe.EvaluationKeys.deserialize(key)

    def run(self, data):
        return self.server.run(data, self.keys), {}
