"""A supervised process on this machine: forked from the warm process where there is one, else started plainly.

The process owns its session, so it outlives the service. It is found again by the lock on its directory and, before it
takes that, by its process id and the moment it began: a number alone may belong to another process by then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import psutil

from app.executors.base import Handle, SubmitFailed
from slm.events import LOG, birth, lock_holder
from slm.warm_client import QUIET, WarmProcess

PACKAGES = Path(__file__).resolve().parent.parent.parent
NEEDED = ("torch", "transformers", "peft", "safetensors")


class LocalExecutor:
    name = "local"
    simulated = False
    uses_slot = True

    def __init__(self, data_dir: Path, *, warm: bool = True, python: str = sys.executable) -> None:
        self._python = python
        self._warm = WarmProcess(data_dir, python=python) if warm and WarmProcess.possible() else None

    def unavailable(self) -> str | None:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if not missing:
            return None
        return f"The training libraries are not all installed in this environment ({', '.join(missing)} missing)."

    def prepare(self) -> None:
        """Bring up the warm process, so that the first run starts in seconds. Does not wait."""
        if self._warm is not None and self.unavailable() is None:
            self._warm.start()

    def warm(self) -> bool:
        """Whether the next run would be forked from a warm process."""
        return self._warm is not None and self._warm.ready()

    def close(self) -> None:
        """Let the warm process go; trainings live on."""
        if self._warm is not None:
            self._warm.stop()

    def submit(self, directory: Path, *, attempt: int) -> Handle:
        holder = lock_holder(directory)
        if holder is not None and "pid" in holder:
            return _handle(int(holder["pid"]), via="found")
        if self._warm is not None and (pid := self._warm.fork_run(directory)) is not None:
            return _handle(pid, via="warm")
        return self._spawn(directory)

    def _spawn(self, directory: Path) -> Handle:
        try:
            with (directory / LOG).open("ab") as log:
                child = subprocess.Popen(
                    [self._python, "-m", "slm.run", str(directory)],
                    cwd=PACKAGES,
                    env={**os.environ, **QUIET},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise SubmitFailed(f"The training process could not be started: {error.strerror}.") from error
        # Somebody has to take leave of the child when it ends, or it would stay as a zombie while the service lives.
        threading.Thread(target=child.wait, name=f"child {child.pid}", daemon=True).start()
        return _handle(child.pid, via="spawn")

    def poll(self, directory: Path, handle: Handle) -> bool:
        return lock_holder(directory) is not None or living(handle) is not None

    def cancel(self, directory: Path, handle: Handle, *, force: bool) -> None:
        process = _holder(directory) or living(handle)
        if process is None:
            return
        try:
            if force:
                _kill_group(process)
            elif os.name == "posix":  # elsewhere this would be the end without a checkpoint; the marker is enough
                process.terminate()
        except (psutil.NoSuchProcess, ProcessLookupError):
            return


def _kill_group(process: psutil.Process) -> None:
    """SIGKILL to the whole session where the process leads one, else to it alone."""
    if os.name == "posix" and os.getpgid(process.pid) == process.pid:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _handle(pid: int, *, via: str) -> Handle:
    return {"pid": pid, "birth": began(pid), "via": via}


def began(pid: int) -> float | None:
    """What tells a process from a later one of the same number; None where there is no such process."""
    ticks = birth(pid)
    if ticks is not None:
        return ticks
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def living(named: Handle) -> psutil.Process | None:
    """The living process that a handle or a lock names; another process that got its number later is not it."""
    if not isinstance(named.get("pid"), int) or named.get("birth") is None:
        return None
    try:
        process = psutil.Process(named["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    moment = began(process.pid)
    same = moment is not None and abs(moment - float(named["birth"])) < 1
    return process if alive and same else None


def _holder(directory: Path) -> psutil.Process | None:
    """The process that holds the directory's lock; what it wrote there is its own, for it emptied the file first."""
    holder = lock_holder(directory) or {}
    if isinstance(holder.get("pid"), int) and holder.get("birth") is None:
        holder = _handle(holder["pid"], via="found")
    return living(holder)


def leftovers(runs_dir: Path) -> list[Path]:
    """Run directories on which a process is working now."""
    if not runs_dir.is_dir():
        return []
    return [path for path in runs_dir.iterdir() if path.is_dir() and lock_holder(path) is not None]
