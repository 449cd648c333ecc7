"""A real service in a process of its own; trainings are simulated, quick, and never fail unless asked to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_client import Client, SlmError

BACKEND = Path(__file__).resolve().parents[2] / "backend"


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "DATABASE_URL": f"sqlite:///{folder}/database.db",
        "UPLOAD_DIR": str(folder / "uploads"),
        "DATA_DIR": str(folder / "data"),
        "MODELS_DIR": str(folder / "models"),
        "MAX_UPLOAD_BYTES": "2000000",
        "TRAINING_SIMULATION_DELAY": "0.1",
        "TRAINING_SIMULATION_DURATION": "1",
        "TRAINING_SIMULATION_FAILURE_RATE": "0",
        "SUPERVISOR_INTERVAL": "0.05",
        "WARM_PROCESS": "false",
    }
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--log-level", "warning"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=BACKEND, env={**os.environ, **settings}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        with Client(url) as client:
            while True:
                try:
                    client.health()
                    break
                except SlmError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < deadline, "the service does not answer"
                    time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def client(service_url: str) -> Iterator[Client]:
    with Client(service_url) as opened:
        yield opened


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text("prompt,completion\n" + "".join(f"Question {n}?,Answer {n}\n" for n in range(20)))
    return path
