"""Writes the golden files of the client's data tests with NumPy: python make.py"""

import gzip
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

here = Path(__file__).parent
grid = np.arange(6).reshape(2, 3) - 2  # [[-2, -1, 0], [1, 2, 3]]
cube = np.arange(24).reshape(2, 3, 4)

for name in ["i1", "i2", "i4", "i8", "f4", "f8"]:
    np.save(here / f"{name}-little.npy", grid.astype("<" + name))
    np.save(here / f"{name}-big.npy", grid.astype(">" + name))
for name in ["u1", "u2", "u4", "u8"]:
    np.save(here / f"{name}-little.npy", (grid + 2).astype("<" + name))
    np.save(here / f"{name}-big.npy", (grid + 2).astype(">" + name))
np.save(here / "bool.npy", grid > 0)
np.save(here / "cube.npy", cube.astype("u1"))
np.save(here / "cube-fortran.npy", np.asfortranarray(cube.astype("<i2")))
np.save(here / "grid-fortran.npy", np.asfortranarray(grid.astype("<f8")))
np.save(here / "row.npy", np.array([0.5, 1.5]))
np.save(here / "labels.npy", np.array([7, 2, 1]))
np.save(here / "names.npy", np.array(["cat", "døg", ""]))
np.save(here / "names-bytes.npy", np.array([b"cat", b"dog!"]))
for version in [(2, 0), (3, 0)]:
    with open(here / f"version-{version[0]}.npy", "wb") as file:
        npy.write_array(file, grid.astype("<i4"), version=version)
with open(here / "grid.npy.gz", "wb") as file:
    file.write(gzip.compress((here / "f8-little.npy").read_bytes(), mtime=0))
