"""Writes SigMF recordings of every complex type with the official package.

usage: write_sigmf.py FOLDER

Beside each recording lies `NAME.npy`: its samples as the package reads them, scaled. The last
recording is packed into an archive. Prints the names as JSON.
"""

import json
import pathlib
import sys

import numpy as np
from sigmf import SigMFFile, sigmffile

TYPES = {
    "cf64_le": "<f8", "cf64_be": ">f8", "cf32_le": "<f4", "cf32_be": ">f4",
    "ci32_le": "<i4", "ci32_be": ">i4", "ci16_le": "<i2", "ci16_be": ">i2",
    "cu32_le": "<u4", "cu32_be": ">u4", "cu16_le": "<u2", "cu16_be": ">u2",
    "ci8": "i1", "cu8": "u1",
}


def parts(dtype):
    random = np.random.default_rng(7)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return random.uniform(-1, 1, 200).astype(dtype)
    limits = np.iinfo(dtype)
    ends = [limits.min, limits.max, limits.min, limits.max]
    values = random.integers(limits.min, limits.max, 196, endpoint=True)
    return np.concatenate([ends, values]).astype(dtype)


def main(folder):
    folder = pathlib.Path(folder)
    for name, dtype in TYPES.items():
        data = folder / f"{name}.sigmf-data"
        parts(dtype).tofile(data)
        handle = SigMFFile(
            data_file=str(data),
            global_info={"core:datatype": name, "core:sample_rate": 48000},
        )
        capture = {"core:frequency": 1e6, "core:datetime": "2024-05-01T12:00:00.123456789Z"}
        handle.add_capture(0, metadata=capture)
        handle.tofile(str(folder / f"{name}.sigmf-meta"))
        handle = sigmffile.fromfile(str(folder / f"{name}.sigmf-meta"))
        samples = handle.read_samples()
        np.save(folder / f"{name}.npy", samples.astype("<c8"))
    handle.archive(str(folder / "packed.sigmf"))
    json.dump({"types": list(TYPES), "archived": name}, sys.stdout)


main(*sys.argv[1:])
