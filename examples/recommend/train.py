"""Trains a small recommendation model on synthetic ratings and exports it to ONNX.

    python train.py [--out FOLDER] [--epochs 60] [--seed 1]

The model takes two inputs, `user` and `item`, int64 of shape [batch, 1] each, looks up an embedding
for each, and returns the expected rating, 1..5, as [batch, 1]. The ratings are drawn at random: every
user and item has a bias and two hidden traits, and users prefer items with similar traits.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import robust  # noqa: E402

USERS, ITEMS, TRAITS, SIZE = 40, 48, 2, 6
BATCH, TEST = 64, 300
BITS, NOISE = 6, 0.01


def ratings(seed):
    """Most pairs of user and item, in random order: int64 [n, 2], and float32 [n]."""
    draw = np.random.default_rng(seed)
    users, items = draw.normal(size=(USERS, TRAITS)), draw.normal(size=(ITEMS, TRAITS))
    pairs = np.stack(np.divmod(draw.permutation(USERS * ITEMS), ITEMS), 1)[: USERS * ITEMS * 9 // 10]
    biases = draw.normal(size=USERS)[pairs[:, 0]] + draw.normal(size=ITEMS)[pairs[:, 1]]
    taste = np.sum(users[pairs[:, 0]] * items[pairs[:, 1]], 1)
    values = 3 + 0.4 * biases + 0.45 * taste + 0.2 * draw.normal(size=len(pairs))
    return pairs, np.clip(values, 1, 5).astype(np.float32)


class Recommend(nn.Module):
    """Two embeddings of 6, concatenated, and 12-24-1 with ReLU: 24 encrypted lookups."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, SIZE), nn.Embedding(ITEMS, SIZE)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.2)
        self.hidden = robust.Robust(nn.Linear(2 * SIZE, 24))
        self.out = robust.Robust(nn.Linear(24, 1))

    def forward(self, user, item):
        x = torch.cat([self.users(user).flatten(1), self.items(item).flatten(1)], 1)
        return self.out(torch.relu(self.hidden(x)))


class Columns(nn.Module):
    """Calls `model` with the two columns of one tensor."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pairs):
        return self.model(pairs[:, :1], pairs[:, 1:])


def train(model, pairs, values, epochs):
    """AdamW with a one-cycle rate, coarse weights and noise throughout."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * -(-len(pairs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=steps)
    robust.set_conditions(model.train(), BITS, NOISE)
    for _ in range(epochs):
        for rows in torch.randperm(len(pairs)).split(BATCH):
            got = Columns(model)(pairs[rows])
            loss = nn.functional.mse_loss(got, values[rows, None])
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
    pairs, values = ratings(args.seed)
    model = Recommend()
    known, asked = torch.from_numpy(pairs[TEST:]), torch.from_numpy(pairs[:TEST])
    train(model, known, torch.from_numpy(values[TEST:]), args.epochs)

    guess = np.sqrt(np.mean((values[:TEST] - values[TEST:].mean()) ** 2))
    print(f"baseline, always the mean rating: off by {guess:.3f} (root mean square)")
    both = Columns(model)
    robust.calibrate(both, known)
    with torch.no_grad():
        for bits, noise in ((None, 0.0), (6, 0.01), (6, 0.02)):
            robust.set_conditions(model, bits, noise)
            got = [both(asked)[:, 0].numpy() for _ in range(10)]
            off = np.sqrt(np.mean((np.stack(got) - values[:TEST]) ** 2))
            print(f"weights {bits or 32} bits, noise {100 * noise:.0f} % of range: off by {off:.3f}")

    robust.set_conditions(model)
    path = args.out / "recommend.onnx"
    one = torch.zeros(1, 1, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (one, one), str(path), opset_version=17, dynamo=False,
            input_names=["user", "item"], output_names=["rating"],
            dynamic_axes={name: {0: "batch"} for name in ("user", "item", "rating")},
        )
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {"user": pairs[:TEST, :1], "item": pairs[:TEST, 1:]}
    expected = session.run(None, inputs)[0]
    np.save(args.out / "test-pairs.npy", pairs[:TEST])
    np.save(args.out / "test-ratings.npy", values[:TEST])
    np.save(args.out / "calibration-pairs.npy", pairs[TEST : TEST + 400])
    np.save(args.out / "expected-recommend.npy", expected)
    off = np.sqrt(np.mean((expected[:, 0] - values[:TEST]) ** 2))
    operators = " ".join(node.op_type for node in onnx.load(path).graph.node)
    print(f"{path.name}: {path.stat().st_size} bytes, {operators}; onnxruntime off by {off:.3f}")


if __name__ == "__main__":
    main()
