"""A process with the training libraries imported and no tensor made; it forks what begins in a second or two.

`python -m slm.warm SOCKET DIGEST`, with a pipe as standard input: end-of-file there ends it; its runs live on.
Single-threaded, and it never runs a tensor operation or touches CUDA, because neither OpenMP nor CUDA survives a fork.
Each is forked twice into its own session, so that it has no parent here and outlives this process.
Spoken on the socket: one line of JSON each way; `warm_client` is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from slm.events import LOG
from slm.run import main as run_main
from slm.serve import main as serve_main
from slm.warm_client import source_digest

PRELOADED = (
    "torch",
    "transformers.trainer",
    "peft",
    "safetensors.torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.bert.modeling_bert",
    "slm.train",
    "slm.preview",
    "slm.trial",
)
_REQUEST_SECONDS = 5.0
_RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)


def serve(path: Path, digest: str) -> None:
    """Import, then answer at `path` until standard input ends. Exits with a sentence where no fork would be sound."""
    for name in PRELOADED:
        importlib.import_module(name)
    if (reason := unsound(digest)) is not None:
        sys.exit(reason)
    # What is imported is never garbage: a collector that looked at it in a fork would copy its pages.
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name first: whoever sees the socket may connect.
    hidden = path.with_name(f"{path.name}.{os.getpid()}")
    listener.bind(str(hidden))
    hidden.chmod(0o600)
    listener.listen(8)
    mine = hidden.stat().st_ino
    hidden.rename(path)
    try:
        while True:
            readable, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
            if sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 4096):
                return
            if listener in readable:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError, ValueError):
                    connection.settimeout(_REQUEST_SECONDS)
                    request = json.loads(connection.makefile().readline())
                    connection.sendall(json.dumps(_answer(request, digest)).encode() + b"\n")
    finally:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == mine:
                path.unlink()


def unsound(digest: str) -> str | None:
    """Why a fork of this process would not be a sound run, or None."""
    import torch

    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        return f"{threads} threads run after the imports; a fork would lose all but one, with the locks they hold"
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "CUDA was initialised by an import; it does not survive a fork"
    if source_digest() != digest:
        return "the source changed while it was being imported"
    return None


def _answer(request: Any, digest: str) -> dict[str, Any]:
    if not isinstance(request, dict) or request.get("digest") != digest:
        return {"digest": digest}
    if "serve" in request:
        return {"digest": digest, "pid": fork_run(Path(str(request["serve"])), serve_main)}
    if "directory" not in request:
        return {"digest": digest, "ready": True}
    return {"digest": digest, "pid": fork_run(Path(str(request["directory"])))}


def fork_run(directory: Path, work: Callable[[Path], int] = run_main) -> int:
    """Fork twice; returns the process id of the run, which belongs to no one here. Raises `OSError`, `ValueError`."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            child = os.fork()
            if child == 0:
                _become_run(directory, work)
            os.write(writing, str(child).encode())
        finally:
            os._exit(0)  # whatever went wrong, there must not be a second server
    os.close(writing)
    os.waitpid(middle, 0)
    try:
        return int(os.read(reading, 32))
    finally:
        os.close(reading)


def _become_run(directory: Path, work: Callable[[Path], int]) -> NoReturn:
    """In the grandchild: own session, clean signals, closed descriptors, own log."""
    code = 1
    try:
        os.setsid()
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 65536)
        sys.argv = [work.__module__, str(directory)]
        code = work(directory)
    except BaseException:  # noqa: BLE001 - nothing above may run in this process: it would answer as the server
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m slm.warm SOCKET DIGEST")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Path(sys.argv[1]), sys.argv[2])
