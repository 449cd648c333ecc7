"""What the supervisor may rely on, whoever carries a run: the same promises kept by every executor."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from service import until
from tiny_models import base_folder, make_spec, task_rows, write_rows

from app.executors.base import Executor, Handle, SubmitFailed
from app.executors.local import LocalExecutor, leftovers
from app.executors.simulation import SimulationExecutor
from slm.events import CANCEL, EVENTS, SPEC, TERMINAL, iter_events
from slm.spec import SimulationSpec, resolve


@dataclass
class Stage:
    """An executor and a directory with work for it: `short` ends by itself, `long` has to be stopped."""

    make: Callable[[], Executor]
    directory: Path
    write: Callable[..., None]

    def events(self) -> list[dict[str, Any]]:
        path = self.directory / EVENTS
        return [event for event in iter_events(path) if event.get("seq")] if path.exists() else []

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]

    def ended(self, executor: Executor, handle: Handle) -> None:
        until(lambda: not executor.poll(self.directory, handle), seconds=90, what="the end of the work")

    def under_way(self, executor: Executor, handle: Handle) -> None:
        def look() -> bool:
            executor.poll(self.directory, handle)
            return "step" in self.types()

        until(look, seconds=90, what="the first step")


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def _local(tmp_path: Path, base: Path) -> Stage:
    data = write_rows(tmp_path / "rows.jsonl", task_rows(48))
    directory = tmp_path / "runs" / "work"
    directory.mkdir(parents=True)

    def write(*, long: bool = False, attempt: int = 1) -> None:
        spec = make_spec(base, data, attempt=attempt, epochs=500 if long else 1, early_stopping_patience=None)
        (directory / SPEC).write_text(spec.model_dump_json())

    return Stage(lambda: LocalExecutor(tmp_path, warm=False), directory, write)


def _simulation(tmp_path: Path) -> Stage:
    directory = tmp_path / "runs" / "work"
    directory.mkdir(parents=True)
    config, _ = resolve({"epochs": 1, "batch_size": 8})

    def write(*, long: bool = False, attempt: int = 1) -> None:
        spec = SimulationSpec(
            run_id="run", experiment_id="experiment", attempt=attempt, config=config, rows=48, parameters_count=1000,
            delay_seconds=0, duration_seconds=600 if long else 0.3, failure_rate=0, seed=1,
        )  # fmt: skip
        (directory / SPEC).write_text(spec.model_dump_json())

    began = time.time()

    def hurried() -> float:
        return began + 50 * (time.time() - began)

    return Stage(lambda: SimulationExecutor(hurried), directory, write)


@pytest.fixture(params=["local", "simulation"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path) -> Iterator[Stage]:
    built = _local(tmp_path, tiny_base) if request.param == "local" else _simulation(tmp_path)
    yield built
    for directory in leftovers(tmp_path / "runs"):
        LocalExecutor(tmp_path, warm=False).cancel(directory, {}, force=True)


def test_it_is_available_here_and_says_what_it_is(stage: Stage) -> None:
    executor = stage.make()
    assert executor.unavailable() is None
    assert executor.simulated == (executor.name == "simulation")
    assert executor.uses_slot != executor.simulated


def test_work_runs_to_its_end_and_is_told_in_the_log(stage: Stage) -> None:
    stage.write()
    executor = stage.make()
    handle = executor.submit(stage.directory, attempt=1)
    assert json.loads(json.dumps(handle)) == handle
    stage.ended(executor, handle)
    types = stage.types()
    assert types[0] == "started"
    assert types[-1] == "finished"
    assert [event["seq"] for event in stage.events()] == list(range(1, len(types) + 1))
    assert not executor.poll(stage.directory, handle)


def test_submitting_twice_does_not_double_the_work(stage: Stage) -> None:
    stage.write()
    executor = stage.make()
    executor.submit(stage.directory, attempt=1)
    handle = stage.make().submit(stage.directory, attempt=1)
    stage.ended(executor, handle)
    until(lambda: not leftovers(stage.directory.parent), what="the end of every process")
    assert stage.types().count("started") == 1
    assert sum(kind in TERMINAL for kind in stage.types()) == 1


def test_another_instance_finds_the_work_by_its_handle(stage: Stage) -> None:
    stage.write(long=True)
    first = stage.make()
    handle = json.loads(json.dumps(first.submit(stage.directory, attempt=1)))
    stage.under_way(first, handle)
    after_a_restart = stage.make()
    assert after_a_restart.poll(stage.directory, handle)
    after_a_restart.cancel(stage.directory, handle, force=True)


def test_a_cancel_marker_ends_it_with_a_word(stage: Stage) -> None:
    stage.write(long=True)
    executor = stage.make()
    handle = executor.submit(stage.directory, attempt=1)
    stage.under_way(executor, handle)
    (stage.directory / CANCEL).write_text(json.dumps({"save": True}))
    executor.cancel(stage.directory, handle, force=False)
    stage.ended(executor, handle)
    assert stage.types()[-1] == "cancelled"
    assert leftovers(stage.directory.parent) == []


def test_force_leaves_no_process(stage: Stage) -> None:
    stage.write(long=True)
    executor = stage.make()
    handle = executor.submit(stage.directory, attempt=1)
    stage.under_way(executor, handle)
    (stage.directory / CANCEL).write_text(json.dumps({"save": False}))
    executor.cancel(stage.directory, handle, force=True)
    stage.ended(executor, handle)
    assert leftovers(stage.directory.parent) == []
    executor.cancel(stage.directory, handle, force=True)


def test_work_that_has_ended_is_not_begun_again(stage: Stage) -> None:
    stage.write()
    executor = stage.make()
    stage.ended(executor, executor.submit(stage.directory, attempt=1))
    before = stage.events()
    again = stage.make()
    stage.ended(again, again.submit(stage.directory, attempt=1))
    assert stage.events() == before


def test_the_next_attempt_goes_on_in_the_same_log(stage: Stage) -> None:
    stage.write(long=True)
    executor = stage.make()
    handle = executor.submit(stage.directory, attempt=1)
    stage.under_way(executor, handle)
    (stage.directory / CANCEL).write_text(json.dumps({"save": True}))
    executor.cancel(stage.directory, handle, force=False)
    stage.ended(executor, handle)
    (stage.directory / CANCEL).unlink()
    before = len(stage.events())
    stage.write(attempt=2)
    stage.ended(executor, executor.submit(stage.directory, attempt=2))
    second = stage.events()[before:]
    assert {event["attempt"] for event in second} == {2}
    assert second[0]["seq"] == before + 1
    assert second[-1]["type"] == "finished"


def test_a_directory_that_vanishes_is_no_longer_worked_on(stage: Stage) -> None:
    stage.write(long=True)
    executor = stage.make()
    handle = executor.submit(stage.directory, attempt=1)
    stage.under_way(executor, handle)
    executor.cancel(stage.directory, handle, force=True)
    shutil.rmtree(stage.directory, ignore_errors=True)
    stage.ended(executor, handle)


def test_a_directory_without_a_spec_is_refused_or_ends_at_once(stage: Stage) -> None:
    executor = stage.make()
    with suppress(SubmitFailed):
        stage.ended(executor, executor.submit(stage.directory, attempt=1))
    assert stage.events() == []
    assert leftovers(stage.directory.parent) == []
