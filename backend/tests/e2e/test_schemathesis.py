"""Requests made from the API's own description: every answer is one that the description declares."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from service import Service, rows, running

pytestmark = pytest.mark.e2e
HERE = Path(__file__).resolve().parent
PHASES = "examples,coverage,fuzzing,stateful"


def test_every_check_in_every_phase(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    examples = "200" if pytestconfig.getoption("--long") else "8"
    quick = {"training_simulation_delay": 0, "training_simulation_duration": 0.2, "max_upload_bytes": 1_000_000}
    with running(tmp_path, **quick) as service:
        service.upload(rows(20))
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{service.url}/openapi.json"]
        options = ["--checks", "all", "--phases", PHASES, "--max-examples", examples, "--seed", "1"]
        done = subprocess.run(
            [*command, *options, "--continue-on-failure", "--request-timeout", "20"],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
            assert re.search(rf"✅\s+{phase}", done.stdout), done.stdout
        assert "Traceback" not in (tmp_path / "service.log").read_text(errors="replace")
        walk_every_operation(service)


def walk_every_operation(service: Service) -> None:
    """Each operation of the description answers with success at least once, asked as its description says."""
    operations = {
        (method.upper(), path)
        for path, found in httpx2.get(f"{service.url}/openapi.json").json()["paths"].items()
        for method in found
    }
    succeeded: set[tuple[str, str]] = set()
    with httpx2.Client(base_url=service.url, timeout=30) as http:

        def call(method: str, path: str, *, names: dict[str, str] | None = None, **options: object) -> httpx2.Response:
            answer = http.request(method, path.format(**(names or {})), **options)  # type: ignore[arg-type]
            assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
            succeeded.add((method, path))
            return answer

        for path in ("/", "/health", "/ready", "/system", "/datasets", "/models", "/experiments", "/evaluations"):
            call("GET", path)
        upload = {"data": {"name": "n", "dataset_type": "training"}, "files": {"file": ("a.csv", b"text\none\ntwo\n")}}
        dataset = {"dataset_id": call("POST", "/datasets/upload", **upload).json()["id"]}
        for path in ("/datasets/{dataset_id}", "/datasets/{dataset_id}/rows", "/datasets/{dataset_id}/download"):
            call("GET", path, names=dataset)
        call("PATCH", "/datasets/{dataset_id}", names=dataset, json={"description": "changed"})
        base = http.get("/models?model_type=base").json()[0]["id"]
        body = {"name": "n", "base_model_id": base, "training_dataset_id": dataset["dataset_id"]}
        never = {"training_config": {"simulated_failure_rate": 0}}
        made = call("POST", "/experiments", json=body | never).json()
        experiment = {"experiment_id": made["id"]}
        service.ended(made["id"])
        for name in ("", "/runs", "/events", "/metrics", "/logs", "/checkpoints"):
            call("GET", f"/experiments/{{experiment_id}}{name}", names=experiment)
        evaluation = {"evaluation_id": http.get("/evaluations", params=experiment).json()[0]["id"]}
        call("GET", "/evaluations/{evaluation_id}", names=evaluation)
        call("GET", "/evaluations/{evaluation_id}/samples", names=evaluation)
        call("GET", "/runs/{run_id}", names={"run_id": made["run_id"]})
        walk_what_ends(service, call, body)
        call("DELETE", "/experiments/{experiment_id}", names=experiment)
        other = call("POST", "/datasets/upload", **upload).json()["id"]
        call("DELETE", "/datasets/{dataset_id}", names={"dataset_id": other})
    assert operations - succeeded == set()


def walk_what_ends(service: Service, call: object, body: dict[str, str]) -> None:
    """Cancel, resume, and a registered model from its registration to its end."""
    assert callable(call)
    slow = service.experiment("slow", service.base(), service.upload(rows(), name="slow rows"), epochs=500).id
    call("POST", "/experiments/{experiment_id}/cancel", names={"experiment_id": slow})
    service.ended(slow)
    resumed = call("POST", "/experiments/{experiment_id}/resume", names={"experiment_id": slow}).json()
    call("POST", "/runs/{run_id}/cancel", names={"run_id": resumed["run_id"]})
    service.ended(slow)
    learned = service.client.datasets.list(q="slow rows")[0].id
    call(
        "POST", "/datasets/{dataset_id}/preview", names={"dataset_id": learned}, json={"base_model_id": service.base()}
    )
    call("POST", "/experiments/plan", json={"base_model_id": service.base(), "training_dataset_id": learned})
    tiny = {"model_id": service.base()}
    call("POST", "/models/{model_id}/chat", names=tiny, json={"prompt": "Hello"})
    asked = {"dataset_id": body["training_dataset_id"], "max_new_tokens": 2}
    predicted = call("POST", "/models/{model_id}/predictions", names=tiny, json=asked).json()
    assert service.client.runs.wait(predicted["id"], interval=0.1).state == "completed"
    few = service.upload(rows(12), name="few rows")
    scoring = call("POST", "/evaluations", json={"model_id": service.base(), "dataset_id": few}).json()
    scored = service.client.runs.wait(scoring["id"], interval=0.1)
    assert scored.state == "completed", scored.error
    call("DELETE", "/evaluations/{evaluation_id}", names=dict(scored.result or {}))
    walk_what_leaves(service, call, few)
    model = call("POST", "/models", json={"name": "far away", "source": {"hub": "someone/model"}}).json()
    name = {"model_id": model["id"]}
    call("GET", "/models/{model_id}", names=name)
    call("PATCH", "/models/{model_id}", names=name, json={"tags": ["one"]})
    run = call("POST", "/models/{model_id}/pull", names=name).json()
    service.client.runs.wait(run["id"], interval=0.1)
    call("DELETE", "/models/{model_id}", names=name)


def walk_what_leaves(service: Service, call: object, dataset_id: str) -> None:
    """A dataset in two parts; a base as an export, with its papers; a short training and the same once more."""
    assert callable(call)
    call("POST", "/datasets/{dataset_id}/split", names={"dataset_id": dataset_id}, json={"fraction": 0.5})
    tiny = {"model_id": service.base()}
    started = call("POST", "/models/{model_id}/exports", names=tiny, json={"format": "safetensors"}).json()
    assert service.client.runs.wait(started["id"], interval=0.1).state == "completed"
    (export,) = call("GET", "/models/{model_id}/exports", names=tiny).json()
    call("GET", "/artifacts/{artifact_id}/download", names={"artifact_id": export["files"][0]["artifact_id"]})
    call("GET", "/models/{model_id}/card", names=tiny)
    call("GET", "/models/{model_id}/lineage", names=tiny)
    call("DELETE", "/exports/{export_id}", names={"export_id": export["id"]})
    short = service.experiment("short", service.base(), dataset_id, epochs=1).id
    service.ended(short)
    again = call("POST", "/experiments/{experiment_id}/reproduce", names={"experiment_id": short}).json()
    service.ended(again["id"])
