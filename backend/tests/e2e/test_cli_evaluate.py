"""`slm evaluate` as a person and a script use it, against a real service with tiny weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import BACKEND, Service, rows, running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("evaluate")) as found:
        trained = found.experiment("Colours", found.base(), found.upload(rows(60), "learned"), max_steps=2)
        assert found.ended(trained.id).status == "completed"
        yield found


def slm(service: Service, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "SLM_API_URL": service.url, "PYTHONPATH": os.environ.get("PYTHONPATH", str(BACKEND))}
    command = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_file_is_sent_scored_and_told(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "unseen.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(90)[60:]))
    said = slm(service, "evaluate", "Colours", str(path))
    assert "Scoring Colours on unseen (run " in said
    assert "difference (95 %)" in said
    assert "few shot" in said
    assert "Overlap with the training rows: none among 30." in said
    assert "token F1" in said.splitlines()[-1]
    assert "\x1b" not in said

    found = json.loads(slm(service, "evaluate", "tiny-llama", "unseen", "--json"))
    assert found["base_metrics"] == {}
    assert found == service.client.evaluations.get(found["id"]).wire


def test_what_is_refused_is_a_sentence(service: Service, tmp_path: Path) -> None:
    assert "not on this machine" in slm(service, "evaluate", "gpt-2 small", "learned", code=4)
    labels = tmp_path / "labels.csv"
    labels.write_text("text,label\na,x\nb,y\n")
    assert "knows no labels yet" in slm(service, "evaluate", "tiny-llama", str(labels), code=4)
