"""The log of a run directory: append numbered events that survive a crash, and tail them.

A line is one JSON object. Numbered lines (`seq` 1, 2, … over all attempts) are durable facts; lines of type `beat`
carry no number: they only say that the process lives. One writer at a time, guarded by `RunLock`; a torn last line
(power cut, full disk) is cut off by the next writer and never shown to a reader. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slm.errors import Cancelled, Interrupted
from slm.files import open_shared, read_at, sync_folder, try_lock

EVENTS, LOCK, CANCEL, LOG, SPEC = "events.jsonl", "run.lock", "cancel", "stdout.log", "run.json"
RESERVE = ".reserve"
"""A few blocks kept for the last event, so that a run on a full disk can still say why it failed."""
RESERVE_BYTES = 16 * 1024
TERMINAL = frozenset({"finished", "cancelled", "failed"})
BEAT = "beat"
BEAT_INTERVAL = 0.2
PROBE_SECONDS = 0.5
"""Whoever asks `lock_holder` holds a free lock for microseconds; a run must not take that for another run."""

Event = dict[str, Any]


def now() -> str:
    """The time as ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RunLock:
    """The lock that a process holds on its run directory while it lives; the kernel frees it when the process dies."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False where another process holds it."""
        fd = open_shared(self.path)
        deadline = time.monotonic() + PROBE_SECONDS
        while not try_lock(fd):
            if time.monotonic() > deadline:
                os.close(fd)
                return False
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        self._fd = fd
        self.note(attempt=0)
        return True

    def note(self, *, attempt: int) -> None:
        """Write who holds the lock, for `lock_holder`; attempt 0 until `run.json` is read."""
        if self._fd is None:
            raise RuntimeError("the lock is not held")
        holder = {"pid": os.getpid(), "birth": birth(os.getpid()), "attempt": attempt, "started_at": now()}
        content = json.dumps(holder).encode()
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, content)
        os.ftruncate(self._fd, len(content))

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def lock_holder(directory: Path) -> dict[str, Any] | None:
    """Who holds the run's lock (pid, birth, attempt, started_at), or None where nobody does.

    Empty while the holder is still writing its name.
    """
    if not (directory / LOCK).exists():
        return None
    try:
        fd = open_shared(directory / LOCK)
    except FileNotFoundError:
        return None
    try:
        if try_lock(fd):
            return None
        held = json.loads(read_at(fd, 4096, 0))
    except ValueError:
        return {}
    finally:
        os.close(fd)
    return held if isinstance(held, dict) else {}


def birth(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did: with the pid it names a process for good.

    Unlike a time of day it does not move when the clock is set. None where the process or `/proc` is not there.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


class EventLog:
    """Appends to `events.jsonl`. Each numbered event is one write and, where `durable`, one fsync."""

    def __init__(self, directory: Path, *, attempt: int) -> None:
        self.path = directory / EVENTS
        self.attempt = attempt
        self._reserve = directory / RESERVE
        self._fd = open_shared(self.path, append=True)
        self._cut_torn_line()
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(b"\0" * RESERVE_BYTES)
        self.seq = last_seq(self.path)
        self._last_beat = 0.0

    def append(
        self, type_: str, *, durable: bool = False, payload: dict[str, Any] | None = None, **fields: Any
    ) -> Event:
        """Write one numbered event. Raises `OSError` (a full disk) after cutting what was half written."""
        event: Event = {"seq": self.seq + 1, "attempt": self.attempt, "type": type_, "time": now()}
        event |= {**(payload or {}), **fields}
        try:
            self._write(event)
        except OSError:
            if type_ not in TERMINAL or not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._write(event)
        if durable or type_ in TERMINAL:
            os.fsync(self._fd)
        self.seq += 1
        return event

    def beat(self, phase: str, **payload: Any) -> None:
        """Say that the process lives; dropped when the last one is younger than 0.2 s."""
        clock = time.monotonic()
        if clock - self._last_beat < BEAT_INTERVAL:
            return
        self._last_beat = clock
        with contextlib.suppress(OSError):  # a full disk is told by the next event that matters
            self._write({"type": BEAT, "attempt": self.attempt, "time": now(), "phase": phase, **payload})

    def close(self) -> None:
        os.close(self._fd)
        self._reserve.unlink(missing_ok=True)

    def _write(self, event: Event) -> None:
        text = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = text.encode(errors="replace") + b"\n"  # half characters (surrogates) are in no file and no database
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._fd).st_size
        keep = size
        while keep > 0:
            start = max(0, keep - 65536)
            block = read_at(self._fd, keep - start, start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != size:
            os.ftruncate(self._fd, keep)


def read_events(path: Path, *, offset: int = 0, limit_bytes: int = 4 << 20) -> tuple[list[Event], int]:
    """Complete lines from byte `offset` on, numbered ones and beats, and the offset to go on from.

    A line that is not a JSON object is skipped (it can only be the remains of a crash). A missing file reads as empty.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(limit_bytes)
            end = block.rfind(b"\n")
            while end < 0 and len(block) == limit_bytes:
                limit_bytes *= 2
                file.seek(offset)
                block = file.read(limit_bytes)
                end = block.rfind(b"\n")
    except FileNotFoundError:
        return [], offset
    if end < 0:
        return [], offset
    events = []
    for line in block[: end + 1].split(b"\n"):
        try:
            event = json.loads(line) if line.strip() else None
        except ValueError:
            event = None
        if isinstance(event, dict):
            events.append(event)
    return events, offset + end + 1


def iter_events(path: Path) -> Iterator[Event]:
    """Every complete line from the beginning."""
    offset = 0
    while True:
        events, following = read_events(path, offset=offset)
        yield from events
        if following == offset:
            return
        offset = following


def last_seq(path: Path) -> int:
    """The highest sequence number in the log, 0 for none."""
    return max((event["seq"] for event in iter_events(path) if isinstance(event.get("seq"), int)), default=0)


def terminal_event(path: Path, *, attempt: int) -> Event | None:
    """The event that ended this attempt, if it has ended."""
    found = None
    for event in iter_events(path):
        if event.get("attempt") == attempt and event.get("type") in TERMINAL:
            found = event
    return found


def cancel_requested(directory: Path) -> dict[str, Any] | None:
    """The cancel marker's content (`save`), or None where nobody asked."""
    try:
        marker = json.loads((directory / CANCEL).read_bytes() or b"{}")
    except FileNotFoundError:
        return None
    except ValueError:
        return {"save": True}
    return marker if isinstance(marker, dict) else {"save": True}


class Stop:
    """Whether the run should end: its cancel marker, or SIGTERM. Asked at safe points, never in mid-step."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._terminated = False

    def listen(self) -> None:
        """Turn SIGTERM into an answer of `check`."""
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, _signum: int, _frame: object) -> None:
        self._terminated = True

    def check(self) -> None:
        """Raises `Cancelled` where the marker is there, else `Interrupted` after SIGTERM."""
        if cancel_requested(self._directory) is not None:
            raise Cancelled
        if self._terminated:
            raise Interrupted


def write_atomic(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees the old or the new content, never a half, also after a power cut."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
