"""`python -m slm.run DIR`: carry out what `DIR/run.json` asks, alone, without any server.

Takes `run.lock` for its life, writes `events.jsonl`, resumes from the newest complete checkpoint by itself.
Exit codes: 0 finished, 1 failed (the log says why), 3 cancelled, 75 interrupted or the lock is held elsewhere.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from slm.errors import Cancelled, Interrupted, RunFailure
from slm.events import EVENTS, EventLog, RunLock, Stop, terminal_event
from slm.spec import Task, load_spec

FINISHED, FAILED, CANCELLED, TEMPORARY = 0, 1, 3, 75
TASKS = {
    "train": ("slm.train", "train"),
    "export": ("slm.export", "export"),
    "pull": ("slm.weights", "run_pull"),
    "evaluate": ("slm.scoring", "evaluate"),
    "predict": ("slm.predict", "predict"),
    "preview": ("slm.preview", "preview"),
    "trial": ("slm.trial", "trial"),
}
"""Task → (module, function) that carries it out: `(spec, directory, log, stop)`; imported only when asked for."""
_NO_MEMORY = ("can't allocate memory", "CUDA out of memory", "MPS backend out of memory", "not enough memory")
"""How torch says it on a processor, on CUDA, on MPS and on Windows; matched by text, so as not to import torch."""


def main(directory: Path) -> int:
    """Run one attempt to its end; returns the exit code. Everything that can be known of it is in the log."""
    _quiet_environment()
    lock = RunLock(directory)
    if not lock.acquire():
        return TEMPORARY
    try:
        try:
            spec = load_spec(directory)
        except (OSError, ValidationError) as error:
            print(f"run.json cannot be read: {error}", file=sys.stderr)
            return FAILED
        lock.note(attempt=spec.attempt)
        ended = terminal_event(directory / EVENTS, attempt=spec.attempt)
        if ended is not None:
            return {"finished": FINISHED, "cancelled": CANCELLED}.get(str(ended["type"]), FAILED)
        log = EventLog(directory, attempt=spec.attempt)
        try:
            return _carry_out(spec, directory, log)
        finally:
            log.close()
    finally:
        lock.release()


def _carry_out(spec: Task, directory: Path, log: EventLog) -> int:
    stop = Stop(directory)
    stop.listen()
    log.beat("loading")
    try:
        if spec.task not in TASKS:
            raise RunFailure("spec_invalid", f"run.json asks for '{spec.task}', which needs no process.")
        module, name = TASKS[spec.task]
        getattr(importlib.import_module(module), name)(spec, directory, log, stop)
    except Cancelled as outcome:
        log.append("cancelled", step=outcome.step, checkpoint=outcome.checkpoint)
        return CANCELLED
    except Interrupted:
        failure = RunFailure("interrupted", "The process was asked to stop (SIGTERM) without a recorded cancel.")
        log.append("failed", payload=failure.as_event())
        return TEMPORARY
    except Exception as error:  # noqa: BLE001 - the top of the process: every reason must reach the log
        traceback.print_exc()
        log.append("failed", payload=_failure(error).as_event())
        return FAILED
    return FINISHED


def _failure(error: Exception) -> RunFailure:
    """The reason that a person can act on."""
    if isinstance(error, RunFailure):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFailure("disk_full", "The disk is full; the run could not write its files.")
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
        return RunFailure("out_of_memory", "The machine's memory was not enough for this run.")
    if "No space left on device" in text:
        return RunFailure("disk_full", "The disk is full; the run could not write its files.")
    return RunFailure("unexpected", f"{type(error).__name__}: {text[:500] or 'no message'}")


def _quiet_environment() -> None:
    """No telemetry, no network: a run reads what lies on this machine (a pull opens the network for itself)."""
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
        DO_NOT_TRACK="1",
        TOKENIZERS_PARALLELISM="false",
        TRANSFORMERS_NO_ADVISORY_WARNINGS="1",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m slm.run DIR")
    sys.exit(main(Path(sys.argv[1]).resolve()))
