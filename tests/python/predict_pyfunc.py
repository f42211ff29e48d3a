"""Loads a registered model as MLflow's users do, runs it, prints JSON.

usage: predict_pyfunc.py ADDRESS MODEL SAMPLES

SAMPLES is a folder with a file INPUT.f32 for each input of the model: float32 values, little-endian,
event after event.
"""

import json
import sys

import mlflow
import numpy as np


def main(address, uri, folder):
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    model = mlflow.pyfunc.load_model(uri)
    inputs = {
        spec.name: np.fromfile(f"{folder}/{spec.name}.f32", "<f4").reshape([-1, *spec.shape[1:]])
        for spec in model.metadata.get_input_schema().inputs
    }
    answer = model.predict(inputs)
    print(json.dumps({name: np.asarray(values).tolist() for name, values in answer.items()}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
