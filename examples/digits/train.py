"""Trains three small classifiers on scikit-learn's 8x8 digits and exports them to ONNX.

    python train.py [--out FOLDER] [--epochs 200] [--seed 1]

Every model takes raw grey levels, 0..16, as float32 of shape [batch, 64]. Next to the models the
script writes the held-out test data, calibration data, and the scores that onnxruntime computes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import skl2onnx
import torch
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import robust  # noqa: E402

BATCH = 64
BITS, NOISE = 5, 0.02
TEST, CALIBRATION, EXPECTED = 360, 400, 100


class Mlp(nn.Module):
    """64-32-16-10 with ReLU: 48 encrypted lookups."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 16))
        self.hidden1 = robust.Robust(nn.Linear(64, 32))
        self.hidden2 = robust.Robust(nn.Linear(32, 16))
        self.out = robust.Robust(nn.Linear(16, 10))

    def forward(self, pixels):
        x = torch.relu(self.hidden1(pixels * self.scale))
        return self.out(torch.relu(self.hidden2(x)))


class Cnn(nn.Module):
    """A 3x3 convolution of 6 channels with stride 2, ReLU, and a dense layer: 96 lookups."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 16))
        self.conv = robust.Robust(nn.Conv2d(1, 6, 3, stride=2, padding=1))
        self.out = robust.Robust(nn.Linear(6 * 4 * 4, 10))

    def forward(self, pixels):
        x = (pixels * self.scale).reshape(-1, 1, 8, 8)
        return self.out(torch.relu(self.conv(x)).flatten(1))


def augment(images):
    """Rotates (±10°), scales (±10 %) and shifts (±0.7 pixels) each image at random."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * 0.175
    zoom = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2) * 2 - 1) * (0.7 / 4)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), (n, 1, 8, 8), align_corners=False)
    moved = nn.functional.grid_sample(images.reshape(n, 1, 8, 8), grid, align_corners=False)
    return moved.reshape(n, 64)


def train(model, images, labels, epochs):
    """AdamW with a one-cycle rate; coarse weights are used in the second half, once weights settle."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    for epoch in range(epochs):
        robust.set_conditions(model.train(), BITS if 2 * epoch >= epochs else None, NOISE)
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = loss_of(model(augment(images[rows])), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model


def export_logistic_regression(images, labels, path):
    """An ordinary scikit-learn pipeline, exported by skl2onnx."""
    # Strong regularisation: small weights, so that coarse ones and noise cost little.
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=1000))
    pipeline.fit(images, labels)
    inputs = [("input", FloatTensorType([None, 64]))]
    model = skl2onnx.convert_sklearn(pipeline, path.stem, inputs, target_opset=17)
    path.write_bytes(model.SerializeToString())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    # One thread: with batches this small, threads would mostly wait for each other.
    robust.seed_everything(args.seed, threads=1)
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=TEST, stratify=labels, random_state=args.seed
    )
    np.save(args.out / "test-images.npy", test_images)
    np.save(args.out / "test-labels.npy", test_labels)
    np.save(args.out / "calibration-images.npy", train_images[:CALIBRATION])
    np.save(args.out / "calibration-labels.npy", train_labels[:CALIBRATION])

    export_logistic_regression(train_images, train_labels, args.out / "logreg.onnx")
    tensors = [torch.from_numpy(a) for a in (train_images, train_labels, test_images, test_labels)]
    for name, model in (("mlp", Mlp()), ("cnn", Cnn())):
        train(model, tensors[0], tensors[1], args.epochs)
        robust.report(name, model, tensors[0][:CALIBRATION], tensors[2], tensors[3])
        robust.export(model, 64, args.out / f"{name}.onnx")
    for name in ("logreg", "mlp", "cnn"):
        path = args.out / f"{name}.onnx"
        robust.describe(path, test_images, test_labels)
        np.save(args.out / f"expected-{name}.npy", robust.scores(path, test_images[:EXPECTED]))


if __name__ == "__main__":
    main()
