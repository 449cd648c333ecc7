"""The schema's history, and `upgrade`: bring a database up to this code, safely from several processes at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text

from app.database import sqlite_file
from app.errors import PlatformError
from slm.files import open_shared, try_lock

HERE = Path(__file__).resolve().parent
_ADVISORY_LOCK = 0x534C4D
_WAIT_SECONDS = 0.05


class NewerDatabase(PlatformError):
    """The database was written by a newer version of the platform."""

    code = "newer_database"


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Create or migrate the schema. Harmless to repeat and to run from several processes at the same moment.

    Raises `NewerDatabase` for a database that this code does not know.
    """
    config = alembic_config(url)
    engine = _engine(url)
    try:
        with _one_at_a_time(url), engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            _refuse_newer(connection, config)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if connection.dialect.name == "sqlite" and connection.execute(text("PRAGMA foreign_key_check")).first():
                raise PlatformError("The migration left rows that refer to nothing; it was taken back.")
    finally:
        engine.dispose()


def require_known(url: str) -> None:
    """Raises `NewerDatabase` for a database that this code does not know; changes nothing.

    Other errors are SQLAlchemy's: the database does not answer.
    """
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            _refuse_newer(connection, alembic_config(url))
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    """Its own connection: foreign keys off on SQLite, because rebuilding a table would cascade into its children."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _connect(connection: object, _record: object) -> None:
            connection.isolation_level = None  # type: ignore[attr-defined]
            connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[attr-defined]
            connection.execute("PRAGMA busy_timeout=30000")  # type: ignore[attr-defined]
            connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _one_at_a_time(url: str) -> Iterator[None]:
    file = sqlite_file(url)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = open_shared(file.with_name(f"{file.name}.lock"))
    try:
        while not try_lock(lock):
            time.sleep(_WAIT_SECONDS)
        yield
    finally:
        os.close(lock)


def _refuse_newer(connection: Connection, config: Config) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(
            f"The database is at revision {current}, which this version of the platform does not know. "
            "Install the newer version, or use another database."
        )
