"""Trains an MLP 784-128-64-10 on MNIST and exports it to ONNX.

    python train.py --data FOLDER [--out mlp.onnx] [--epochs 60] [--seed 1]

FOLDER holds the four IDX files of MNIST, gzip-compressed. The exported model takes raw grey
levels, 0..255, as float32 of shape [batch, 784].
"""

import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import robust  # noqa: E402

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
BATCH = 128
BITS, NOISE = 5, 0.02


def read_idx(path):
    """The array in a gzip-compressed IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        sys.exit(f"{path}: expected an IDX file of unsigned bytes (it starts with 00 00 08)")
    ndim = data[3]
    shape = np.frombuffer(data, ">u4", ndim, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def load(folder):
    """The images as float32 [n, 784] of 0..255, and the labels, in the order of FILES."""
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder}: missing {', '.join(missing)}; --data takes the folder with MNIST's four .gz files")
    arrays = [torch.from_numpy(read_idx(folder / name).copy()) for name in FILES.values()]
    return [a.reshape(len(a), -1).float() if a.ndim == 3 else a.long() for a in arrays]


class Mlp(nn.Module):
    """784-128-64-10 with ReLU; the scaling of the pixels to 0..1 is part of the model."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 255))
        self.hidden1 = robust.Robust(nn.Linear(784, 128))
        self.hidden2 = robust.Robust(nn.Linear(128, 64))
        self.out = robust.Robust(nn.Linear(64, 10))

    def forward(self, pixels):
        x = torch.relu(self.hidden1(pixels * self.scale))
        return self.out(torch.relu(self.hidden2(x)))


def augment(images):
    """Rotates (±10°), scales (±10 %) and shifts (±2 pixels) each image at random."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * 0.175
    zoom = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2) * 2 - 1) * (2 / 14)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), (n, 1, 28, 28), align_corners=False)
    moved = nn.functional.grid_sample(images.reshape(n, 1, 28, 28), grid, align_corners=False)
    return moved.reshape(n, 784)


def train(model, images, labels, epochs):
    """AdamW with a one-cycle rate; coarse weights are used in the second half, once weights settle."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        robust.set_conditions(model.train(), BITS if 2 * epoch >= epochs else None, NOISE)
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = loss_of(model(augment(images[rows])), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}, {seconds:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four .gz files")
    parser.add_argument("--out", type=Path, default=HERE / "mlp.onnx", help="ONNX file to write")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    args.out.parent.mkdir(parents=True, exist_ok=True)
    robust.seed_everything(args.seed, threads=2)
    train_images, train_labels, test_images, test_labels = load(args.data)
    model = Mlp()
    train(model, train_images, train_labels, args.epochs)
    robust.report("mlp", model, train_images[:2000], test_images, test_labels)
    robust.export(model, 784, args.out)
    robust.describe(args.out, test_images.numpy(), test_labels.numpy())
    expected = robust.scores(args.out, test_images[:100].numpy())
    np.save(args.out.with_name(f"expected-{args.out.stem}.npy"), expected)


if __name__ == "__main__":
    main()
