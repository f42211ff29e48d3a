"""Serves MLflow from a folder, as a user would start it, until standard input ends.

usage: serve_mlflow.py FOLDER PORT [auth]

Prints `ready` once the server answers. With `auth` it asks for a name and a password: `admin` and
`of-the-tests-0`.
"""

import os
import pathlib
import subprocess
import sys
import time
import urllib.request


def main(folder, port, *options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port]
    command += ["--workers", "1"]
    if "auth" in options:
        command += ["--app-name", "basic-auth"]
        environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "for tests only"
        environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = "of-the-tests-0"
    with open(pathlib.Path(folder, "server.log"), "a", encoding="utf-8") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(pathlib.Path(folder, "server.log").read_text())
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 9)  # its own session, made above: it dies in the middle of things
            server.wait(30)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
