"""Who watches the runs: claims them by lease, drives executors, takes in what runs report, recovers what died.

A thread of the service by default, or `slm supervise`; one is elected per data folder by a file lock, and every run
is leased besides, so that supervisors on several hosts, or one that slept and came back, do not collide. Nothing here
holds truth: all is in rows and run directories, so a killed supervisor loses nothing and the next one goes on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database, process_identity
from app.errors import DatabaseGone
from app.executors.base import Executor, SubmitFailed
from app.executors.local import LocalExecutor, leftovers
from app.executors.simulation import SimulationExecutor
from app.models import Run
from app.models.columns import new_id, utcnow
from app.services import results, storage, training
from slm.events import CANCEL, EVENTS, SPEC, TERMINAL, Event, lock_holder, read_events, write_atomic
from slm.files import open_shared, try_lock

_log = logging.getLogger("app.supervisor")
SLOTS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("simulate",), 1000),
    (("pull",), 2),
    (("evaluate", "predict", "export"), 1),
)
"""Tasks, and how many runs of them go on at once beside the trainings."""
LOCK = "supervisor.lock"


@dataclass
class Watch:
    """What a supervisor remembers of a run between two looks; everything in it can be found out again."""

    run_id: str
    fence: int
    task: str
    executor: str
    directory: Path
    attempt: int
    offset: int
    handle: dict[str, Any] | None
    heard: float
    size: int = -1
    cancelling_since: float | None = None
    silenced: bool = False
    seen_dead: bool = False


class Supervisor:
    """`start` and `stop` a thread, or call `tick` yourself."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        executors: dict[str, Executor] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._data_dir = settings.data_dir.resolve()
        self._local: LocalExecutor | None = None
        if executors is None:
            self._local = LocalExecutor(self._data_dir, warm=settings.warm_process)
            executors = {"local": self._local, "simulation": SimulationExecutor()}
        self.executors = executors
        self._clock = clock
        self.identity = f"{process_identity()}:{new_id()[-8:]}"
        self._watched: dict[str, Watch] = {}
        self._lock: int | None = None
        self._pulse = (0, 0.0)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_tick: float | None = None

    @property
    def elected(self) -> bool:
        """Whether this is the one supervisor of its data folder."""
        return self._lock is not None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of everything; trainings go on, the next supervisor finds them."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        if self._local is not None:
            self._local.close()
        if self._lock is not None:
            self._release_leases()
            os.close(self._lock)
            self._lock = None

    def wake(self) -> None:
        """There is something to do: do not wait for the next tick."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick()
            except DatabaseGone as error:
                _log.error("%s", error)
                return
            except Exception:  # noqa: BLE001 - one run's trouble must not end the watch over the others
                _log.exception("the supervisor's tick failed; the next one tries again")
            self._wake.wait(self._settings.supervisor_interval)
            self._wake.clear()

    def tick(self) -> None:
        """One look at everything."""
        leading = self._elect() or self._leader_sleeps()
        if not leading and not self._watched:
            return
        self._claim(leading)
        for watch in list(self._watched.values()):
            try:
                self._drive(watch)
            except training.StaleOwner:
                _log.warning("run %s was taken over by another supervisor", watch.run_id)
                self._watched.pop(watch.run_id, None)
        self.last_tick = self._clock()

    def _elect(self) -> bool:
        if self._lock is not None:
            os.utime(self._lock)
            return True
        self._data_dir.mkdir(parents=True, exist_ok=True)
        lock = open_shared(self._data_dir / LOCK)
        if not try_lock(lock):
            os.close(lock)
            return False
        self._lock = lock
        os.utime(lock)
        if self._local is not None:
            self._local.prepare()
        self._stop_strangers()
        return True

    def _leader_sleeps(self) -> bool:
        """Whether whoever holds the lock has not touched it for a lease: stopped or hung, so that others must act.

        Timed on our own clock, so that a jump of the wall clock deposes nobody.
        """
        touched = (self._data_dir / LOCK).stat().st_mtime_ns
        if touched != self._pulse[0]:
            self._pulse = (touched, self._clock())
        return self._clock() - self._pulse[1] > self._settings.lease_seconds

    def _stop_strangers(self) -> None:
        """Trainings whose rows are gone (the database was deleted) are stopped and reported; leftovers are swept."""
        runs_dir = self._data_dir / "runs"
        storage.sweep_directories(self._data_dir)
        with self._database.read() as session:
            known = set(session.scalars(select(Run.directory)))
        for directory in leftovers(runs_dir):
            if directory.name not in known and self._local is not None:
                _log.warning("a training without a row was found in %s; it is being stopped", directory.name)
                write_atomic(directory / CANCEL, json.dumps({"save": True}).encode())
                self._local.cancel(directory, {}, force=True)

    def _release_leases(self) -> None:
        owner = self.identity
        past = utcnow() - timedelta(seconds=1)
        self._database.write(
            lambda session: session.execute(update(Run).where(Run.owner == owner).values(lease_until=past))
        )

    def _claim(self, leading: bool) -> None:
        """Renew what is ours; whoever leads takes what nobody watches, and starts what waits and has a slot."""
        for run in self._database.write(partial(self._lease, leading=leading)):
            watch = Watch(
                run_id=run.id,
                fence=run.fence,
                task=run.task,
                executor=run.executor,
                directory=self._data_dir / "runs" / run.directory,
                attempt=run.attempt,
                offset=run.log_offset,
                handle=run.handle,
                heard=self._clock(),
            )
            self._watched[run.id] = watch

    def _lease(self, session: Session, *, leading: bool) -> list[Run]:
        now = database_now(session)
        until = now + timedelta(seconds=self._settings.lease_seconds)
        mine = Run.owner == self.identity
        active = Run.state.in_(("starting", "running"))
        session.execute(update(Run).where(mine, active).values(lease_until=until))
        if not leading:
            return []
        orphans = select(Run).where(active, or_(Run.owner.is_(None), Run.lease_until < now))
        found = list(session.scalars(orphans.with_for_update(skip_locked=True)))
        for tasks, limit in (*SLOTS, (("train",), self._settings.max_concurrent_runs)):
            busy = session.scalar(select(func.count()).where(Run.task.in_(tasks), active)) or 0
            if busy < limit:
                queued = select(Run).where(Run.state == "queued", Run.task.in_(tasks))
                waiting = queued.order_by(Run.id).limit(limit - busy)
                found += session.scalars(waiting.with_for_update(skip_locked=True))
        for run in found:
            run.owner, run.lease_until, run.fence = self.identity, until, run.fence + 1
            session.flush()
            if run.state == "queued":
                training.transition(session, run, "starting")
        return found

    def _drive(self, watch: Watch) -> None:
        executor = self.executors.get(watch.executor)
        if executor is None:
            self._fail(watch, training.reason("unexpected", f"There is no executor '{watch.executor}' here."))
            return
        if not watch.directory.is_dir() and watch.handle is not None:
            self._fail(watch, training.reason("directory_missing", "The run's folder was removed by hand."))
            return
        if watch.handle is None and not self._submit(watch, executor):
            return
        alive = executor.poll(watch.directory, watch.handle or {})
        if self._tail(watch, alive=alive):
            return
        row = self._row(watch)
        if row.cancel_requested_at is not None:
            self._cancel(watch, executor, save=row.cancel_save)
        if alive:
            watch.seen_dead = False
            self._listen(watch, executor)
        elif not watch.seen_dead:
            # One more look before the verdict: the process may end between the poll and the tail.
            watch.seen_dead = True
            self._wake.set()
        else:
            self._died(watch, cancelled=row.cancel_requested_at is not None)

    def _row(self, watch: Watch) -> Run:
        with self._database.read() as session:
            run = session.get(Run, watch.run_id)
        if run is None or run.fence != watch.fence or run.owner != self.identity:
            raise training.StaleOwner("the run is no longer ours")
        return run

    def _submit(self, watch: Watch, executor: Executor) -> bool:
        """Write the directory and start the work. False where it has to wait or has failed."""
        row = self._row(watch)
        if row.cancel_requested_at is not None and lock_holder(watch.directory) is None:
            self._end(watch, training.cancelled)
            return False
        holder = lock_holder(watch.directory)
        if holder is not None and holder.get("attempt") not in (0, watch.attempt):
            return False
        try:
            watch.directory.mkdir(parents=True, exist_ok=True)
            (watch.directory / CANCEL).unlink(missing_ok=True)
            write_atomic(watch.directory / SPEC, json.dumps(row.spec, indent=1).encode())
            handle = executor.submit(watch.directory, attempt=watch.attempt)
        except SubmitFailed as error:
            self._fail(watch, training.reason("process_died", str(error)))
            return False
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._fail(
                watch, training.reason("disk_full", "The disk of the data folder is full; the run cannot start.")
            )
            return False

        def store(session: Session) -> None:
            training.owned(session, watch.run_id, watch.fence).handle = handle

        self._database.write(store)
        watch.handle = handle
        watch.heard = self._clock()
        return True

    def _tail(self, watch: Watch, *, alive: bool) -> bool:
        """Take in what the log says; True once the run has ended. Who is told "cancelled" finds no process left."""
        while True:
            events, offset = read_events(watch.directory / EVENTS, offset=watch.offset)
            if not events:
                return False
            ours = [event for event in events if event.get("attempt") == watch.attempt]
            ending = next((event for event in ours if event.get("type") in TERMINAL and event.get("seq")), None)
            if ending is not None and ending["type"] == "cancelled" and alive:
                return False
            running = events if ending is None else events[: events.index(ending)]
            reached = offset if ending is None else watch.offset
            self._database.write(
                partial(training.record, run_id=watch.run_id, fence=watch.fence, events=running, offset=reached)
            )
            watch.heard = self._clock()
            if ending is not None:
                self._conclude(watch, ending, offset)
                return True
            watch.offset = offset

    def _conclude(self, watch: Watch, event: Event, offset: int) -> None:
        kind = event["type"]
        payload = {key: value for key, value in event.items() if key not in {"seq", "attempt", "type", "time"}}
        if kind == "finished":
            row = self._row(watch)
            results.store_artifacts(self._data_dir, row)

        def write(session: Session) -> None:
            run = training.owned(session, watch.run_id, watch.fence)
            training.conclude(session, run, event, offset)
            if kind == "finished":
                results.complete(session, run, payload)
            elif kind == "cancelled":
                training.cancelled(session, run)
            else:
                self._failed(session, run, payload)

        self._database.write(write)
        self._watched.pop(watch.run_id, None)
        self._wake.set()

    def _listen(self, watch: Watch, executor: Executor) -> None:
        """Silence is measured on our own clock against the growth of the log; wall-clock jumps do no harm."""
        try:
            size = (watch.directory / EVENTS).stat().st_size
        except FileNotFoundError:
            size = 0
        now = self._clock()
        if size != watch.size:
            watch.size, watch.heard = size, now
        elif now - watch.heard > self._settings.silence_timeout and not executor.simulated:
            watch.silenced = True
            executor.cancel(watch.directory, watch.handle or {}, force=True)

    def _cancel(self, watch: Watch, executor: Executor, *, save: bool) -> None:
        now = self._clock()
        if watch.cancelling_since is None:
            watch.cancelling_since = now
            write_atomic(watch.directory / CANCEL, json.dumps({"save": save}).encode())
            executor.cancel(watch.directory, watch.handle or {}, force=False)
        elif now - watch.cancelling_since > self._settings.cancel_grace_seconds:
            executor.cancel(watch.directory, watch.handle or {}, force=True)

    def _died(self, watch: Watch, *, cancelled: bool) -> None:
        if watch.task != "train":  # which goes on from what it left
            storage.sweep_unfinished(watch.directory)
        if cancelled:
            self._end(watch, training.cancelled)
        elif watch.silenced:
            seconds = self._settings.silence_timeout
            self._fail(
                watch, training.reason("silent", f"The process gave no sign of life for {seconds:g} s; it was ended.")
            )
        else:
            self._fail(watch, training.reason("process_died", "The training process ended without saying why."))

    def _fail(self, watch: Watch, failure: dict[str, Any]) -> None:
        self._end(watch, lambda session, run: self._failed(session, run, failure))

    def _failed(self, session: Session, run: Run, failure: dict[str, Any]) -> None:
        if run.cancel_requested_at is not None and failure.get("code") == "interrupted":
            training.cancelled(session, run)
            return
        limit = self._settings.max_attempts_without_progress
        training.failed(session, run, failure, attempts_without_progress=limit)

    def _end(self, watch: Watch, ending: Callable[[Session, Run], object]) -> None:
        def write(session: Session) -> None:
            ending(session, training.owned(session, watch.run_id, watch.fence))

        self._database.write(write)
        self._watched.pop(watch.run_id, None)
        self._wake.set()


def database_now(session: Session) -> datetime:
    """The database's clock where it has one of its own, since hosts disagree; SQLite lives on this very host."""
    if session.get_bind().dialect.name == "sqlite":
        return utcnow()
    now: datetime = session.scalar(select(func.clock_timestamp()))  # type: ignore[assignment]
    return now
