"""`slm workbench` and `slm stop`: one workbench for an installation, found again, and ended with the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from service import BACKEND, until

pytestmark = pytest.mark.e2e


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    folders = {name: str(tmp_path / name.lower()) for name in ("UPLOAD_DIR", "DATA_DIR", "MODELS_DIR")}
    return {**os.environ, **folders, "DATABASE_URL": f"sqlite:///{tmp_path}/database.db", "WARM_PROCESS": "false"}


def slm(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, text=True, timeout=120)


def test_it_is_started_once_asks_the_service_it_was_told_and_ends_with_stop(environment: dict[str, str]) -> None:
    service = ["--url", "http://127.0.0.1:9"]
    started = slm(environment, "workbench", "--background", "--json", *service)
    assert started.returncode == 0, started.stderr
    found = json.loads(started.stdout)
    try:
        with urllib.request.urlopen(found["url"], timeout=10) as page:
            assert page.status == 200
        assert psutil.Process(found["pid"]).environ()["API_BASE_URL"] == "http://127.0.0.1:9"
        again = json.loads(slm(environment, "workbench", "--background", "--json", *service).stdout)
        assert (again["pid"], again["started"]) == (found["pid"], False)
        stopped = slm(environment, "stop")
        assert f"Stopped the workbench at {found['url']}." in stopped.stdout
        until(lambda: not psutil.pid_exists(found["pid"]), what="the end of the workbench")
    finally:
        if psutil.pid_exists(found["pid"]):
            os.kill(found["pid"], signal.SIGKILL)


def test_a_note_about_a_workbench_that_is_gone_stops_nobody(environment: dict[str, str]) -> None:
    state = Path(environment["DATA_DIR"]) / "workbench.json"
    state.parent.mkdir()
    # A living process, but not the one that was noted: its number went to someone else.
    state.write_text(json.dumps({"pid": os.getpid(), "birth": 1, "url": "http://localhost:8501"}))
    stopped = slm(environment, "stop")
    assert stopped.returncode == 0
    assert "Stopped" not in stopped.stdout
