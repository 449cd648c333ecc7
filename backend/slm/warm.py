"""A process with the training libraries imported and no tensor made; it forks runs that begin in a second or two.

`python -m slm.warm SOCKET`, with a pipe as standard input: end-of-file there ends it. Single-threaded, and it never
runs a tensor operation or touches CUDA, because neither OpenMP nor CUDA survives a fork. Every run is forked twice
into its own session, so that it has no parent here and outlives this process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

from slm.events import LOG
from slm.run import main as run_main

PRELOADED = (
    "torch",
    "transformers.trainer",
    "peft",
    "safetensors.torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.qwen2.modeling_qwen2",
    "slm.train",
)


def serve(path: Path) -> None:
    """Import, then listen until standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        sys.exit(f"{threads} threads run after the imports; forking would not be sound")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name first: whoever sees the socket may connect.
    hidden = path.with_suffix(".new")
    listener.bind(str(hidden))
    listener.listen(8)
    hidden.rename(path)
    while True:
        readable, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 4096):
            return
        if listener in readable:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError, ValueError, KeyError):
                connection.settimeout(5)
                request = json.loads(connection.makefile().readline())
                pid = fork_run(Path(request["directory"]))
                connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def fork_run(directory: Path) -> int:
    """Fork twice; returns the process id of the run, which belongs to no one here."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        child = os.fork()
        if child == 0:
            _become_run(directory)
        os.write(writing, str(child).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(middle, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    return pid


def _become_run(directory: Path) -> None:
    """In the grandchild: own session, clean signals, closed descriptors, own log; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 65536)
        code = run_main(directory)
    except BaseException:  # noqa: BLE001 - nothing above may run in this process: it would answer as the server
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m slm.warm SOCKET")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Path(sys.argv[1]))
