"""Rows: a reading engine that cannot write, and one writer that groups closures into durable commits.

Reads see committed rows only. A write is a closure `work(session)`: the writer thread takes all that wait, runs them in
one `BEGIN IMMEDIATE` with a savepoint each, commits once (SQLite: WAL, synchronous=FULL), and only then answers every
caller. A closure that raises is rolled back alone and its error is raised to its caller. No file, socket or tokenizer
work belongs inside a closure: it would hold everybody's write lock.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from app.errors import DatabaseGone, StorageFull, Unavailable

T = TypeVar("T")
GROUP = 128
"""At most so many closures share a commit."""
BUSY_TIMEOUT_SECONDS = 30


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def sqlite_file(url: str) -> Path | None:
    """The database file of a SQLite URL; None for other databases and in-memory ones."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database).resolve()


def open_engine(url: str, *, writing: bool) -> Engine:
    """An engine with the platform's settings. The reading one is `query_only` on SQLite and read-only on PostgreSQL."""
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _sqlite_writer if writing else _sqlite_reader)
        if writing:
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"options": "-c timezone=UTC"}}
    if not writing:
        options["execution_options"] = {"postgresql_readonly": True}
    return create_engine(url, **options)


def _sqlite_common(connection: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_writer(connection: Any, _record: Any) -> None:
    _sqlite_common(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _sqlite_reader(connection: Any, _record: Any) -> None:
    _sqlite_common(connection)
    connection.execute("PRAGMA query_only=ON")


class Database:
    """The rows of one platform. Thread-safe. `close` waits for what was accepted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.file = sqlite_file(url)
        self._reader = open_engine(url, writing=False)
        self._writer = open_engine(url, writing=True)
        self._queue: queue.SimpleQueue[tuple[Callable[[Session], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._inode: tuple[int, int] | None = None
        self._held: int | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def dialect(self) -> str:
        return self._writer.dialect.name

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees committed rows and refuses to write."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in the writer; returns after the commit. Objects it returns are detached and complete."""
        return self.submit(work).result()

    def submit(self, work: Callable[[Session], T]) -> Future[T]:
        """Like `write`, without waiting: the future resolves after the commit."""
        if self._closed:
            raise Unavailable("The service is shutting down; try again in a moment.")
        future: Future[T] = Future()
        self._queue.put((work, future))
        return future

    def check_file(self) -> None:
        """Raises `DatabaseGone` where the SQLite file was deleted or replaced since it was first opened."""
        if self.file is None:
            return
        try:
            stat = self.file.stat()
            identity = (stat.st_dev, stat.st_ino)
        except FileNotFoundError:
            identity = None
        if self._inode is None and identity is not None:
            self._inode = identity
            if os.name == "posix":
                # As long as it is open its number is not given to a new file. Closed only after the engines are:
                # closing any descriptor of a file lets go of all of a process's locks on it.
                self._held = os.open(self.file, os.O_RDONLY)
        if identity != self._inode:
            raise DatabaseGone(f"The database file {self.file.name} was deleted or replaced; restart the service.")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            self._reader.dispose()
            self._writer.dispose()
            if self._held is not None:
                os.close(self._held)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            while len(batch) < GROUP and not self._queue.empty():
                batch.append(self._queue.get())
            stopping = None in batch
            works = [item for item in batch if item is not None]
            if works:
                self._commit_together(works)

    def _commit_together(self, works: list[tuple[Callable[[Session], Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self.check_file()
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                for work, future in works:
                    self._run_one(session, work, future, done)
            self.check_file()
        except BaseException as error:  # noqa: BLE001 - whatever it is, every caller must hear it; nothing is swallowed
            answer = _translated(error)
            for _, future in works:
                if not future.done():
                    future.set_exception(answer)
            return
        for future, result in done:
            future.set_result(result)

    @staticmethod
    def _run_one(
        session: Session, work: Callable[[Session], Any], future: Future[Any], done: list[tuple[Future[Any], Any]]
    ) -> None:
        try:
            with session.begin_nested():
                result = work(session)
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(error, OperationalError):
                raise
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - handed to its caller; the others' work goes on
            future.set_exception(error)
        else:
            done.append((future, result))


def _translated(error: BaseException) -> BaseException:
    """Errors that have a sentence get it; all others stay as they are."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.OperationalError):
        text = str(original)
        if "full" in text:
            return StorageFull("The disk that holds the database is full; free some space and try again.")
        if "locked" in text or "busy" in text:
            return Unavailable("The database is busy; try again in a moment.")
    if isinstance(error, OSError) and error.errno == 28:
        return StorageFull("The disk is full; free some space and try again.")
    return error


def process_identity() -> str:
    """Names this process among all that share the database: host and process id."""
    return f"{os.uname().nodename if hasattr(os, 'uname') else 'host'}:{os.getpid()}"
