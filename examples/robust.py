"""Trains networks that keep their accuracy under encryption, and estimates the loss.

An encrypted network has integer weights of few bits, and every pre-activation carries Gaussian noise
whose size is a fraction of the layer's *range*, not of the value. Training includes both, so that the
network uses its range well and does not depend on a single large weight.
"""

import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn


def seed_everything(seed, threads):
    """Makes a run repeatable (on one machine and one version of the libraries)."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def quantise(weight, bits):
    """Rounds to `bits` bits, sign included, with one scale for the whole tensor."""
    scale = weight.detach().abs().max() / (2 ** (bits - 1) - 1)
    return torch.round(weight / scale) * scale


class Robust(nn.Module):
    """A Linear or Conv2d that can train, or be evaluated, with coarse weights and noise.

    `bits` is None for full-precision weights; `noise` is a standard deviation as a fraction of
    the layer's range, max - min. The range is `span` once it is calibrated, else the batch's own.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer, self.bits, self.noise, self.span = layer, None, 0.0, None

    def forward(self, x):
        if self.bits is None and self.noise == 0.0:
            return self.layer(x)
        weight = self.layer.weight
        if self.bits is not None:
            # The straight-through estimator, because rounding has no useful gradient.
            weight = weight + (quantise(weight, self.bits) - weight).detach()
        if isinstance(self.layer, nn.Conv2d):
            out = nn.functional.conv2d(
                x, weight, self.layer.bias, self.layer.stride, self.layer.padding
            )
        else:
            out = nn.functional.linear(x, weight, self.layer.bias)
        span = self.span if self.span is not None else out.max() - out.min()
        return out + torch.randn_like(out) * (self.noise * span)


def set_conditions(model, bits=None, noise=0.0):
    """Sets the weights' bits and the noise of every layer of `model`."""
    for module in model.modules():
        if isinstance(module, Robust):
            module.bits, module.noise = bits, noise


def calibrate(model, inputs):
    """Fixes each layer's range to the range observed on `inputs`."""
    def record(module, _, out):
        module.span = (out.max() - out.min()).item()

    set_conditions(model)
    hooks = [m.register_forward_hook(record) for m in model.modules() if isinstance(m, Robust)]
    with torch.no_grad():
        model.eval()(inputs)
    for hook in hooks:
        hook.remove()


def forget_calibration(model):
    """Resets every layer to the range of the current batch, for training."""
    for module in model.modules():
        if isinstance(module, Robust):
            module.span = None


def accuracy(model, inputs, labels, repeats=1):
    """Per cent of `inputs` whose highest score is that of the label, averaged over `repeats` runs."""
    with torch.no_grad():
        model.eval()
        hits = [(model(inputs).argmax(1) == labels).float().mean().item() for _ in range(repeats)]
    return 100.0 * sum(hits) / repeats


def report(name, model, calibration, inputs, labels):
    """Prints the accuracy in floating point, and under coarse weights and noise."""
    calibrate(model, calibration)
    print(f"{name}: floating point {accuracy(model, inputs, labels):.2f} %")
    for bits in (6, 5):
        for noise in (0.0, 0.01, 0.02):
            set_conditions(model, bits, noise)
            got = accuracy(model, inputs, labels, repeats=1 if noise == 0.0 else 5)
            print(f"{name}: weights {bits} bits, noise {100 * noise:.0f} % of range: {got:.2f} %")
    set_conditions(model)
    forget_calibration(model)


def export(model, features, path):
    """Writes `model` as one ONNX file with input [batch, features] and output [batch, classes]."""
    set_conditions(model)
    names = {"input_names": ["input"], "output_names": ["scores"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (torch.zeros(1, features),), str(path), opset_version=17, dynamo=False,
            dynamic_axes={"input": {0: "batch"}, "scores": {0: "batch"}}, **names,
        )


def scores(path, inputs):
    """onnxruntime's scores, [batch, classes]: a network's logits, a classifier's probabilities."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result = session.run(None, {session.get_inputs()[0].name: inputs.astype(np.float32)})[-1]
    if isinstance(result, list):
        # skl2onnx's ZipMap returns one {class: probability} per row.
        result = np.array([[row[c] for c in sorted(row)] for row in result], dtype=np.float32)
    return result


def describe(path, inputs, labels):
    """Prints the content and the accuracy of the ONNX file, as run by onnxruntime."""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    operators = " ".join(node.op_type for node in model.graph.node)
    hits = 100.0 * np.mean(scores(path, inputs).argmax(1) == labels)
    print(f"{path.name}: {path.stat().st_size} bytes, {operators}; onnxruntime {hits:.2f} %")
