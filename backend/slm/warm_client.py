"""Owns the warm process and asks it to fork runs. Standard library only, so that the platform may import it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
ANSWER_SECONDS = 10.0
SOCKET = "warm.sock"
LONGEST_PATH = 90
"""Bytes; the kernel's limit for a socket's path is 107, and it is bound under a longer name first."""
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "warning",
    "PYTHONUNBUFFERED": "1",
}
"""For every process that trains: no telemetry, no network unless it is a pull, no thread pool of tokenizers."""
UNTHREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
"""For the warm process besides: no thread (of NumPy's algebra, of Arrow's allocator where some library brings it) and
no CUDA context at import, because neither survives a fork."""


def source_digest() -> str:
    """Of the training library as it lies on disk now: old code must not be forked after it was changed."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def socket_path(data_dir: Path) -> Path:
    """The warm process's, in the data folder or as `private_socket` has it. Raises `OSError`."""
    return private_socket(data_dir.resolve() / SOCKET)


def private_socket(path: Path) -> Path:
    """`path`, or where that is too long for a socket, one in a private folder among the temporary ones.

    Raises `OSError` where that private folder belongs to someone else.
    """
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    private = Path(tempfile.gettempdir()) / f"slm-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{private} is not a private folder of this user")
    return private / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


class WarmProcess:
    """Owns one warm process: it lives while this object's pipe is open, and ends by itself when the owner dies."""

    def __init__(self, data_dir: Path, *, python: str = sys.executable) -> None:
        self._data_dir = data_dir
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._path: Path | None = None
        self._digest = ""
        self._was_ready = False
        self._unfit = False

    @staticmethod
    def possible() -> bool:
        """Forking after these imports is sound on Linux only."""
        return sys.platform == "linux"

    @property
    def pid(self) -> int | None:
        """Of the living warm process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it where it does not run; returns at once, the imports take seconds.

        Does nothing where it cannot work here: runs are then started plainly.
        """
        if self.pid is not None or self._unfit:
            return
        self.stop()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._path = socket_path(self._data_dir)
        except OSError:
            self._unfit = True
            return
        self._digest, self._was_ready = source_digest(), False
        with (self._data_dir / "warm.log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "slm.warm", str(self._path), self._digest],
                cwd=PACKAGE.parent,
                env={**os.environ, **QUIET, **UNTHREADED},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Whether it has finished its imports and answers."""
        if self.pid is None or self._path is None:
            return False
        answer = ask(self._path, {"digest": self._digest})
        self._was_ready = self._was_ready or answer.get("ready") is True
        return answer.get("ready") is True

    def fork_run(self, directory: Path) -> int | None:
        """Start `slm.run` on `directory` in a fork; its process id, or None where a plain start must do.

        A process that died after it had worked, or whose code is not that on disk any more, is replaced meanwhile.
        Who owns none asks the one of the same data folder, which another process of the platform may own.
        """
        if self._process is None or self._path is None:
            return self._borrowed(directory)
        if self.pid is None:
            self._unfit = self._unfit or not self._was_ready
            self.start()
            return None
        if source_digest() != self._digest:
            self.stop()
            self.start()
            return None
        answer = ask(self._path, {"digest": self._digest, "directory": str(directory)})
        if "pid" not in answer:
            return None
        self._was_ready = True
        return int(answer["pid"])

    def _borrowed(self, directory: Path) -> int | None:
        try:
            path = socket_path(self._data_dir)
        except OSError:
            return None
        if not path.exists():
            return None
        answer = ask(path, {"digest": source_digest(), "directory": str(directory)})
        return int(answer["pid"]) if "pid" in answer else None

    def stop(self) -> None:
        """Close the pipe; the process ends at once, the runs it forked live on."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            # Still importing, so it does not listen to the pipe yet.
            self._process.kill()
            self._process.wait()
        self._process = None


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One request to a warm process; empty where nobody answers properly."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile().readline() or "{}")
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}
