"""Reads an embedded store through a real MLflow server and prints what it holds, as JSON.

usage: read_mlflow.py FOLDER

Starts `mlflow server` in FOLDER with no options but the address, as a user would start `mlflow ui`,
and reads everything back through the REST client. Nothing is written but MLflow's own upgrade of
the database.
"""

import hashlib
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from mlflow import MlflowClient, __version__
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType


def start_server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1"],
        cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                if answer.status == 200:
                    return server, address
        except OSError:
            time.sleep(0.5)
    stop_server(server)
    sys.exit(f"the server did not start:\n{pathlib.Path(log.name).read_text()}")


def stop_server(server):
    if server.poll() is None:
        os.killpg(server.pid, 15)  # its own session, made above
        server.wait(30)


def number(value):
    """NaN is not JSON."""
    return "NaN" if math.isnan(value) else value


def digests(folder):
    root = pathlib.Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*")) if path.is_file()
    }


def listed(client, run_id, path=""):
    """Artifacts as the server lists them, path to size."""
    found = {}
    for entry in client.list_artifacts(run_id, path):
        found |= listed(client, run_id, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found


def read_run(client, run, scratch):
    run_id = run.info.run_id
    target = pathlib.Path(scratch, run_id)
    target.mkdir()
    has_artifacts = bool(client.list_artifacts(run_id))
    if has_artifacts:
        client.download_artifacts(run_id, "", str(target))
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "user": run.info.user_id,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
        "artifact_uri": run.info.artifact_uri,
        "tags": run.data.tags,
        "params": run.data.params,
        "latest_metrics": {
            m.key: [m.step, m.timestamp, number(m.value)] for m in run.data._metric_objs
        },
        "metrics": {
            key: [[m.step, m.timestamp, number(m.value)]
                  for m in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "datasets": [
            {
                "name": i.dataset.name,
                "digest": i.dataset.digest,
                "source_type": i.dataset.source_type,
                "source": json.loads(i.dataset.source),
                "schema": i.dataset.schema and json.loads(i.dataset.schema),
                "profile": i.dataset.profile and json.loads(i.dataset.profile),
                "tags": {tag.key: tag.value for tag in i.tags},
            }
            for i in sorted(run.inputs.dataset_inputs, key=lambda i: (i.dataset.name, i.dataset.digest))
        ],
        "artifacts_listed": listed(client, run_id),
        "artifacts": digests(target) if has_artifacts else {},
    }


def read_models(client, address, scratch):
    models = {}
    for model in client.search_registered_models():
        versions = {}
        for version in client.search_model_versions(f"name = '{model.name}'"):
            # The search leaves out the aliases.
            version = client.get_model_version(model.name, version.version)
            target = pathlib.Path(scratch, f"{model.name}-{version.version}")
            target.mkdir()
            download_artifacts(
                artifact_uri=f"models:/{model.name}/{version.version}",
                dst_path=str(target), tracking_uri=address, registry_uri=address,
            )
            versions[str(version.version)] = {
                "run_id": version.run_id,
                "source": version.source,
                "status": version.status,
                "stage": version.current_stage,
                "description": version.description,
                "tags": version.tags,
                "aliases": sorted(version.aliases),
                "creation_time": version.creation_timestamp,
                "user": version.user_id,
                "artifacts": digests(target),
            }
        models[model.name] = {
            "creation_time": model.creation_timestamp,
            "last_updated_time": model.last_updated_timestamp,
            "aliases": {alias: str(version) for alias, version in model.aliases.items()},
            "versions": versions,
        }
    return models


def main(folder):
    server, address = start_server(folder)
    try:
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        # The scheme `mlflow-artifacts:` is resolved against the tracking address of the process.
        import mlflow
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        with tempfile.TemporaryDirectory() as scratch:
            found = {
                "mlflow": __version__,
                "experiments": {
                    e.name: {
                        "id": e.experiment_id,
                        "lifecycle_stage": e.lifecycle_stage,
                        "artifact_location": e.artifact_location,
                        "creation_time": e.creation_time,
                        "runs": {
                            run.info.run_id: read_run(client, client.get_run(run.info.run_id), scratch)
                            for run in client.search_runs([e.experiment_id])
                        },
                    }
                    for e in client.search_experiments(view_type=ViewType.ALL)
                },
                "models": read_models(client, address, scratch),
            }
    finally:
        stop_server(server)
    json.dump(found, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
