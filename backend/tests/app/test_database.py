"""Rows: what was written is there, what failed is not, and nobody waits for a lock; on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import DatabaseGone, PlatformError
from app.migrations import upgrade
from app.models import Dataset, Event, Experiment, Model, Run
from app.models.columns import new_id


def dataset(name: str = "rows") -> Dataset:
    identity = new_id()
    return Dataset(
        id=identity, name=name, dataset_type="training", file_name="a.csv", stored_name=f"{identity}_a.csv",
        file_format="csv", size_bytes=1, sha256="0" * 64, row_count=1, columns=["text"], kind_reason="", faults={},
        statistics={},
    )  # fmt: skip


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Dataset)) or 0


def add(session: Session, row: object) -> None:
    session.add(row)
    session.flush()


def test_what_was_answered_is_committed(database: Database, database_url: str) -> None:
    database.write(lambda session: add(session, dataset()))
    other = Database(database_url)
    try:
        assert count(other) == 1
    finally:
        other.close()


def test_writes_of_many_threads_all_land(database: Database) -> None:
    def work(number: int) -> None:
        database.write(lambda session: add(session, dataset(f"n{number}")))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(200)))
    with database.read() as session:
        names = set(session.scalars(select(Dataset.name)))
    assert names == {f"n{number}" for number in range(200)}


def test_a_failing_closure_takes_back_only_its_own(database: Database) -> None:
    """In one group: the first waits for nobody, so that the others pile up behind it."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        begun.set()
        go_on.wait(10)
        add(session, dataset("slow"))

    def failing(session: Session) -> None:
        add(session, dataset("half made"))
        raise RuntimeError("in the middle")

    first = database.submit(slow)
    begun.wait(10)
    bad = database.submit(failing)
    good = database.submit(lambda session: add(session, dataset("good")))
    go_on.set()
    first.result(10)
    good.result(10)
    with pytest.raises(RuntimeError, match="in the middle"):
        bad.result(10)
    with database.read() as session:
        assert set(session.scalars(select(Dataset.name))) == {"slow", "good"}


def test_results_are_complete_after_the_session_is_gone(database: Database) -> None:
    def work(session: Session) -> Dataset:
        row = dataset("kept")
        add(session, row)
        return row

    row = database.write(work)
    assert (row.name, row.row_count) == ("kept", 1)
    assert row.created_at.tzinfo is not None


def test_reading_sessions_cannot_write(database: Database) -> None:
    with database.read() as session:
        session.add(dataset())
        with pytest.raises(DBAPIError, match=r"readonly|read-only"):
            session.flush()
        session.rollback()
    assert count(database) == 0


def test_readers_do_not_wait_for_the_writer(database: Database) -> None:
    inside, leave = threading.Event(), threading.Event()

    def long(session: Session) -> None:
        add(session, dataset())
        inside.set()
        leave.wait(10)

    writing = database.submit(long)
    assert inside.wait(10)
    assert count(database) == 0
    leave.set()
    writing.result(10)
    assert count(database) == 1


def test_foreign_keys_hold(database: Database) -> None:
    def orphan(session: Session) -> None:
        add(session, Event(run_id=new_id(), seq=1, attempt=1, type="step", time=datetime.now(UTC), payload={}))

    with pytest.raises(IntegrityError):
        database.write(orphan)


@pytest.mark.parametrize(
    "change", [{"dataset_type": "something"}, {"row_count": -1}, {"name": None}, {"sha256": None}], ids=str
)
def test_checks_hold(database: Database, change: dict[str, object]) -> None:
    def work(session: Session) -> None:
        row = dataset()
        for key, value in change.items():
            setattr(row, key, value)
        add(session, row)

    with pytest.raises(IntegrityError):
        database.write(work)
    assert count(database) == 0


def test_states_are_checked_by_the_schema(database: Database) -> None:
    def work(session: Session) -> None:
        add(session, Run(task="train", executor="local", directory="d", spec={}, state="sleeping"))

    with pytest.raises(IntegrityError):
        database.write(work)


def test_times_come_back_aware_and_equal(database: Database) -> None:
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)

    def work(session: Session) -> None:
        row = dataset()
        row.created_at = moment
        add(session, row)

    database.write(work)
    with database.read() as session:
        assert session.scalars(select(Dataset.created_at)).one() == moment


def test_ids_are_ordered_by_time() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000


def test_nothing_is_lost_at_the_end(database_url: str) -> None:
    upgrade(database_url)
    database = Database(database_url)
    futures = [database.submit(lambda session: add(session, dataset())) for _ in range(50)]
    database.close()
    assert all(future.done() for future in futures)
    with pytest.raises(PlatformError, match="shutting down"):
        database.write(lambda session: add(session, dataset()))
    again = Database(database_url)
    assert count(again) == 50
    again.close()


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/database.db"
    upgrade(url)
    database = Database(url)
    try:
        found = database.write(
            lambda session: [
                session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
            ]
        )
        assert found == ["wal", 2]
    finally:
        database.close()


def test_a_deleted_file_is_noticed_before_and_at_writing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/database.db"
    upgrade(url)
    database = Database(url)
    try:
        database.check_file()
        (tmp_path / "database.db").unlink()
        with pytest.raises(DatabaseGone, match="restart the service"):
            database.check_file()
        with pytest.raises(DatabaseGone):
            database.write(lambda session: add(session, dataset()))
        upgrade(url)
        with pytest.raises(DatabaseGone, match="replaced"):
            database.check_file()
    finally:
        database.close()


def test_an_experiment_needs_its_base_and_data(database: Database) -> None:
    def work(session: Session) -> None:
        base = Model(name="b", model_type="base", architecture="transformer", parameters_count=1)
        session.add(base)
        session.flush()
        asked = {"base_model_id": base.id, "training_dataset_id": new_id(), "training_config": {}, "seed": 1}
        resolved = {"executor": "local", "executor_reason": "", "method": "sft", "adapter": "lora", "warnings": []}
        add(session, Experiment(name="e", requested_config={}, **asked, **resolved))

    with pytest.raises(IntegrityError):
        database.write(work)
