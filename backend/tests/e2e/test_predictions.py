"""A dataset answered by a real run: watched, downloaded, cancelled, killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import Service, rows, running, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("predictions"), cancel_grace_seconds=20) as found:
        yield found


@pytest.fixture(scope="module")
def base(service: Service) -> str:
    return service.base()


def nothing_left(service: Service, run_id: str) -> None:
    """Neither a file nor a row of it, half made or whole."""
    until(lambda: not service.trainers(), seconds=20, what="the end of the process")
    folder = service.directory(run_id)
    until(lambda: not list(folder.glob(".tmp-artifacts*")), seconds=10, what="the sweep")
    assert not (folder / "artifacts").exists()
    assert not (service.data_dir / "artifacts" / run_id).exists()
    assert service.client.runs.get(run_id).result is None


def test_answers_to_every_row_can_be_downloaded(service: Service, base: str, tmp_path: Path) -> None:
    dataset = service.upload([*rows(20), {"prompt": " ", "completion": "x"}], name="some")
    run = service.client.models.predict(base, dataset, max_new_tokens=4)
    seen = [found.progress for found in service.client.runs.watch(run.id, interval=0.02) if found.progress]
    assert {progress.phase for progress in seen} & {"preparing", "loading", "predicting", "saving"}
    run = service.client.runs.get(run.id)
    assert run.state == "completed", run.error
    assert run.result is not None
    assert (run.result["rows"], run.result["predicted"], run.result["skipped"]) == (21, 20, 1)
    path = service.client.artifacts.download(run.result["artifact_id"], tmp_path / "out.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["prompt"] for line in found] == [row["prompt"] for row in rows(20)] + [" "]
    assert "fault" in found[-1]


def test_cancelled_in_the_middle_nothing_is_left(service: Service, base: str) -> None:
    dataset = service.upload(rows(5000), name="many")
    run = service.client.models.predict(base, dataset, max_new_tokens=60)
    until(lambda: (service.directory(run.id) / ".tmp-artifacts").exists(), what="the first answers")
    service.client.runs.cancel(run.id)
    assert service.client.runs.wait(run.id, interval=0.05).state == "cancelled"
    nothing_left(service, run.id)


def test_killed_in_the_middle_nothing_is_left_and_it_says_so(service: Service, base: str) -> None:
    dataset = service.upload(rows(5000), name="many more")
    run = service.client.models.predict(base, dataset, max_new_tokens=60)
    until(lambda: (service.directory(run.id) / ".tmp-artifacts").exists(), what="the first answers")
    for process in service.trainers():
        process.kill()
    ended = service.client.runs.wait(run.id, interval=0.05)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.code == "process_died"
    nothing_left(service, run.id)
