"""Exports, predictions and evaluations that die at chosen moments: never half a result, and the next one is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service import Service, require_gapless, rows, running, until
from slm_client import Client, Run

pytestmark = pytest.mark.e2e

PHASES = {
    "export": ("comparing", "writing", "checking", "saving"),
    "predict": ("predicting", "saving"),
    "evaluate": ("evaluating",),
}
"""Task → phases at whose beginning it dies."""
_DIES = """
import os, signal
from pathlib import Path
from slm.events import EventLog
mark, append = Path({mark!r}), EventLog.append

def dying(log, type_, **fields):
    moment, *others = mark.read_text().split() if mark.exists() else ["never"]
    if moment in (type_, fields.get("phase")):
        mark.unlink()
        for pid in (*map(int, others), os.getpid()):
            os.kill(pid, signal.SIGKILL)
    return append(log, type_, **fields)

EventLog.append = dying
"""
"""Every interpreter of the service runs this first: whoever comes to the marked moment takes the mark, and dies."""


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mark") / "die-at"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, mark: Path) -> Iterator[Service]:
    (mark.parent / "sitecustomize.py").write_text(_DIES.format(mark=str(mark)))
    path = ":".join([str(mark.parent), *sys.path])
    with running(tmp_path_factory.mktemp("killed"), pythonpath=path) as found:
        found.base()
        found.upload(rows(12), "few")
        yield found


def ask(client: Client, task: str) -> Run:
    base = next(model.id for model in client.models.list() if model.name == "tiny-llama")
    dataset = client.datasets.list(q="few")[0].id
    made: dict[str, Callable[[], Run]] = {
        "export": lambda: client.models.export(base, "safetensors"),
        "predict": lambda: client.models.predict(base, dataset, max_new_tokens=4),
        "evaluate": lambda: client.evaluations.create(base, dataset),
    }
    return made[task]()


def results(service: Service) -> tuple[set[str], set[str]]:
    """What anyone can see of what was made: evaluations and whole exports; files that a row may offer."""
    client = service.client
    base = next(model.id for model in client.models.list() if model.name == "tiny-llama")
    seen = {row.id for row in client.evaluations.list(model_id=base)}
    for export in client.models.exports(base):
        assert (export.state == "completed") == bool(export.files) == (export.self_test is not None)
        seen |= {file.artifact_id for file in export.files}
    return seen, {str(path) for path in (service.data_dir / "artifacts").rglob("*")}


def require_nothing_of(service: Service, run: Run, before: tuple[set[str], set[str]]) -> None:
    ended = service.client.runs.wait(run.id, interval=0.05, patience=60)
    assert ended.error is not None
    assert (ended.state, ended.error.code, ended.result) == ("failed", "process_died", None)
    assert ended.error.hint
    directory = service.data_dir / "runs" / run.id
    assert {path.name for path in directory.iterdir()} <= {
        "run.json", "run.lock", "events.jsonl", "stdout.log", ".reserve"
    }  # fmt: skip
    assert results(service) == before


def require_whole(service: Service, task: str, tmp_path: Path) -> None:
    """The same again, undisturbed, ends with a result that holds."""
    done = service.client.runs.wait(ask(service.client, task).id, interval=0.05)
    assert done.state == "completed", done.error
    require_result(service, done, tmp_path)


def require_result(service: Service, done: Run, tmp_path: Path) -> None:
    client, result = service.client, done.result or {}
    if done.task == "export":
        (made,) = (found for found in client.models.exports(done.model_id or "") if found.id == done.id)
        assert made.self_test is not None
        assert (made.self_test.same_text, made.self_test.same_top_token) == (True, 1.0)
        assert made.self_test.checked > 0
        (file,) = made.files
        assert client.artifacts.download(file.artifact_id, tmp_path / done.id).stat().st_size == file.size_bytes
    elif done.task == "predict":
        path = client.artifacts.download(result["artifact_id"], tmp_path / done.id)
        found = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["prompt"] for line in found] == [row["prompt"] for row in rows(12)]
        assert all("prediction" in line for line in found)
    else:
        made_card = client.evaluations.get(result["evaluation_id"])
        assert (made_card.rows_scored, made_card.metrics["loss"] > 0) == (12, True)
        assert len(client.evaluations.samples(made_card.id)) == made_card.rows_generated


@pytest.mark.parametrize("task", PHASES)
def test_work_killed_in_any_phase_leaves_nothing_and_the_next_is_whole(
    service: Service, mark: Path, tmp_path: Path, task: str
) -> None:
    for phase in PHASES[task]:
        before = results(service)
        mark.write_text(phase)
        run = ask(service.client, task)
        require_nothing_of(service, run, before)
        assert not mark.exists(), f"it did not die at {phase}"
    require_whole(service, task, tmp_path)


@pytest.mark.parametrize("task", PHASES)
def test_work_and_service_killed_before_the_last_word_leave_nothing_after_the_restart(
    service: Service, mark: Path, task: str
) -> None:
    before = results(service)
    assert service.process is not None
    mark.write_text(f"finished {service.process.pid}")
    run = ask(service.client, task)
    assert service.process.wait(60) == -9
    assert not mark.exists()
    assert (service.data_dir / "runs" / run.id / "artifacts").is_dir(), "its files were published already"
    service.start()
    require_nothing_of(service, run, before)


@pytest.mark.parametrize("task", PHASES)
def test_a_service_killed_between_files_and_rows_makes_up_for_it(service: Service, tmp_path: Path, task: str) -> None:
    """The files have their final place, the transaction that names them never came: the next service writes it."""
    service.terminate()
    code = f"""
import os, signal, uvicorn
from app.services import results
results.complete = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
uvicorn.run("app.main:app", port={service.port}, log_level="error")
"""
    service.process = service.spawn([sys.executable, "-c", code], tmp_path / "dying.log")
    until(service._answers, what="an answer")
    seen, _ = results(service)
    run = ask(service.client, task)
    assert service.process.wait(60) == -9
    assert (service.data_dir / "artifacts" / run.id).is_dir()
    service.start()
    done = service.client.runs.wait(run.id, interval=0.05, patience=60)
    assert done.state == "completed", done.error
    assert results(service)[0] > seen or task == "predict"
    require_result(service, done, tmp_path)


@pytest.mark.parametrize("phase", ["evaluating", "finished"])
def test_a_training_killed_after_its_last_step_does_not_learn_again(service: Service, mark: Path, phase: str) -> None:
    """At `finished` its model is published and nobody was told: the next attempt publishes it anew, and once."""
    base = next(model.id for model in service.client.models.list() if model.name == "tiny-llama")
    dataset = service.client.datasets.list(q="few")[0].id
    mark.write_text(phase)
    made = service.experiment(f"Killed at {phase}", base, dataset, max_steps=3, eval_fraction=0.25)
    ended = service.ended(made.id)
    assert not mark.exists()
    assert (ended.status, ended.attempt) == ("completed", 2), ended.error
    steps = [event["step"] for event in service.log(made.id) if event["type"] == "step"]
    assert steps == [1, 2, 3]
    require_gapless(service, made.id)
    (model,) = (model for model in service.client.models.list(model_type="fine_tuned") if model.name == made.name)
    assert model.id == ended.resulting_model_id
    assert len(service.client.evaluations.list(model_id=model.id)) == 1
    assert service.weights(made.id)
    assert not (service.directory(made.id) / "artifacts").exists()
