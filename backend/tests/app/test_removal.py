"""Deletion: whatever dies between the row and its files, after the next start neither is there, and all else is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from service import free_port, until
from sqlalchemy import func, select

from app.config import BACKEND, Settings
from app.database import Database
from app.main import create_app
from app.migrations import upgrade
from app.models import Artifact, Dataset, Evaluation, Experiment, Model, Run, Tombstone
from app.models.columns import utcnow
from app.services import experiment as experiments
from app.services import removal, storage

MOMENTS = {
    "before anything is touched": "storage.remove = die",
    "between the new name and the removal": "storage.shutil.rmtree = Path.unlink = die",
    "before the tombstone is forgotten": "storage.sync_folder = die",
}
"""When the service dies → the program that makes it do so."""
NOUNS: dict[str, Any] = {
    "datasets": Dataset, "experiments": Experiment, "models": Model, "exports": Run, "evaluations": Evaluation
}  # fmt: skip


def furnish(database: Database, settings: Settings, mark: str) -> dict[str, set[Path]]:
    """A dataset, an experiment, its model, an evaluation and an export, each named after `mark` and unrelated to the
    others as far as deletion goes; returns which files each of them owns."""
    data, uploads = settings.data_dir, settings.upload_dir
    owned = {
        "datasets": {uploads / f"datasets-{mark}_rows.csv"},
        "experiments": {data / f"runs/experiments-{mark}/events.jsonl", data / f"runs/experiments-{mark}/stdout.log"},
        "models": {data / f"artifacts/train-{mark}/adapter/weights", data / f"runs/predict-{mark}/run.json"},
        "exports": {data / f"artifacts/exports-{mark}/model.gguf", data / f"runs/exports-{mark}/run.json"},
        "evaluations": {data / f"artifacts/score-{mark}/samples.jsonl", data / f"runs/score-{mark}/run.json"},
    }
    for path in (path for paths in owned.values() for path in paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))

    def run(identity: str, task: str, model: str | None = None, experiment: str | None = None) -> Run:
        return Run(
            id=identity, task=task, model_id=model, experiment_id=experiment, state="completed", executor="local",
            directory=experiment or identity, spec={}, lease_until=utcnow(),
        )  # fmt: skip

    def work(session: object) -> None:
        about = {"architecture": "llama", "parameters_count": 1, "model_type": "base"}
        used = {"dataset_type": "training", "file_name": "rows.csv", "file_format": "csv", "size_bytes": 1}
        used |= {"sha256": "0" * 64, "row_count": 1, "columns": ["text"], "kind_reason": "", "faults": {}}
        levels: list[list[object]] = [
            [
                Dataset(id=f"datasets-{mark}", name="free", stored_name=f"datasets-{mark}_rows.csv", **used),
                Dataset(id=f"used-{mark}", name="used", stored_name=f"used-{mark}_rows.csv", **used),
                Model(id=f"base-{mark}", name="base", **about),
                Model(
                    id=f"models-{mark}", name="tuned", **about | {"model_type": "fine_tuned"},
                    weights_folder=f"artifacts/train-{mark}/adapter", weights_format="adapter",
                ),
            ],
            [
                Experiment(
                    id=f"experiments-{mark}", name="e", base_model_id=f"base-{mark}", method="sft", adapter="lora",
                    training_dataset_id=f"used-{mark}", training_config={}, requested_config={}, status="completed",
                    executor="local", executor_reason="", simulated=False, seed=1,
                ),
                run(f"predict-{mark}", "predict", model=f"models-{mark}"),
                run(f"exports-{mark}", "export", model=f"base-{mark}"),
                run(f"score-{mark}", "evaluate", model=f"base-{mark}"),
            ],
            [
                run(f"first-{mark}", "train", experiment=f"experiments-{mark}"),
                Evaluation(
                    id=f"evaluations-{mark}", model_id=f"base-{mark}", run_id=f"score-{mark}", metrics={},
                    loss_curve={"epochs": [], "train_loss": [], "val_loss": []}, training_statistics={},
                ),
                *(
                    Artifact(
                        run_id=f"{owner}-{mark}", model_id=f"base-{mark}", kind=kind, size_bytes=1, sha256="0" * 64,
                        path=f"artifacts/{owner}-{mark}/{name}",
                    )
                    for owner, kind, name in (
                        ("exports", "export", "model.gguf"), ("score", "samples", "samples.jsonl")
                    )
                ),
            ],
        ]  # fmt: skip
        for level in levels:
            session.add_all(level)  # type: ignore[attr-defined]
            session.flush()  # type: ignore[attr-defined]

    database.write(work)
    return owned


@contextmanager
def rows_of(settings: Settings) -> Iterator[Database]:
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


def rows(database: Database, noun: str) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(NOUNS[noun].id).where(NOUNS[noun].id.startswith(noun))))


def tombstones(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Tombstone)) or 0


def present(settings: Settings) -> set[Path]:
    """Every file of the installation that is somebody's, half removed or not."""
    places = (settings.data_dir / "runs", settings.data_dir / "artifacts", settings.upload_dir)
    return {path for place in places for path in place.rglob("*") if path.is_file()}


@contextmanager
def service(settings: Settings, *, dies: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    """A service in a process of its own that will die at a moment of a deletion."""
    port = free_port()
    code = f"""
import os, signal, uvicorn
from pathlib import Path
from app.services import removal, storage
from app.main import app
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
class Armed(uvicorn.Server):
    async def startup(self, *arguments, **options):
        await super().startup(*arguments, **options)
        globals().update(armed=exec({dies!r}, globals()))
Armed(uvicorn.Config(app, port={port}, log_level="error")).run()
"""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url, "UPLOAD_DIR": str(settings.upload_dir), "SUPERVISE": "false",
        "DATA_DIR": str(settings.data_dir), "MODELS_DIR": str(settings.models_dir), "WARM_PROCESS": "false",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], cwd=BACKEND, env=environment)

    def answers() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, what="an answer of the service")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_service_killed_in_a_deletion_leaves_nothing_after_its_next_start(
    settings: Settings, moment: str, noun: str
) -> None:
    with rows_of(settings) as database:
        gone = furnish(database, settings, "gone")
        kept = furnish(database, settings, "kept")
    rest = {path for paths in (*gone.values(), *kept.values()) for path in paths} - gone[noun]
    with service(settings, dies=MOMENTS[moment]) as (process, client):
        with pytest.raises(httpx2.TransportError):
            client.delete(f"/{noun}/{noun}-gone")
        assert process.wait(30) == -signal.SIGKILL
    with rows_of(settings) as database:
        assert rows(database, noun) == {f"{noun}-kept"}
        assert tombstones(database) > 0
    left = present(settings) - rest
    if moment == "before anything is touched":
        assert left == gone[noun]
    elif moment == "between the new name and the removal":
        assert any(storage.TRASH in str(path) for path in left)

    with TestClient(create_app(settings)) as client:
        assert client.delete(f"/{noun}/{noun}-gone").status_code == 404
    assert present(settings) == rest
    assert not list(settings.data_dir.rglob(f"{storage.TRASH}*"))
    with rows_of(settings) as database:
        assert rows(database, noun) == {f"{noun}-kept"}
        assert tombstones(database) == 0


@pytest.mark.parametrize("noun", NOUNS)
def test_a_deletion_takes_its_own_files_and_no_others(settings: Settings, noun: str) -> None:
    with TestClient(create_app(settings)) as client:
        database = client.app.state.database  # type: ignore[attr-defined]
        owned = furnish(database, settings, "one")
        everything = present(settings)
        assert client.delete(f"/{noun}/{noun}-one").status_code == 204
        assert present(settings) == everything - owned[noun]
        assert tombstones(database) == 0


def test_a_deletion_that_is_taken_back_leaves_row_and_files(settings: Settings) -> None:
    """The tombstone stands or falls with the transaction that removes the row."""
    with rows_of(settings) as database:
        owned = furnish(database, settings, "one")

        def fail(session: object) -> None:
            experiments.delete(session, "experiments-one")  # type: ignore[arg-type]
            raise RuntimeError("the commit never came")

        with pytest.raises(RuntimeError, match="never came"):
            database.write(fail)
        removal.finish(database, settings)
        with database.read() as session:
            assert session.get(Experiment, "experiments-one") is not None
        assert owned["experiments"] <= present(settings)


def test_what_the_disk_does_not_let_go_keeps_its_tombstone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with rows_of(settings) as database:
        owned = furnish(database, settings, "one")
        left = database.write(lambda session: experiments.delete(session, "experiments-one"))

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        with monkeypatch.context() as patched:
            patched.setattr(storage, "remove", refuse)
            removal.clear(database, settings, left)
        assert "experiments-one stays on the disk until the next start: Permission denied" in caplog.text
        assert owned["experiments"] <= present(settings)
        removal.finish(database, settings)
        assert not owned["experiments"] & present(settings)
        assert tombstones(database) == 0


def test_a_link_is_removed_and_not_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("stays")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    storage.remove(tmp_path / "linked")
    storage.remove(tmp_path / "never was")
    storage.remove(tmp_path / "no folder" / "never was")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere/precious").read_text() == "stays"
