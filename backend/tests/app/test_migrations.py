"""The schema's history: created once, by whoever comes first; never taken over from a newer version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
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
