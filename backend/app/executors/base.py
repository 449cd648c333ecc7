"""The seam between supervisor and machines: submit a run directory, ask after it, stop it.

An executor knows folders and processes, never rows. The supervisor is the only caller. What the run did is read from
`events.jsonl`, never from the executor: `poll` says only whether somebody still works on the directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

Handle = dict[str, Any]
"""What finds the work again after a restart of the service; JSON, stored with the run."""


class SubmitFailed(Exception):
    """The work could not be started; the message is a sentence for a person. Trying again may help."""


class Executor(Protocol):
    name: str
    simulated: bool
    uses_slot: bool
    """Whether a run on it waits for one of `max_concurrent_runs`."""

    def unavailable(self) -> str | None:
        """A sentence saying why this executor cannot work here, or None where it can."""
        ...

    def submit(self, directory: Path, *, attempt: int) -> Handle:
        """Start the attempt described by `run.json`. Harmless to repeat: work already started is found, not doubled.

        Raises `SubmitFailed`.
        """
        ...

    def poll(self, directory: Path, handle: Handle) -> bool:
        """Whether somebody still works on the directory. False is final once the log holds no terminal event."""
        ...

    def cancel(self, directory: Path, handle: Handle, *, force: bool) -> None:
        """Nudge the work to stop (the cancel marker is there already); with `force`, end the process group now."""
        ...
