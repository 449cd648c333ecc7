"""The schema's history, and `upgrade`: bring a database up to this code, safely from several processes at once."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from app.database import sqlite_file
from app.errors import PlatformError
from slm.files import open_shared, try_lock

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).resolve().parent
HEAD = "0004"
"""The newest revision. A database that is there already needs no Alembic, whose import costs a tenth of a second."""
_ADVISORY_LOCK = 0x534C4D
_WAIT_SECONDS = 0.05


class NewerDatabase(PlatformError):
    """The database was written by a newer version of the platform."""

    code = "newer_database"


def alembic_config(url: str) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Create or migrate the schema. Harmless to repeat and to run from several processes at the same moment.

    Raises `NewerDatabase` for a database that this code does not know.
    """
    engine = _engine(url)
    try:
        with _one_at_a_time(url), _copied_first(engine), engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            if _revision(connection) != HEAD:
                _migrate(connection, alembic_config(url))
    finally:
        engine.dispose()


def _migrate(connection: Connection, config: Config) -> None:
    from alembic import command

    _refuse_newer(connection, config)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite" and connection.execute(text("PRAGMA foreign_key_check")).first():
        raise PlatformError("The migration left rows that refer to nothing; it was taken back.")


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


@contextmanager
def _copied_first(engine: Engine) -> Iterator[None]:
    """Keep a copy of a SQLite file beside it while an older schema is migrated, and for good where that fails."""
    file = sqlite_file(str(engine.url))
    copy = file.with_name(f"{file.name}.before-{HEAD}") if file is not None and file.is_file() else None
    if file is None or copy is None or not _is_older(engine):
        yield
        return
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    yield
    copy.unlink()


def _is_older(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) not in (None, HEAD)


def _revision(connection: Connection) -> str | None:
    """What the database says of itself; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _refuse_newer(connection: Connection, config: Config) -> None:
    from alembic.script import ScriptDirectory

    current = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(
            f"The database is at revision {current}, which this version of the platform does not know. "
            "Install the newer version, or use another database."
        )
