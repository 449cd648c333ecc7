"""Work shared out to forked processes, which answer in order through pipes; for single-threaded programs on Linux.

A forked process has the whole state of its parent, its seed of hashes too, and costs milliseconds. It never outlives
its parent: the kernel kills it where the parent dies, and the end of `at_work` ends those still at work.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

MOST = 4
_CRASHED = 255
"""Exit status; a smaller one is the number of an operating system's error."""
_PR_SET_PDEATHSIG = 1
_THREADS = Path("/proc/self/task")

Answer = TypeVar("Answer")


class Lost(Exception):
    """A forked process ended without an answer: it was killed, perhaps for lack of memory, or it crashed."""


class Claims:
    """The numbers below `count` (255 at most), each for whichever of the processes asks first, in ascending order.

    A pipe holds them, which the processes that are forked meanwhile inherit. Close it when all have been forked and
    have answered.
    """

    def __init__(self, count: int) -> None:
        self._reading, writing = os.pipe()
        os.write(writing, bytes(range(count)))
        os.close(writing)

    def __iter__(self) -> Iterator[int]:
        while claimed := os.read(self._reading, 1):
            yield claimed[0]

    def close(self) -> None:
        os.close(self._reading)


def width() -> int:
    """How many processes may share a piece of work: usable cores, at most four; 1 where forking would not be sound."""
    if sys.platform != "linux" or len(list(_THREADS.iterdir())) > 1:
        return 1
    return min(MOST, len(os.sched_getaffinity(0)))


@contextmanager
def at_work(tasks: Sequence[Callable[[], Answer]]) -> Iterator[Iterator[Answer]]:
    """All tasks at work at the same time, until the context ends: what each returns, in order, as it is asked for.

    Asking raises `OSError` where a task met one (by its number alone), or `Lost`.
    """
    children: list[_Child] = []
    try:
        for task in tasks:
            children += [_forked(task)]
        yield (child.answer() for child in children)
    finally:
        for child in children:
            child.end()


@dataclass
class _Child:
    pid: int
    pipe: IO[bytes]
    ended: bool = False

    def answer(self) -> Any:
        """What its task returned. The process may still be ending: its memory is given back meanwhile."""
        written = self.pipe.read()
        try:
            return pickle.loads(written)  # noqa: S301  (written by this very program)
        except (EOFError, pickle.UnpicklingError):
            code = self._wait()
        if 0 < code < _CRASHED:
            raise OSError(code, os.strerror(code))
        raise Lost(f"A process that read a part of the file ended early (exit status {code}).")

    def end(self) -> None:
        """Wait for it; where its answer was not asked for, do not wait long."""
        self.pipe.close()
        if not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.ended = True
        return os.waitstatus_to_exitcode(status)


def _forked(task: Callable[[], object]) -> _Child:
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _answer(task, writing, parent)
    os.close(writing)
    return _Child(pid, os.fdopen(reading, "rb"))


def _answer(task: Callable[[], object], writing: int, parent: int) -> NoReturn:
    status = _CRASHED
    try:
        _die_with(parent)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(task(), pipe, protocol=pickle.HIGHEST_PROTOCOL)
        status = 0
    except OSError as error:
        status = error.errno or _CRASHED
    finally:  # neither the parent's `finally` clauses nor its exit functions are this process's to run
        if status == _CRASHED:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(_CRASHED)
