"""Trains networks of sinusoidal features on MNIST, which need few encrypted lookups.

    python waves.py --data FOLDER [--out waves.onnx] [--projections 24] [--harmonics 1] [--steps 20000] [--seed 1]

A bootstrap takes one projection p = w.x + b on the torus and can return f(p + d) for several shifts d
at once, so sin(2 pi p) and cos(2 pi p) together cost one bootstrap. The network is these features and a
Linear: 784 pixels, --projections lookups, 10 scores. `--harmonics 1 3` adds the sines and cosines of
3p, from the same bootstraps. Input and output are as in train.py.

Targets are half the labels and half the scores of lenet.onnx (made by nets.py). Training uses 20
distorted copies of every image, in 16 grey levels, and noise on p and on every feature.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from train import HERE, load, robust

TURN = 2 * math.pi
# Copies of each image; their highest grey level.
COPIES, LEVELS = 20, 15
# Number of principal components kept, and the variance added to each so that small ones stay small.
COMPONENTS, HELD_BACK = 256, 0.05
BATCH, RATE = 256, 3e-3
# Standard deviations of the noise, in turns and as a fraction of a feature's amplitude.
NOISE_P, NOISE_FEATURE = 0.012, 0.01


def distort(images, strength):
    """Rotates, scales, shears, shifts (±1 pixel at most) and bends each image at random."""
    n = len(images)

    def any_of(*shape):
        return (torch.rand(n, *shape) * 2 - 1) * strength

    angle, zoom, shear, shift = 0.2 * any_of(), 1 + 0.12 * any_of(2), 0.2 * any_of(), any_of(2) / 14
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cos * zoom[:, 0], shear - sin, shift[:, 0]], 1),
        torch.stack([sin, cos * zoom[:, 1], shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), (n, 1, 28, 28), align_corners=False)
    bend = functional.interpolate(torch.randn(n, 2, 6, 6), size=28, mode="bilinear", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1) * (0.06 * strength)
    moved = functional.grid_sample(images.reshape(n, 1, 28, 28), grid, align_corners=False)
    return moved.reshape(n, 784)


def distorted_copies(images):
    """COPIES copies of the images as uint8 of 0..LEVELS; the first two are undistorted."""
    copies = torch.empty(COPIES * len(images), 784, dtype=torch.uint8)
    for k in range(COPIES):
        for rows in torch.arange(len(images)).split(1000):
            part = images[rows] / 255
            if k > 1:
                part = distort(part, 0.4 + 0.5 * k / (COPIES - 1))
            copies[rows + k * len(images)] = (part * LEVELS).round().clamp(0, LEVELS).byte()
    return copies


def teach(path, copies):
    """The scores of the model at `path` for all copies. One session for all, because each takes memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    opinions = torch.empty(len(copies), 10)
    for rows in torch.arange(len(copies)).split(1000):
        pixels = copies[rows].numpy() * np.float32(255 / LEVELS)
        opinions[rows] = torch.from_numpy(session.run(None, {"input": pixels})[0])
    return opinions


class Waves(nn.Module):
    """`count` projections, a sine and a cosine of each for every harmonic, and a dense layer."""

    def __init__(self, inputs, count, harmonics):
        super().__init__()
        self.harmonics, self.noise = harmonics, 0.0
        self.hidden = nn.Linear(inputs, count)
        self.out = nn.Linear(2 * len(harmonics) * count, 10)
        # Small initial weights, so that the features start nearly linear; any phase.
        nn.init.normal_(self.hidden.weight, std=0.01)
        nn.init.uniform_(self.hidden.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        turns = self.hidden(x)
        if self.noise:
            turns = turns + self.noise * torch.randn_like(turns)
        waves = [wave(TURN * h * turns) for h in self.harmonics for wave in (torch.sin, torch.cos)]
        features = torch.cat(waves, 1)
        if self.noise:
            features = features + NOISE_FEATURE * torch.randn_like(features)
        return self.out(features)


class Exported(nn.Module):
    """The network as ONNX operators, on raw pixels, with radians and pixel scaling in the first layer."""

    def __init__(self, hidden, out, harmonics):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 255))
        self.hidden, self.out, self.harmonics = hidden, out, harmonics

    def forward(self, pixels):
        z = self.hidden(pixels * self.scale)
        waves = [w(z if h == 1 else z * h) for h in self.harmonics for w in (torch.sin, torch.cos)]
        return self.out(torch.cat(waves, 1))


def principal_components(copies):
    """The mean image, and a matrix that whitens images; directions of small variance are damped.

    Training uses whitened images, on which gradient steps converge much faster than on pixels.
    """
    mean = copies[:60000].float().mean(0) / LEVELS
    sample = copies[::7].float() / LEVELS - mean
    values, vectors = torch.linalg.eigh(sample.T @ sample / len(sample))
    values, vectors = values.flip(0)[:COMPONENTS], vectors.flip(1)[:, :COMPONENTS]
    return mean, vectors / torch.sqrt(values + HELD_BACK)


def train(model, images, labels, opinions, steps):
    """AdamW with a short warm-up and a cosine schedule, with noise throughout."""
    optimiser = torch.optim.AdamW(
        [
            {"params": model.hidden.parameters(), "lr": RATE, "weight_decay": 0.02},
            {"params": model.out.parameters(), "lr": 4 * RATE, "weight_decay": 0.002},
        ],
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1, 20 * s / steps) * (0.5 + 0.5 * math.cos(math.pi * s / steps))
    )
    model.noise, started, total = NOISE_P, time.monotonic(), 0.0
    for step in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        scores = model(images[rows].float())
        loss = 0.5 * functional.cross_entropy(scores, labels[rows % len(labels)])
        loss = loss + 0.5 * functional.cross_entropy(scores, functional.softmax(opinions[rows], 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % 1000 == 999:
            print(f"step {step + 1}/{steps}: loss {total / 1000:.4f}, {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0


def clip(model, copies, labels):
    """Clips the first layer's few largest weights, as far as that improves accuracy with 6-bit weights.

    These weights are on pixels that hardly differ between images. They have little effect, but would make
        the scale of all other weights coarser. Accuracy is measured on distorted training images.
    """
    rows = torch.randint(2 * len(labels), len(copies), (8000,))
    images, labels = copies[rows].float() / LEVELS, labels[rows % len(labels)]
    weight, best = model.hidden.weight.data, (-1.0, None)
    model.noise = NOISE_P
    for share in (1, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12):
        limit = share * weight.abs().max().item()
        model.hidden.weight.data = robust.quantise(weight.clamp(-limit, limit), 6)
        best = max(best, (robust.accuracy(model, images, labels), limit))
    model.hidden.weight.data = weight.clamp(-best[1], best[1])


def report(name, model, images, labels):
    """Prints the accuracy on grey levels 0..255, and on 16 levels with coarse weights and noise."""
    model.noise = 0.0
    print(f"{name}: floating point {robust.accuracy(model, images / 255, labels):.2f} %")
    coarse = (images / 255 * LEVELS).round() / LEVELS
    weight = model.hidden.weight.data
    for bits in (6, 5):
        model.hidden.weight.data = robust.quantise(weight, bits)
        got = []
        for model.noise in (0.0, 0.006, 0.012):
            got.append(robust.accuracy(model, coarse, labels, repeats=5 if model.noise else 1))
        norm = torch.linalg.vector_norm(weight, dim=1).mean() / weight.abs().max() * (2 ** (bits - 1) - 1)
        print(f"{name}: 16 grey levels, weights {bits} bits (2-norm of a row {norm:.0f}): {got[0]:.2f} %, "
              f"noise of 0.006 / 0.012 turns: {got[1]:.2f} / {got[2]:.2f} %")
    model.hidden.weight.data = weight


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four .gz files")
    parser.add_argument("--out", type=Path, default=HERE / "waves.onnx", help="ONNX file to write")
    parser.add_argument("--projections", type=int, default=24, help="number of lookups [default: 24]")
    parser.add_argument("--harmonics", type=int, nargs="+", default=[1], help="harmonics, odd numbers [default: 1]")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    args.out.parent.mkdir(parents=True, exist_ok=True)
    robust.seed_everything(args.seed, threads=1)
    train_images, train_labels, test_images, test_labels = load(args.data)
    copies = distorted_copies(train_images)
    opinions = teach(HERE / "lenet.onnx", copies)
    mean, whiten = principal_components(copies)
    white = torch.cat([((part.float() / LEVELS - mean) @ whiten).half() for part in copies.split(20000)])

    model = Waves(COMPONENTS, args.projections, args.harmonics)
    train(model, white, train_labels, opinions, args.steps)

    # Convert to pixels of 0..1: the first layer absorbs whitening and mean.
    pixels = Waves(784, args.projections, args.harmonics)
    pixels.out = model.out
    pixels.hidden.weight.data = model.hidden.weight.data @ whiten.T
    pixels.hidden.bias.data = torch.remainder(model.hidden.bias.data - pixels.hidden.weight.data @ mean, 1)
    clip(pixels, copies, train_labels)
    report(args.out.stem, pixels, test_images, test_labels)

    pixels.hidden.weight.data *= TURN
    pixels.hidden.bias.data *= TURN
    robust.export(Exported(pixels.hidden, pixels.out, args.harmonics), 784, args.out)
    robust.describe(args.out, test_images.numpy(), test_labels.numpy())
    expected = robust.scores(args.out, test_images[:100].numpy())
    np.save(args.out.with_name(f"expected-{args.out.stem}.npy"), expected)


if __name__ == "__main__":
    main()
