"""Asks the warm process to fork a run. Standard library only, so that the platform may import it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ANSWER_SECONDS = 10.0
SOCKET = "warm.sock"
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""No telemetry; and no thread pool at import, because a process with threads must not fork."""


@cache
def source_digest() -> str:
    """Of the training library as it was when this process first asked: a reload must not fork old code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


class WarmProcess:
    """Owns one warm process: it lives while this object's pipe is open, and ends by itself when the owner dies."""

    def __init__(self, data_dir: Path, *, python: str = sys.executable) -> None:
        self._data_dir = data_dir
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._digest = ""

    @staticmethod
    def possible() -> bool:
        """Forking after these imports is sound on Linux only."""
        return sys.platform == "linux"

    def start(self) -> None:
        """Start it where it does not run; returns at once, the imports take seconds."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        # AF_UNIX paths are limited to about 107 bytes; a data folder may lie deeper than that.
        self._folder = Path(tempfile.mkdtemp(prefix="slm-warm-"))
        self._digest = source_digest()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with (self._data_dir / "warm.log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "slm.warm", str(self._folder / SOCKET)],
                cwd=PACKAGE.parent,
                env={**os.environ, **QUIET},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Whether it has finished its imports and listens."""
        running = self._process is not None and self._process.poll() is None
        return running and self._folder is not None and (self._folder / SOCKET).exists()

    def fork_run(self, directory: Path) -> int | None:
        """Start `slm.run` on `directory` in a fork; its process id, or None where a plain start must do."""
        if not self.ready() or self._folder is None:
            return None
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self._folder / SOCKET))
                connection.sendall(json.dumps({"directory": str(directory)}).encode() + b"\n")
                answer = json.loads(connection.makefile().readline() or "{}")
        except (OSError, ValueError):
            return None
        return int(answer["pid"]) if "pid" in answer else None

    def stop(self) -> None:
        """Close the pipe; the process ends at once, the runs it forked live on."""
        if self._process is not None:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
