"""Checks an ONNX file with the official checker, runs it in ONNX Runtime, prints JSON.

usage: run_onnx.py MODEL SAMPLES SHAPE...

SAMPLES holds float32 values, little-endian, of the given shape: events, receivers, bands, frames.
All events are run in batches of each size; the outputs are those of batches of one, and
`batch_difference` is the largest difference of any other batch size to them.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

BATCH_SIZES = [2, 7, 32]


def run(session, samples, batch_size):
    batches = [samples[i:i + batch_size] for i in range(0, len(samples), batch_size)]
    results = [session.run(None, {"mel_spectrogram": batch}) for batch in batches]
    return {
        output.name: np.concatenate(parts)
        for output, parts in zip(session.get_outputs(), zip(*results))
    }


def main(model_path, samples_path, *shape):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    samples = np.fromfile(samples_path, "<f4").reshape([int(length) for length in shape])
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
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
