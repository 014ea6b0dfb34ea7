"""Trains a regression MLP 10-16-1 on scikit-learn's diabetes table and exports it to ONNX.

    python train.py [--out FOLDER] [--epochs 60] [--seed 1]

The model takes the raw features as float32 of shape [batch, 10] and returns the disease's progression
after a year, 25..346 in the data. The split is that of ../trees/train.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import robust  # noqa: E402

BATCH = 32
BITS, NOISE = 6, 0.02
CALIBRATION = 120


class Mlp(nn.Module):
    """10-16-1 with ReLU: 16 encrypted lookups. Standardising the features is part of the model."""

    def __init__(self, rows, targets):
        super().__init__()
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("scale", 1 / rows.std(0))
        self.register_buffer("unit", targets.std())
        self.register_buffer("middle", targets.mean())
        self.hidden = robust.Robust(nn.Linear(10, 16))
        self.out = robust.Robust(nn.Linear(16, 1))

    def forward(self, features):
        x = torch.relu(self.hidden((features - self.mean) * self.scale))
        return self.out(x) * self.unit + self.middle


def train(model, rows, targets, epochs):
    """AdamW with a one-cycle rate, coarse weights and noise throughout."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    robust.set_conditions(model.train(), BITS, NOISE)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows)).split(BATCH):
            loss = nn.functional.mse_loss(
                model(rows[batch]) / model.unit, targets[batch, None] / model.unit
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    robust.seed_everything(args.seed, threads=1)
    rows, targets = load_diabetes(return_X_y=True, scaled=False)
    split = train_test_split(
        rows.astype(np.float32), targets.astype(np.float32), test_size=0.25, random_state=args.seed
    )
    train_rows, test_rows, train_targets, test_targets = split
    np.save(args.out / "test-rows.npy", test_rows)
    np.save(args.out / "test-targets.npy", test_targets)
    np.save(args.out / "calibration-rows.npy", train_rows[:CALIBRATION])
    np.save(args.out / "calibration-targets.npy", train_targets[:CALIBRATION])

    linear = LinearRegression().fit(train_rows, train_targets)
    print(f"linear regression, to compare with: R2 {linear.score(test_rows, test_targets):.3f}")
    tensors = [torch.from_numpy(a) for a in split]
    model = Mlp(tensors[0], tensors[2])
    train(model, tensors[0], tensors[2], args.epochs)
    robust.calibrate(model, tensors[0])
    for bits, noise in ((None, 0.0), (6, 0.01), (6, 0.02), (5, 0.02)):
        robust.set_conditions(model, bits, noise)
        with torch.no_grad():
            got = [r2_score(test_targets, model(tensors[1])[:, 0]) for _ in range(20)]
        print(f"mlp: weights {bits or 32} bits, noise {100 * noise:.0f} % of range: R2 {np.mean(got):.3f}")
    path = args.out / "mlp.onnx"
    robust.export(model, 10, path)
    expected = robust.scores(path, test_rows)
    np.save(args.out / "expected-mlp.npy", expected)
    print(f"{path.name}: {path.stat().st_size} bytes; onnxruntime R2 {r2_score(test_targets, expected):.3f}")


if __name__ == "__main__":
    main()
