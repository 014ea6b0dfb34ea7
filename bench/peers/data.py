"""The rows to run and the calibration rows."""

import gzip
from pathlib import Path

import numpy as np

CALIBRATION, TEST = 2000, 1000


class Data:
    """Training images and labels, of which the first are for calibration, and held-out images and labels."""

    def __init__(self, train, test, calibration):
        self.train, self.test, self.calibration = train, test, calibration

    def labels(self, count):
        return self.test[1][:count].tolist()

    def store(self, folder, count):
        """Writes the files that peers read. Returns their paths by name."""
        rows = folder / "rows"
        rows.mkdir(parents=True)
        for index in range(count):
            np.save(rows / f"{index}.npy", self.test[0][index : index + 1])
        arrays = {
            "inputs": self.test[0][:count],
            "calibration": self.train[0][: self.calibration],
            "calibration_labels": self.train[1][: self.calibration],
            "test": self.test[0][:TEST],
            "test_labels": self.test[1][:TEST],
            "train": self.train[0][self.calibration :],
            "train_labels": self.train[1][self.calibration :],
        }
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        return {"rows": str(rows), **{name: str(folder / f"{name}.npy") for name in arrays}}


def digits(examples):
    """The split of examples/digits: its calibration images, then the rest of scikit-learn's images that are
        not held out."""
    from sklearn.datasets import load_digits

    def read(what):
        return tuple(np.load(examples / "digits" / f"{what}-{part}.npy") for part in ("images", "labels"))

    calibration, test = read("calibration"), read("test")
    taken = {row.tobytes() for row in (*calibration[0], *test[0])}
    images, labels = load_digits(return_X_y=True)
    images = images.astype(calibration[0].dtype)
    rest = [index for index, row in enumerate(images) if row.tobytes() not in taken]
    parts = zip(calibration, (images[rest], labels[rest]), strict=True)
    return Data(tuple(np.concatenate(pair) for pair in parts), test, len(calibration[0]))


def mnist(folder):
    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    arrays = [idx(Path(folder) / f"{name}-ubyte.gz") for name in names]
    images = [a.reshape(len(a), -1).astype(np.float32) if a.ndim == 3 else a.astype(np.int64) for a in arrays]
    return Data(tuple(images[:2]), tuple(images[2:]), CALIBRATION)


def idx(path):
    """The array in a gzip-compressed IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
