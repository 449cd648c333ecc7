"""A supervised process on this machine: forked from the warm process where there is one, else started plainly.

The process owns its session, so it outlives the service; it is found again by the lock on its directory and, before it
takes that, by its process id and start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from app.executors.base import Handle, SubmitFailed
from slm.events import LOG, lock_holder
from slm.warm_client import WarmProcess

PACKAGES = Path(__file__).resolve().parent.parent.parent


class LocalExecutor:
    name = "local"
    simulated = False
    uses_slot = True

    def __init__(self, data_dir: Path, *, warm: bool = True, python: str = sys.executable) -> None:
        self._python = python
        self._warm = WarmProcess(data_dir, python=python) if warm and WarmProcess.possible() else None
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def unavailable(self) -> str | None:
        from importlib.util import find_spec

        missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
        return f"{', '.join(missing)} are not installed in this environment." if missing else None

    def prepare(self) -> None:
        """Bring up the warm process, so that the first run starts in seconds. Does not wait."""
        if self._warm is not None:
            self._warm.start()

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
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise SubmitFailed(f"The training process could not be started: {error.strerror}.") from error
        self._children[child.pid] = child
        return _handle(child.pid, via="spawn")

    def poll(self, directory: Path, handle: Handle) -> bool:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]
        return lock_holder(directory) is not None or _process(handle) is not None

    def cancel(self, directory: Path, handle: Handle, *, force: bool) -> None:
        holder = lock_holder(directory)
        process = _process(
            handle if holder is None or "pid" not in holder else _handle(int(holder["pid"]), via="found")
        )
        if process is None:
            return
        try:
            if force:
                _kill_group(process)
            else:
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
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        started = 0.0
    return {"pid": pid, "started": started, "via": via}


def _process(handle: Handle) -> psutil.Process | None:
    """The living process of a handle; another process that got the same number later is not it."""
    try:
        process = psutil.Process(int(handle["pid"]))
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - float(handle["started"])) < 1 else None
    except (psutil.NoSuchProcess, KeyError):
        return None


def leftovers(runs_dir: Path) -> list[Path]:
    """Run directories on which a process is working now."""
    if not runs_dir.is_dir():
        return []
    return [path for path in runs_dir.iterdir() if path.is_dir() and lock_holder(path) is not None]
