"""Checks an ONNX file with the official checker, runs it in ONNX Runtime, prints JSON.

usage: run_onnx.py MODEL SAMPLES

SAMPLES is a folder with a file INPUT.f32 for each input of the model: float32 values, little-endian,
event after event. All events are run in batches of each size; the outputs are those of batches of one, and
`batch_difference` is the largest difference of any other batch size to them.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

BATCH_SIZES = [2, 7, 32]


def run(session, samples, batch_size):
    count = len(next(iter(samples.values())))
    batches = [
        {name: values[i:i + batch_size] for name, values in samples.items()}
        for i in range(0, count, batch_size)
    ]
    results = [session.run(None, batch) for batch in batches]
    return {
        output.name: np.concatenate(parts)
        for output, parts in zip(session.get_outputs(), zip(*results))
    }


def read(session, folder):
    return {
        i.name: np.fromfile(f"{folder}/{i.name}.f32", "<f4").reshape([-1, *i.shape[1:]])
        for i in session.get_inputs()
    }


def main(model_path, folder):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    samples = read(session, folder)
    outputs = run(session, samples, 1)
    others = [run(session, samples, size) for size in BATCH_SIZES]
    difference = max(
        float(np.max(np.abs(outputs["position"] - other["position"]))) for other in others
    )
    json.dump(
        {
            "opset": model.opset_import[0].version,
            "ir": model.ir_version,
            "inputs": {i.name: [i.type, i.shape] for i in session.get_inputs()},
            "outputs": {o.name: [o.type, o.shape] for o in session.get_outputs()},
            "metadata": session.get_modelmeta().custom_metadata_map,
            "batch_difference": difference,
            "position": outputs["position"].tolist(),
            "uncertainty": outputs["uncertainty"].tolist(),
            "covariance_m2": outputs["covariance_m2"].tolist(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
