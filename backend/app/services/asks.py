"""Questions that need a tokenizer or weights: each is answered by a process of its own, within a time, or not at all.

Nothing of it happens in this process, and nothing of it becomes a row: a run directory below `data_dir/asks`, carried
by the local executor (forked from the warm process where there is one), whose `result.json` is the answer. A process
that takes too long, or whose asker went away, is killed; the directory is removed in any case, and what a crash leaves
of them is swept at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from app.config import BACKEND
from app.errors import Conflict, FieldError, Invalid, PlatformError, Unavailable
from app.executors.base import Executor, Handle, SubmitFailed
from app.models.columns import new_id
from slm.events import EVENTS, LOG, SPEC, TERMINAL, Event, read_events
from slm.files import open_shared, try_lock
from slm.spec import PreviewSpec, TrialSpec

RESULT = "result.json"
ALIVE = ".alive"
AT_ONCE, WAITING = 2, 8
"""Questions that are worked on at a time, and those that may wait for that; every further one is refused."""
_LOOK_SECONDS = 0.02
_LOOKS_UNTIL_GONE = 10
"""So many looks at the answer go by between two questions whether the asker is still there."""
_DYING_SECONDS = 10.0
_CONFLICTS = frozenset({"weights_missing", "weights_refused", "model_unsupported", "data_missing", "data_changed"})
_log = logging.getLogger("app.asks")
Gone = Callable[[], Awaitable[bool]]
"""Whether whoever asked has left meanwhile."""


class Asks:
    """The questions of one process of the platform. `ask` is called on its event loop."""

    def __init__(self, data_dir: Path, executor: Executor, *, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._root = data_dir.resolve() / "asks"
        self._folder = self._root / new_id()
        self._executor = executor
        self._slots = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._asked = 0
        self._guard: int | None = None

    def open(self) -> None:
        """Remove what a crash left, and mark this process's own folder as alive."""
        self._root.mkdir(parents=True, exist_ok=True)
        sweep(self._root, self._executor)
        self._guard = open_shared(_guard_of(self._folder))
        try_lock(self._guard)
        self._folder.mkdir()

    def close(self) -> None:
        if self._guard is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._guard)
            self._guard = None
            _guard_of(self._folder).unlink(missing_ok=True)

    async def ask(self, spec: PreviewSpec | TrialSpec, *, seconds: float, gone: Gone | None = None) -> bytes:
        """The answer, as JSON; it may take `seconds`, once it is worked on.

        Raises `Unavailable` where too much is asked at once, where it takes too long or the machine fails, `Conflict`
        or `Invalid` where what was asked for cannot be had.
        """
        reason = self._executor.unavailable()
        if reason is not None:
            raise Unavailable(reason, code="executor_unavailable")
        async with self._turn():
            return await self._answer(spec, seconds, gone)

    async def child(self, command: Sequence[str], *, seconds: float, what: str) -> bytes:
        """What a small program prints, which needs no tensor. Raises `Unavailable` as `ask` does."""
        async with self._turn():
            process = await asyncio.create_subprocess_exec(
                *command, cwd=BACKEND, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
            )
            try:
                printed, _ = await asyncio.wait_for(process.communicate(), seconds)
            except TimeoutError:
                raise Unavailable(f"The {what} took longer than {seconds:g} s.", code="took_too_long") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await asyncio.shield(process.wait())
            return printed

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for one's turn; whoever comes when too many wait is refused."""
        if self._asked >= self._most:
            raise Unavailable(f"{self._asked} questions are asked already; try again in a moment.", code="too_busy")
        self._asked += 1
        try:
            async with self._slots:
                yield
        finally:
            self._asked -= 1

    async def _answer(self, spec: PreviewSpec | TrialSpec, seconds: float, gone: Gone | None) -> bytes:
        directory = self._folder / spec.run_id
        submitted = asyncio.create_task(asyncio.to_thread(self._submit, spec, directory))
        try:
            handle = await asyncio.shield(submitted)
            event = await self._ending(directory, handle, seconds, gone, what=spec.task)
            if event["type"] != "finished":
                raise _refusal(event)
            return await asyncio.to_thread((directory / RESULT).read_bytes)
        finally:
            # Also where the server cancels this very task: nothing may go on working for nobody.
            await asyncio.shield(self._end(directory, submitted))

    def _submit(self, spec: PreviewSpec | TrialSpec, directory: Path) -> Handle:
        try:
            directory.mkdir()
            (directory / SPEC).write_text(spec.model_dump_json())
            return self._executor.submit(directory, attempt=1)
        except SubmitFailed as error:
            raise Unavailable(str(error), code="process_died") from None

    async def _ending(self, directory: Path, handle: Handle, seconds: float, gone: Gone | None, *, what: str) -> Event:
        """The last event of the process. Raises `Unavailable` where there will be none."""
        deadline = time.monotonic() + seconds
        offset, look, dead = 0, 0, False
        while True:
            events, offset = read_events(directory / EVENTS, offset=offset)
            for event in events:
                if event.get("type") in TERMINAL and event.get("seq"):
                    return event
            if dead:
                self._tell(directory)
                raise Unavailable(
                    f"The process of the {what} ended without a word; memory is the usual cause.", code="process_died"
                )
            if time.monotonic() > deadline:
                raise Unavailable(f"The {what} took longer than {seconds:g} s and was ended.", code="took_too_long")
            look += 1
            if look % _LOOKS_UNTIL_GONE == 0:
                if gone is not None and await gone():
                    raise Unavailable("Whoever asked went away.", code="asker_gone")
                # One more look at the log follows: it may have ended between the two.
                dead = not await asyncio.to_thread(self._executor.poll, directory, handle)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end(self, directory: Path, submitted: asyncio.Task[Handle]) -> None:
        await asyncio.wait([submitted])
        handle = submitted.result() if submitted.exception() is None else {}
        await asyncio.to_thread(self._remove, directory, handle)

    def _remove(self, directory: Path, handle: Handle) -> None:
        end(self._executor, directory, handle)
        remove(directory)

    @staticmethod
    def _tell(directory: Path) -> None:
        log = directory / LOG
        said = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        _log.error("a process ended without a word: %s", said)


def end(executor: Executor, directory: Path, handle: Handle) -> None:
    """Kill whoever still works on a directory, and see it gone."""
    deadline = time.monotonic() + _DYING_SECONDS
    while executor.poll(directory, handle) and time.monotonic() < deadline:
        executor.cancel(directory, handle, force=True)
        time.sleep(0.02)


def remove(directory: Path) -> None:
    """Take away a directory in which a process that was just killed may still be writing its last line."""
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.02)
    _log.warning("the folder %s could not be removed; the next start tries again", directory.name)


def sweep(root: Path, executor: Executor) -> list[str]:
    """End and remove the questions of processes that are gone; returns their folders' names.

    A folder whose owner still holds its lock belongs to another process of the platform and is left alone.
    """
    for guard in root.glob(f"*{ALIVE}"):
        descriptor = open_shared(guard)
        try:
            if try_lock(descriptor):
                guard.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    abandoned = [path for path in root.iterdir() if path.is_dir() and not _guard_of(path).exists()]
    for folder in abandoned:
        for directory in folder.iterdir():
            end(executor, directory, {})
        remove(folder)
    return [folder.name for folder in abandoned]


def _guard_of(folder: Path) -> Path:
    """The file that a living process keeps locked, beside the folder of its questions."""
    return folder.with_name(f"{folder.name}{ALIVE}")


def _refusal(event: Event) -> PlatformError:
    """A failure that the process told of, as the answer to the request."""
    code = str(event.get("code", "cancelled"))
    message = f"{event.get('message', 'It was cancelled.')} {event.get('hint', '')}".strip()
    if code in _CONFLICTS:
        return Conflict(message, code=code)
    if event.get("fault") == "user":
        return Invalid(message, code=code, errors=(FieldError("body", message),))
    return Unavailable(message, code=code)
