"""The service stays light: no tensor library, no data frames, and nothing reads the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "peft", "trl", "pandas", "datasets", "accelerate", "safetensors", "numpy", "sklearn")
_PROGRAM = """
import json, sys
from fastapi.testclient import TestClient
from app.main import create_app
from app.config import Settings

with TestClient(create_app(Settings(_env_file=None))) as client:
    assert client.get("/ready").status_code == 200
    assert client.get("/system").status_code == 200
    rows = b"prompt,completion\\na,b\\n"
    form = {"name": "n", "dataset_type": "training"}
    sent = client.post("/datasets/upload", data=form, files={"file": ("a.csv", rows)})
    base = client.get("/models?model_type=base").json()[0]["id"]
    body = {"name": "n", "base_model_id": base, "training_dataset_id": sent.json()["id"]}
    made = client.post("/experiments", json=body)
    assert made.status_code == 201, made.text
    client.get(f"/experiments/{made.json()['id']}/metrics")
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""


def test_a_working_service_has_imported_nothing_heavy(tmp_path: Path) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/database.db", "WARM_PROCESS": "false"}
    folders = {name: str(tmp_path / name.lower()) for name in ("UPLOAD_DIR", "DATA_DIR", "MODELS_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=BACKEND,
        env={**os.environ, **settings, **folders},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert imported & set(HEAVY) == set()


@pytest.mark.parametrize("module", ["app.main", "app.cli.commands", "slm.spec", "slm.events", "slm.warm_client"])
def test_importing_opens_no_connection_and_makes_no_file(module: str, tmp_path: Path) -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_arguments): raise AssertionError('a connection at import')\n"
        "socket.socket.connect = refuse\n"
        f"import {module}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(BACKEND), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
