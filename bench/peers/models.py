"""The comparisons: models, their data, and the peers with their settings.

A peer is a module of this folder with compile(job), Client and Server, which worker.py calls. Each
module defines its own options.
"""

from dataclasses import dataclass, field


@dataclass
class Contestant:
    name: str
    module: str
    options: dict = field(default_factory=dict)


@dataclass
class Comparison:
    name: str
    what: str
    onnx: str
    data: str
    peers: list
    hermesh: list = field(default_factory=lambda: [Contestant("hermesh", "hermesh_cli")])
    # Published figures of systems that are not run here: (who, what, source).
    published: list = field(default_factory=list)


def concrete(kind, name="Concrete ML", **options):
    return Contestant(name, "concrete_ml", {"kind": kind, **options})


def network(p_error=None, **options):
    """A network. Bits of rounding and of quantisation that are not given are found by search."""
    name = "Concrete ML"
    if p_error is not None:
        name += f", p_error {p_error}"
    if "rounding" in options:
        name += f", {options['rounding']} bits" + (" exactly" if options.get("exact") else "")
    return concrete("network", name, p_error=p_error, **options)


COMPARISONS = [
    Comparison(
        "digits-logreg",
        "digits, logistic regression",
        "digits/logreg.onnx",
        "digits",
        [concrete("logistic", n_bits=8)],
    ),
    Comparison(
        "digits-xgboost",
        "digits, XGBoost, 100 trees of depth 3",
        "digits/xgboost.onnx",
        "digits",
        [concrete("boosted", n_bits=6)],
        [Contestant("hermesh", "hermesh_cli", {"precision": "exact"})],
    ),
    Comparison(
        "digits-mlp64",
        "digits, 64-64-10, ReLU",
        "digits/mlp64.onnx",
        "digits",
        [
            network(),
            network(0.01),
            network(rounding=6),
            network(0.01, rounding=6, exact=True),
            concrete("retrained", "Concrete ML, QAT"),
        ],
    ),
    Comparison(
        "digits-cnn",
        "digits, the CNN of Concrete ML's example",
        "digits/cnn-concrete.onnx",
        "digits",
        # The last as in the example, with Concrete ML's default rounding.
        [network(), network(0.01), network(0.1, n_bits=6, rounding=6, exact=True)],
    ),
    Comparison(
        "mnist-mlp64",
        "MNIST, 784-64-10, ReLU",
        "mnist/mlp64.onnx",
        "mnist",
        [network(), network(0.01), network(rounding=6), concrete("retrained", "Concrete ML, QAT")],
    ),
    Comparison(
        "mnist-cnn",
        "MNIST, convolution 7x7 of 4 channels with stride 3, 64, 10",
        "mnist/cnn.onnx",
        "mnist",
        [network(n_bits=6, rounding=6), network(0.01, n_bits=6, rounding=6)],
    ),
    Comparison(
        "mnist-mlp",
        "MNIST, 784-128-64-10, ReLU",
        "mnist/mlp.onnx",
        "mnist",
        [],
    ),
    Comparison(
        "mnist-waves",
        "MNIST, each with a network that suits it",
        "mnist/waves.onnx",
        "mnist",
        [
            Contestant("TenSEAL, CNN", "tenseal_square", {"network": "cnn"}),
            Contestant("TenSEAL, MLP", "tenseal_square", {"network": "mlp"}),
        ],
    ),
]
