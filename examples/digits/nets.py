"""Trains two larger networks on scikit-learn's 8x8 digits, an MLP and a deeper CNN, like train.py.

    python nets.py [--out FOLDER] [--epochs 200] [--seed 1] [--only mlp64]

It uses the data files of train.py: run that first, with the same --seed and --out.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from train import CALIBRATION, EXPECTED, HERE, TEST, load_digits, robust, train, train_test_split


class Mlp64(nn.Module):
    """64-64-10 with ReLU: 64 encrypted lookups."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 16))
        self.hidden = robust.Robust(nn.Linear(64, 64))
        self.out = robust.Robust(nn.Linear(64, 10))

    def forward(self, pixels):
        return self.out(torch.relu(self.hidden(pixels * self.scale)))


class Cnn(nn.Module):
    """Three convolutions (8 of 3x3, 16 of 3x3 with stride 2, 32 of 2x2) and a dense layer: 384 lookups."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 16))
        self.conv1 = robust.Robust(nn.Conv2d(1, 8, 3))
        self.conv2 = robust.Robust(nn.Conv2d(8, 16, 3, stride=2))
        self.conv3 = robust.Robust(nn.Conv2d(16, 32, 2))
        self.out = robust.Robust(nn.Linear(32, 10))

    def forward(self, pixels):
        x = (pixels * self.scale).reshape(-1, 1, 8, 8)
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.out(torch.relu(self.conv3(x)).flatten(1))


MODELS = {"mlp64": Mlp64, "cnn-concrete": Cnn}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=MODELS, help="train one model alone")
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images.astype(np.float32), labels.astype(np.int64),
        test_size=TEST, stratify=labels, random_state=args.seed,
    )
    tensors = [torch.from_numpy(a) for a in (train_images, train_labels, test_images, test_labels)]
    for name in [args.only] if args.only else MODELS:
        robust.seed_everything(args.seed, threads=1)
        model = train(MODELS[name](), tensors[0], tensors[1], args.epochs)
        robust.report(name, model, tensors[0][:CALIBRATION], tensors[2], tensors[3])
        path = args.out / f"{name}.onnx"
        robust.export(model, 64, path)
        robust.describe(path, test_images, test_labels)
        np.save(args.out / f"expected-{name}.npy", robust.scores(path, test_images[:EXPECTED]))


if __name__ == "__main__":
    main()
