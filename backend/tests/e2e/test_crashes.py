"""What dies, and what is left: real services and real trainings, killed at the worst moments."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from service import Service, require_gapless, rows, running, until

pytestmark = pytest.mark.e2e

LONG = {"epochs": 6, "save_steps": 10}
"""180 steps of a tiny model: seconds, and enough of them to be killed in the middle."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("crashes")) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> tuple[list[tuple[int, float]], bytes]:
    """Curve and weights of the training that nobody disturbs."""
    made = service.experiment("undisturbed", service.base(), service.upload(rows()), **LONG)
    ended = service.ended(made.id)
    assert ended.status == "completed", ended.error
    require_gapless(service, made.id)
    kept = service.client.experiments.checkpoints(made.id)
    assert [checkpoint.step for checkpoint in kept[:2]] == [162, 160]
    assert all(checkpoint.created_at and checkpoint.size_bytes > 0 for checkpoint in kept)
    assert sum(checkpoint.best for checkpoint in kept) >= 1
    return service.curve(made.id), service.weights(made.id)


def start_training(service: Service, name: str, *, step: int = 25) -> str:
    """A training that has just gone beyond `step`."""
    dataset = service.client.datasets.list(q="tiny")[0].id
    made = service.experiment(name, service.base(), dataset, **LONG)
    until(lambda: service.reached(made.id, step=step), what=f"step {step}")
    return made.id


def test_the_service_is_killed_and_training_goes_on(
    service: Service, undisturbed: tuple[list[tuple[int, float]], bytes]
) -> None:
    experiment = start_training(service, "api killed")
    trainer = service.trainer(experiment)
    assert trainer is not None
    service.kill()
    step = max(int(event.get("step", 0)) for event in service.log(experiment))
    until(lambda: service.reached(experiment, step=step + 10), what="progress without a service")
    service.start()
    assert service.client.experiments.get(experiment).status in ("running", "completed")
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 1)
    require_gapless(service, experiment)
    assert (service.curve(experiment), service.weights(experiment)) == undisturbed


def test_the_trainer_is_killed_and_resumes_to_the_very_same_result(
    service: Service, undisturbed: tuple[list[tuple[int, float]], bytes]
) -> None:
    experiment = start_training(service, "trainer killed")
    trainer = service.trainer(experiment)
    assert trainer is not None
    killed_at = max(int(event.get("step", 0)) for event in service.log(experiment))
    trainer.kill()
    killed = time.monotonic()
    until(lambda: len(service.client.experiments.runs(experiment)) == 2, seconds=30, what="a second attempt")
    assert time.monotonic() - killed < 30
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 2)
    second, first = service.client.experiments.runs(experiment)
    assert first.state == "interrupted"
    assert first.error is not None
    assert first.error.code == "process_died"
    assert second.resumed_from_step
    assert killed_at - second.resumed_from_step <= LONG["save_steps"] + 1
    require_gapless(service, experiment)
    assert (service.curve(experiment), service.weights(experiment)) == undisturbed


def test_everything_is_killed_at_once(service: Service, undisturbed: tuple[list[tuple[int, float]], bytes]) -> None:
    experiment = start_training(service, "all killed")
    trainer = service.trainer(experiment)
    assert trainer is not None
    service.kill()
    trainer.kill()
    trainer.wait(10)
    service.start()
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 2)
    require_gapless(service, experiment)
    assert (service.curve(experiment), service.weights(experiment)) == undisturbed


def test_sigterm_of_the_service_leaves_the_training_alone(service: Service) -> None:
    experiment = start_training(service, "service stopped")
    trainer = service.trainer(experiment)
    assert trainer is not None
    service.terminate()
    step = max(int(event.get("step", 0)) for event in service.log(experiment))
    until(lambda: service.reached(experiment, step=step + 10), what="progress after the service's end")
    assert trainer.is_running()
    service.start()
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 1)
    require_gapless(service, experiment)


def test_sigterm_of_a_trainer_is_an_interruption_and_resumes(
    service: Service, undisturbed: tuple[list[tuple[int, float]], bytes]
) -> None:
    experiment = start_training(service, "trainer stopped")
    trainer = service.trainer(experiment)
    assert trainer is not None
    trainer.terminate()
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 2)
    second, first = service.client.experiments.runs(experiment)
    assert first.error is not None
    assert (first.state, first.error.code) == ("interrupted", "interrupted")
    # It saved where it stood: nothing is repeated.
    told = [event.payload["step"] for event in service.client.experiments.events(experiment) if event.type == "step"]
    assert len(told) == len(set(told))
    assert second.resumed_from_step
    require_gapless(service, experiment)
    assert (service.curve(experiment), service.weights(experiment)) == undisturbed


def test_a_hung_trainer_is_ended_and_resumed(tmp_path: Path) -> None:
    with running(tmp_path, silence_timeout=15) as service:
        service.upload(rows())
        experiment = start_training(service, "hung")
        trainer = service.trainer(experiment)
        assert trainer is not None
        trainer.suspend()
        ended = service.ended(experiment)
        assert (ended.status, ended.attempt) == ("completed", 2)
        first = service.client.experiments.runs(experiment)[1]
        assert first.error is not None
        assert first.error.code == "silent"
        assert not trainer.is_running()


def test_an_experiment_that_always_dies_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, max_attempts_without_progress=3) as service:
        service.upload(rows())
        dataset = service.client.datasets.list(q="tiny")[0].id
        made = service.experiment("doomed", service.base(), dataset, epochs=50, save_steps=100_000)
        killed: set[int] = set()

        def kill() -> bool:
            trainer = service.trainer(made.id)
            if trainer is not None and trainer.pid not in killed:
                killed.add(trainer.pid)
                trainer.kill()
            return service.client.experiments.get(made.id).ended

        until(kill, seconds=90, what="the end")
        ended = service.client.experiments.get(made.id)
        assert (ended.status, ended.attempt) == ("failed", 3)
        assert ended.error is not None
        assert ended.error.code == "process_died"
        assert ended.error.hint


def stopped_between_writes(pid: int, database: Path) -> bool:
    """Stop a process, unless it is writing just then: nobody could write until it went on, whoever leads."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, what="the stop")
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            return False
    return True


def test_a_supervisor_that_slept_beyond_its_lease_is_refused(tmp_path: Path) -> None:
    """Two supervisors beside a service without one; the elected is stopped, replaced, and continued."""
    command = [sys.executable, "-m", "app.cli", "supervise"]
    with running(tmp_path, supervise="false", lease_seconds=1) as service:
        service.upload(rows())
        first = service.spawn(command, tmp_path / "first.log")
        second = None
        try:
            until((tmp_path / "data" / "supervisor.lock").exists, what="the first supervisor's election")
            second = service.spawn(command, tmp_path / "second.log")
            until(lambda: "standing by" in (tmp_path / "second.log").read_text(), what="the second supervisor")
            dataset = service.client.datasets.list(q="tiny")[0].id
            experiment = service.experiment("two owners", service.base(), dataset, epochs=60).id
            until(lambda: service.client.experiments.events(experiment, since=5), what="the first supervisor's work")
            until(lambda: stopped_between_writes(first.pid, tmp_path / "database.db"), what="a moment between writes")
            known = max(event.id for event in service.client.experiments.events(experiment, limit=1000))
            assert known < 1000
            until(lambda: service.client.experiments.events(experiment, since=known), what="the second one's work")
            assert service.client.experiments.get(experiment).status == "running"
            os.kill(first.pid, signal.SIGCONT)
            until(lambda: "taken over" in (tmp_path / "first.log").read_text(), what="the refusal of the stale owner")
            ended = service.ended(experiment)
            assert (ended.status, ended.attempt) == ("completed", 1)
            require_gapless(service, experiment)
            assert len(service.client.evaluations.list(experiment_id=experiment)) == 1
        finally:
            for process in filter(None, (first, second)):
                process.kill()
                process.wait()


def test_a_deleted_database_stops_the_service_and_the_next_one_reports_leftovers(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.upload(rows(400))
        dataset = service.client.datasets.list(q="tiny")[0].id
        made = service.experiment("orphan", service.base(), dataset, epochs=100)
        until(lambda: service.reached(made.id, step=5), what="step 5")
        trainer = service.trainer(made.id)
        assert trainer is not None
        for name in ("database.db", "database.db-wal", "database.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        assert service.process is not None
        service.process.wait(20)
        assert "database" in (tmp_path / "service.log").read_text()
        assert trainer.is_running()
        service.start()
        assert service.client.experiments.list() == []
        until(lambda: not trainer.is_running(), seconds=20, what="the end of the leftover training")
        assert "without a row" in (tmp_path / "service.log").read_text()
