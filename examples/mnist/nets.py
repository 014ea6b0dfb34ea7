"""Trains further networks on MNIST, from an MLP with 64 lookups to LeNet-5, like train.py.

    python nets.py --data FOLDER [--out FOLDER] [--epochs 20] [--seed 1] [--only cnn]

Without --epochs, each network has its own default. Input and output are as in train.py.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from train import HERE, load, robust, train


class Net(nn.Module):
    """Scales raw pixels to 0..1; `body` is the rest."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 255))

    def forward(self, pixels):
        return self.body(pixels * self.scale)


def conv(*args, **kwargs):
    return robust.Robust(nn.Conv2d(*args, **kwargs))


def dense(*args):
    return robust.Robust(nn.Linear(*args))


class Mlp64(Net):
    """784-64-10 with ReLU: 64 encrypted lookups."""

    epochs = 40

    def __init__(self):
        super().__init__()
        self.hidden, self.out = dense(784, 64), dense(64, 10)

    def body(self, x):
        return self.out(torch.relu(self.hidden(x)))


class Cnn(Net):
    """A 7x7 convolution of 4 channels with stride 3, a hidden layer of 64: 256 + 64 lookups."""

    epochs = 25

    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.out = conv(1, 4, 7, stride=3), dense(256, 64), dense(64, 10)

    def body(self, x):
        x = torch.relu(self.conv(x.reshape(-1, 1, 28, 28)))
        return self.out(torch.relu(self.hidden(x.flatten(1))))


class LeNet(Net):
    """LeNet-5 with ReLU and average pooling: 4704 + 1600 + 120 + 84 lookups."""

    epochs = 8

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(1, 6, 5, padding=2), conv(6, 16, 5)
        self.hidden1, self.hidden2, self.out = dense(400, 120), dense(120, 84), dense(84, 10)

    def body(self, x):
        x = avg_pool2d(torch.relu(self.conv1(x.reshape(-1, 1, 28, 28))), 2)
        x = avg_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        return self.out(torch.relu(self.hidden2(torch.relu(self.hidden1(x)))))


class MaxPool(Net):
    """A small LeNet with 2x2 max pooling: 784 + 588 + 32 ReLU, and 3 maxima each for 196 + 108 pools."""

    epochs = 12

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(1, 4, 5, stride=2, padding=2), conv(4, 12, 3, padding=1)
        self.hidden, self.out = dense(108, 32), dense(32, 10)

    def body(self, x):
        x = max_pool2d(torch.relu(self.conv1(x.reshape(-1, 1, 28, 28))), 2)
        x = max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        return self.out(torch.relu(self.hidden(x)))


class Residual(Net):
    """A 7x7 convolution with stride 4 and one residual block, 8 channels: 3 x 392 lookups."""

    epochs = 15

    def __init__(self):
        super().__init__()
        self.stem = conv(1, 8, 7, stride=4, padding=2)
        self.conv1, self.conv2 = conv(8, 8, 3, padding=1), conv(8, 8, 3, padding=1)
        self.out = dense(392, 10)

    def body(self, x):
        x = torch.relu(self.stem(x.reshape(-1, 1, 28, 28)))
        x = torch.relu(x + self.conv2(torch.relu(self.conv1(x))))
        return self.out(x.flatten(1))


MODELS = {"mlp64": Mlp64, "cnn": Cnn, "lenet-maxpool": MaxPool, "residual": Residual, "lenet": LeNet}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four .gz files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=MODELS, help="train one model alone")
    args = parser.parse_args()

    train_images, train_labels, test_images, test_labels = load(args.data)
    for name in [args.only] if args.only else MODELS:
        robust.seed_everything(args.seed, threads=1)
        model = MODELS[name]()
        train(model, train_images, train_labels, args.epochs or model.epochs)
        robust.report(name, model, train_images[:2000], test_images, test_labels)
        path = args.out / f"{name}.onnx"
        robust.export(model, 784, path)
        robust.describe(path, test_images.numpy(), test_labels.numpy())
        np.save(args.out / f"expected-{name}.npy", robust.scores(path, test_images[:100].numpy()))


if __name__ == "__main__":
    main()
