"""Reads the SigMF collections of a folder with the official package, prints JSON.

usage: read_sigmf.py FOLDER

Every recording and collection is validated against the schema of the standard, and every hash is
checked. The samples are told as the hexadecimal digits of their single-precision bytes.
"""

import json
import pathlib
import sys

import numpy as np
import sigmf
from sigmf import sigmffile


def recording(path):
    handle = sigmffile.fromfile(str(path))
    handle.validate()
    handle.calculate_hash()
    samples = handle.read_samples().astype("<c8")
    return {
        "global": handle.get_global_info(),
        "capture": handle.get_captures()[0],
        "samples": samples.tobytes().hex(),
    }


def main(folder):
    collections = {}
    for path in sorted(pathlib.Path(folder).glob("*.sigmf-collection")):
        metadata = json.loads(path.read_text())
        collection = sigmf.SigMFCollection(metadata=metadata, base_path=folder)
        collection.verify_stream_hashes()
        names = collection.get_stream_names()
        streams = [recording(path.parent / f"{name}.sigmf-meta") for name in names]
        collections[path.name] = {"metadata": metadata["collection"], "streams": streams}
    json.dump(collections, sys.stdout)


main(*sys.argv[1:])
