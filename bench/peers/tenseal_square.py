"""TenSEAL, CKKS: networks with x² instead of ReLU, which CKKS can compute without approximation.

They differ from hermesh's network, so they are trained here, on the same training images:

- mlp: 784-64-10, the input in one ciphertext, matrices by TenSEAL's mm;
- cnn: a convolution 7x7 of 4 channels with stride 3, 64, 10: the shape of TenSEAL's tutorial, for whose
  encoding (im2col) it is better suited.
"""

import pickle
import time
from pathlib import Path

import numpy as np
import reference

EPOCHS, BATCH, SEED = 12, 128, 1
KERNEL, STRIDE, CHANNELS, WINDOWS = 7, 3, 4, 64
# Degree, bits of the moduli, bits of the scale. 128 bits of security by SEAL's table, which allows a total
# of 218 bits of modulus at degree 8192.
PARAMETERS = {
    "mlp": (8192, [40, 30, 30, 30, 40], 30),
    "cnn": (8192, [31, 26, 26, 26, 26, 26, 26, 31], 26),
}


def layers(network):
    from torch import nn

    if network == "mlp":
        return nn.ModuleList([nn.Linear(784, 64), nn.Linear(64, 10)])
    dense = [nn.Linear(CHANNELS * WINDOWS, 64), nn.Linear(64, 10)]
    return nn.ModuleList([nn.Conv2d(1, CHANNELS, KERNEL, STRIDE), *dense])


def scores(model, images):
    x = images if len(model) == 3 else images.flatten(1)
    for layer in model[:-1]:
        x = (layer(x) ** 2).flatten(1)
    return model[-1](x)


def train(network, images, labels):
    import torch

    torch.manual_seed(SEED)
    x, y = torch.from_numpy(pixels(images)), torch.from_numpy(labels).long()
    model = layers(network)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(scores(model, x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return {name: array.numpy() for name, array in model.state_dict().items()}


def plain(network, weights, images):
    import torch

    model = layers(network)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with torch.no_grad():
        return scores(model, torch.from_numpy(pixels(images))).argmax(1).numpy()


def pixels(images):
    return (images / 255).astype(np.float32).reshape(-1, 1, 28, 28)


def compile(job):
    """Training time is not counted, and the trained network is kept for later runs."""
    network = job["options"]["network"]
    cache = Path(job["cache"]) / f"tenseal-{network}.pickle"
    if not cache.is_file():
        weights = train(network, np.load(job["train"]), np.load(job["train_labels"]))
        cache.write_bytes(pickle.dumps(weights))
    start = time.perf_counter()
    weights = pickle.loads(cache.read_bytes())
    arrays = [array.astype(np.float64) for array in weights.values()]
    (Path(job["folder"]) / "weights").write_bytes(pickle.dumps(arrays))
    degree, moduli, _ = PARAMETERS[network]
    test, labels = np.load(job["test"]), np.load(job["test_labels"])
    return {
        "settings": f"its own network with x², {network}, CKKS, degree {degree}, moduli {moduli}, 128 bits",
        "bootstraps": 0,
        "plain": plain(network, weights, np.load(job["inputs"])).tolist(),
        "accuracy": float((plain(network, weights, test) == labels).mean()),
        "float_accuracy": reference.accuracy(job),
        "rows": f"{len(test)} held-out rows, in floating point",
        "seconds": time.perf_counter() - start,
    }


class Client:
    def __init__(self, job):
        self.network = job["options"]["network"]
        self.inputs = pixels(np.load(job["inputs"]))

    def keygen(self):
        import tenseal

        degree, moduli, scale = PARAMETERS[self.network]
        self.context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, -1, moduli)
        self.context.global_scale = 2.0**scale
        self.context.generate_galois_keys()
        self.context.generate_relin_keys()
        # The server needs the public key too, because it encrypts zeros during the computation.
        return self.context.serialize(save_secret_key=False)

    def encrypt(self, index):
        import tenseal

        image = self.inputs[index, 0]
        if self.network == "mlp":
            vector = tenseal.ckks_vector(self.context, image.reshape(-1).tolist())
        else:
            vector, _ = tenseal.im2col_encoding(self.context, image.tolist(), KERNEL, KERNEL, STRIDE)
        return vector.serialize(), {}

    def decrypt(self, answer):
        import tenseal

        scores = tenseal.ckks_vector_from(self.context, answer).decrypt()
        return None, {"label": int(np.argmax(scores))}


class Server:
    def __init__(self, job):
        self.network = job["options"]["network"]
        arrays = pickle.loads((Path(job["folder"]) / "weights").read_bytes())
        if self.network == "cnn":
            self.kernels, self.offsets = arrays[0][:, 0].tolist(), arrays[1].tolist()
            arrays = arrays[2:]
        w1, b1, w2, b2 = arrays
        self.w1, self.b1, self.w2, self.b2 = w1.T.tolist(), b1.tolist(), w2.T.tolist(), b2.tolist()

    def load(self, key):
        import tenseal

        self.context = tenseal.context_from(key)

    def run(self, data):
        import tenseal

        x = tenseal.ckks_vector_from(self.context, data)
        if self.network == "cnn":
            channels = [
                x.conv2d_im2col(kernel, WINDOWS) + offset
                for kernel, offset in zip(self.kernels, self.offsets)
            ]
            x = tenseal.CKKSVector.pack_vectors(channels)
            x.square_()
        x = x.mm(self.w1) + self.b1
        x.square_()
        return (x.mm(self.w2) + self.b2).serialize(), {}
