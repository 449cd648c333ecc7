"""The schema's history: created once, by whoever comes first; never taken over from a newer version."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from app.database import Base
from app.migrations import HEAD, NewerDatabase, alembic_config, require_known, upgrade

BACKEND = Path(__file__).resolve().parents[2]


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(alembic_config("sqlite://")).get_heads() == [HEAD]


def test_the_schema_is_what_the_rows_say(database_url: str) -> None:
    upgrade(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []


def test_the_named_tables_are_there(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)
    engine = create_engine(database_url)
    assert {"datasets", "models", "experiments", "evaluations"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_several_processes_may_begin_at_once(database_url: str) -> None:
    program = f"from app.migrations import upgrade; upgrade({database_url!r})"
    started = [
        subprocess.Popen([sys.executable, "-c", program], cwd=BACKEND, env=os.environ, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT version_num FROM alembic_version")).all() == [HEAD]
    engine.dispose()


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    upgrade(database_url)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for attempt in (upgrade, require_known):
        with pytest.raises(NewerDatabase, match=r"9999.*does not know.*newer version"):
            attempt(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()


def test_a_service_on_a_newer_database_ends_with_the_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/database.db"
    upgrade(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    folders = {name: str(tmp_path / name.lower()) for name in ("UPLOAD_DIR", "DATA_DIR", "MODELS_DIR")}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"],
        cwd=BACKEND,
        env={**os.environ, **folders, "DATABASE_URL": url, "WARM_PROCESS": "false"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "does not know" in done.stderr
    assert not (tmp_path / "uploads").exists()


_NOW = "2026-11-24 02:07:15.132782+00:00"
_OLD_ROWS = {
    "datasets": {"id": "d", "name": "n", "dataset_type": "training", "row_count": 1, "created_at": _NOW,
                 "file_name": "f", "stored_name": "d_f", "file_format": "csv", "size_bytes": 1, "sha256": "0",
                 "kind_reason": ""},
    "models": {"id": "m", "name": "n", "model_type": "base", "version": "1.0", "architecture": "transformer",
               "parameters_count": 1, "created_at": _NOW, "is_latest_version": True, "simulated": False},
    "experiments": {"id": "e", "name": "n", "status": "completed", "base_model_id": "m", "training_dataset_id": "d",
                    "training_config": "{}", "requested_config": "{}", "executor": "local", "executor_reason": "",
                    "simulated": False, "method": "sft", "adapter": "lora", "seed": 1, "event_count": 1,
                    "created_at": _NOW},
    "runs": {"id": "r", "task": "train", "experiment_id": "e", "attempt": 1, "state": "completed", "executor": "local",
             "directory": "e", "spec": "{}", "lease_until": _NOW, "fence": 1, "cancel_save": True, "last_seq": 1,
             "log_offset": 9, "created_at": _NOW},
    "events": {"id": 1, "run_id": "r", "experiment_id": "e", "number": 1, "seq": 1, "attempt": 1, "type": "started",
               "time": _NOW, "payload": "{}"},
    "evaluations": {"id": "v", "experiment_id": "e", "model_id": "m", "dataset_id": "d", "simulated": False,
                    "metrics": "{}", "loss_curve": "{}", "training_statistics": "{}", "created_at": _NOW},
    "artifacts": {"id": "a", "run_id": "r", "model_id": "m", "kind": "samples", "path": "p", "size_bytes": 1,
                  "sha256": "0", "created_at": _NOW},
}  # fmt: skip


def first_schema_with_rows(url: str) -> None:
    config = alembic_config(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, row in _OLD_ROWS.items():
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(row)})"), row)
    engine.dispose()


def test_rows_of_the_first_schema_live_on(database_url: str) -> None:
    first_schema_with_rows(database_url)
    upgrade(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        for table, row in _OLD_ROWS.items():
            found = connection.execute(text(f"SELECT * FROM {table}")).mappings().all()
            assert [entry["id"] for entry in found] == [row["id"]]
        assert connection.execute(text("SELECT directory, log_offset FROM runs")).all() == [("e", 9)]
        assert connection.scalar(text("SELECT run_id FROM evaluations")) is None
        connection.execute(text("UPDATE runs SET task = 'export'"))
    engine.dispose()


@pytest.mark.parametrize(
    ("reason", "asked"),
    [
        ("Simulation was asked for: its numbers are made up.", "simulation"),
        ("Simulated, its numbers are made up: the weights are not on this machine.", None),
    ],
)
def test_a_simulation_that_was_asked_for_is_known_by_its_old_words(
    database_url: str, reason: str, asked: str | None
) -> None:
    first_schema_with_rows(database_url)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        told = text("UPDATE experiments SET executor = 'simulation', executor_reason = :reason")
        connection.execute(told, {"reason": reason})
    upgrade(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT requested_executor FROM experiments")) == asked
    engine.dispose()


def test_the_old_file_stays_beside_a_migration_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/database.db"
    first_schema_with_rows(url)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr("app.migrations._migrate", fail)
        with pytest.raises(RuntimeError, match="the power went"):
            upgrade(url)
    copy = tmp_path / f"database.db.before-{HEAD}"
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT id FROM experiments").fetchall() == [("e",)]
    upgrade(url)
    assert not copy.exists()
