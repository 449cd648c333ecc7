"""Scoring models on a real service: any model on any data, watched, cancelled, killed; never half an evaluation."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import Service, rows, running, until
from slm_client import Conflict, Run

from slm.events import lock_holder

pytestmark = pytest.mark.e2e

LONG = [{"prompt": f"{n}?", "completion": "one two three cat dog bird " * 12} for n in range(64)]
"""Rows whose answers take a tiny model many seconds."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("evaluate")) as found:
        found.upload(rows(), "learned")
        found.upload(rows(150)[120:], "unseen")
        found.upload(LONG, "long")
        base = found.base()
        trained = found.experiment("Trained", base, dataset(found, "learned"), max_steps=4, generate_max_rows=64,
                                   max_new_tokens=200, max_length=256)  # fmt: skip
        assert found.ended(trained.id).status == "completed"
        yield found


def dataset(service: Service, name: str) -> str:
    return service.client.datasets.list(q=name)[0].id


def tuned(service: Service) -> str:
    return service.client.models.list(model_type="fine_tuned")[0].id


def working(service: Service, run: Run) -> int:
    """The process that answers rows for the run now."""
    directory = service.data_dir / "runs" / run.id

    def look() -> int | None:
        seen = service.client.runs.get(run.id)
        assert not seen.ended, seen
        busy = seen.progress is not None and seen.progress.phase == "evaluating" and (seen.progress.done or 0) > 0
        holder = lock_holder(directory) or {}
        return int(holder["pid"]) if busy and "pid" in holder else None

    return until(look, what="the scoring")


def evaluations(service: Service) -> set[str]:
    return {row.id for row in service.client.evaluations.list(model_id=tuned(service))}


def stored(service: Service) -> set[Path]:
    """Every file of every run that ended well."""
    return {path for path in (service.data_dir / "artifacts").rglob("*") if path.is_file()}


def test_a_tuned_model_on_other_data_and_its_base_alone(service: Service) -> None:
    client, before = service.client, evaluations(service)
    run = client.evaluations.create(tuned(service), dataset(service, "unseen"))
    assert (run.task, run.ended, run.result) == ("evaluate", False, None)
    done = client.runs.wait(run.id, interval=0.1)
    assert done.state == "completed", done.error
    assert done.progress is not None
    assert done.progress.percent == 100
    (made,) = evaluations(service) - before
    assert done.result == {"evaluation_id": made}
    card = client.evaluations.get(made)
    assert (card.method, card.rows_scored, card.dataset_id) == ("sft", 30, dataset(service, "unseen"))
    assert set(card.base_metrics) == set(card.metrics) > {"loss", "token_f1", "rouge_l", "chrf"}
    assert card.overlap is not None
    assert card.overlap["rows"] == 30
    assert card.verdict
    assert card.experiment_id == client.experiments.list()[0].id
    assert made not in {row.id for row in client.evaluations.list()}
    samples = client.evaluations.samples(made)
    assert len(samples) == card.rows_generated == 30
    assert samples[0].expected in {"cat", "dog", "bird", "two", "number"}

    base = client.models.get(tuned(service)).base_model_id or ""
    done = client.runs.wait(client.evaluations.create(base, dataset(service, "unseen")).id, interval=0.1)
    assert done.state == "completed", done.error
    alone = client.evaluations.get((done.result or {})["evaluation_id"])
    assert alone.base_metrics == {}
    assert alone.metrics["loss"] == pytest.approx(card.base_metrics["loss"], abs=1e-4)
    assert "by itself" in (alone.verdict or "")
    client.evaluations.delete(made)
    client.evaluations.delete(alone.id)
    assert evaluations(service) == before
    assert not (service.data_dir / "runs" / run.id).exists()
    assert not (service.data_dir / "artifacts" / run.id).exists()


def test_one_that_is_cancelled_or_killed_leaves_nothing(service: Service) -> None:
    client, before, files = service.client, evaluations(service), stored(service)
    cancelled = client.evaluations.create(tuned(service), dataset(service, "long"))
    working(service, cancelled)
    with pytest.raises(Conflict, match="is being read"):
        client.datasets.delete(dataset(service, "long"))
    client.runs.cancel(cancelled.id)
    assert client.runs.wait(cancelled.id, interval=0.1).state == "cancelled"

    killed = client.evaluations.create(tuned(service), dataset(service, "long"))
    os.kill(working(service, killed), signal.SIGKILL)
    ended = client.runs.wait(killed.id, interval=0.1)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.code, ended.result) == ("process_died", None)
    assert evaluations(service) == before
    assert stored(service) == files
    for run in (cancelled, killed):
        assert list((service.data_dir / "runs" / run.id).glob(".tmp-*")) == []
    until(lambda: not service.trainers(), what="the end of every process")


def test_a_killed_service_finds_it_again(service: Service) -> None:
    client, before = service.client, evaluations(service)
    run = client.evaluations.create(tuned(service), dataset(service, "unseen"))
    until(lambda: lock_holder(service.data_dir / "runs" / run.id), what="the start of the process")
    service.kill()
    service.start()
    done = client.runs.wait(run.id, interval=0.1, patience=60)
    assert done.state == "completed", done.error
    (made,) = evaluations(service) - before
    assert done.result == {"evaluation_id": made}
