"""Owns serving processes and talks to them; `slm.serve` is the other side. Standard library and `slm.spec` only, so
that the platform may import it.

Lines of JSON over a private Unix socket (a loopback port and a token where there are none). The owner keeps one
connection open for as long as it wants the process to live: when the last owner's connection ends, with a word or
with the owner's death, the process ends. Each question has a connection of its own; closing it stops the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slm.events import LOG, write_atomic
from slm.files import open_shared, try_lock
from slm.spec import ModelRef
from slm.warm_client import PACKAGE, QUIET, ask, socket_path, source_digest

SPEC, ADDRESS, LOCK = "serve.json", "address.json", "serve.lock"
START_SECONDS = 120.0
_LOOK_SECONDS = 0.05
_LONGEST_LINE = 4 << 20


class ServingFailed(Exception):
    """A serving process did not start or has died; the message is a sentence for a person."""


@dataclass(frozen=True)
class Wish:
    """One question: a conversation, or a prompt. `sides` are adapter folders, None for the base without any."""

    sides: tuple[str | None, ...]
    messages: tuple[dict[str, str], ...] = ()
    prompt: str | None = None
    manner: str = "question"
    """What a prompt is: a `question`, a `text` to go on with, or `either`: a text where there is no chat template."""
    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int | None = None
    stop: tuple[str, ...] = ()


def parse_wish(document: dict[str, Any]) -> Wish:
    """A wish from its JSON form. Raises `TypeError`, `KeyError`."""
    lists = {key: tuple(document[key]) for key in ("sides", "messages", "stop")}
    return Wish(**{**document, **lists})


@dataclass(frozen=True)
class ServeSpec:
    """What a serving process loads, and its bounds."""

    model: ModelRef
    context: int
    """Tokens of a conversation at most, the answer included."""
    threads: int | None

    @property
    def key(self) -> str:
        """The same for what is the same weights: the folders and what lies in them now."""
        folders = (self.model.path, *self.model.adapters)
        digest = hashlib.sha256(f"{self.context}\0".encode())
        for folder in folders:
            digest.update(folder.encode() + b"\0")
            for path in sorted(Path(folder).glob("*.safetensors")):
                found = path.stat()
                digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\0".encode())
        return digest.hexdigest()[:16]

    def memory_bytes(self) -> int:
        """What loading it takes: 32-bit weights, room to load them, the libraries, two full conversations."""
        return round(1.1 * 4 * _parameters(Path(self.model.path))) + _LIBRARIES + 2 * self._cache_bytes()

    def _cache_bytes(self) -> int:
        config = json.loads((Path(self.model.path) / "config.json").read_bytes())
        layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
        heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
        hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
        width = int(config.get("head_dim") or hidden // max(1, heads)) * int(config.get("num_key_value_heads") or heads)
        longest = int(config.get("max_position_embeddings") or config.get("n_positions") or self.context)
        return 2 * 4 * layers * width * min(self.context, longest)


_LIBRARIES = 600 << 20
"""Of a process that was not forked: torch, transformers and PEFT imported."""


def _parameters(folder: Path) -> int:
    """Numbers in a folder's safetensors, from their headers alone."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        for name, tensor in header.items():
            if name != "__metadata__":
                count = 1
                for size in tensor["shape"]:
                    count *= size
                total += count
    return total


class ServingProcess:
    """One serving process, from its owner's side. Not thread-safe: belongs to one event loop."""

    def __init__(self, data_dir: Path, spec: ServeSpec, *, warm: bool = True, python: str = sys.executable) -> None:
        self.spec = spec
        self.key = spec.key
        self.directory = data_dir.resolve() / "serving" / self.key
        self._data_dir = data_dir
        self._warm = warm
        self._python = python
        self._writer: asyncio.StreamWriter | None = None
        self._watch: asyncio.Task[None] | None = None
        self.pid: int | None = None
        self.via = ""
        """How it came about: `warm` (forked), `spawn`, `found` (it ran already)."""

    @property
    def alive(self) -> bool:
        return self._watch is not None and not self._watch.done()

    async def start(self) -> None:
        """Start it where nobody serves these weights yet, and become its owner. The weights load behind that.

        Raises `ServingFailed`.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.via = "found"
        if await self._own():
            return
        (self.directory / ADDRESS).unlink(missing_ok=True)
        document = {"model": self.spec.model.model_dump(mode="json"), **self._bounds()}
        write_atomic(self.directory / SPEC, json.dumps(document).encode())
        (self.directory / LOG).write_bytes(b"")
        child = await asyncio.to_thread(self._launch)
        deadline = time.monotonic() + START_SECONDS
        while not await self._own():
            if child is not None and child.poll() is not None:
                raise ServingFailed(f"The process that serves '{self.spec.model.name}' did not start: {self._last()}")
            if time.monotonic() > deadline:
                raise ServingFailed(
                    f"The process that serves '{self.spec.model.name}' did not start within {START_SECONDS:g} s."
                )
            await asyncio.sleep(_LOOK_SECONDS)

    def _bounds(self) -> dict[str, Any]:
        return {"context": self.spec.context, "threads": self.spec.threads}

    def _launch(self) -> subprocess.Popen[bytes] | None:
        """Forked from the warm process of the data folder where there is one; else a process of its own."""
        if self._warm and self._forked():
            self.via = "warm"
            return None
        self.via = "spawn"
        with (self.directory / LOG).open("ab") as log:
            child = subprocess.Popen(
                [self._python, "-m", "slm.serve", str(self.directory)],
                cwd=PACKAGE.parent,
                env={**os.environ, **QUIET},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Somebody has to take leave of the child when it ends, or it would stay as a zombie while the owner lives.
        threading.Thread(target=child.wait, name=f"serving {child.pid}", daemon=True).start()
        return child

    def _forked(self) -> bool:
        if sys.platform != "linux":
            return False
        try:
            path = socket_path(self._data_dir)
        except OSError:
            return False
        return path.exists() and "pid" in ask(path, {"digest": source_digest(), "serve": str(self.directory)})

    async def _own(self) -> bool:
        """Open the owner's connection; False where nobody listens."""
        try:
            reader, writer = await self._connect({"role": "owner"})
            greeting = json.loads(await reader.readline() or b"{}")
        except (OSError, ValueError):
            return False
        if "pid" not in greeting:
            writer.close()
            return False
        self.pid, self._writer = int(greeting["pid"]), writer
        self._watch = asyncio.create_task(_until_end(reader))
        return True

    async def _connect(self, first: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = json.loads((self.directory / ADDRESS).read_bytes())
        if "socket" in address:
            reader, writer = await asyncio.open_unix_connection(address["socket"], limit=_LONGEST_LINE)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", address["port"], limit=_LONGEST_LINE)
        writer.write(json.dumps({"token": address["token"], **first}).encode() + b"\n")
        await writer.drain()
        return reader, writer

    async def ask(self, wish: Wish) -> AsyncGenerator[dict[str, Any], None]:
        """The answer line by line: `accepted`, `words` …, `done`; or `refused`, `failed`. Leaving it stops the answer.

        Raises `ServingFailed` where the process dies meanwhile.
        """
        writer = None
        try:
            reader, writer = await self._connect({"role": "question", "wish": asdict(wish)})
            while line := await reader.readline():
                answer = json.loads(line)
                yield answer
                if answer["event"] in ("done", "refused", "failed"):
                    return
        except (OSError, ValueError):
            pass  # said below: however the connection ended, the process is gone
        finally:
            if writer is not None:
                writer.close()
        raise ServingFailed(
            f"The process that serves '{self.spec.model.name}' ended in mid-answer; memory is the usual cause. "
            "Ask again: a fresh one is started."
        )

    async def limit_threads(self, threads: int | None) -> None:
        """From the next token on, compute with so many threads; None for as many as it began with."""
        if self._writer is not None and self.alive:
            self._writer.write(json.dumps({"threads": threads}).encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def stop(self, *, seconds: float = 10.0) -> None:
        """Let go of it; it ends unless another owner holds it. Waits so long until its memory is free."""
        if self._writer is None or self._watch is None:
            return
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._watch), seconds)
        self._writer.close()
        self._watch.cancel()

    def _last(self) -> str:
        """The last line that the process wrote."""
        text = (self.directory / LOG).read_text(errors="replace").strip()
        return text.splitlines()[-1][:300] if text else "it said nothing."


def sweep(data_dir: Path) -> None:
    """Remove the directories of serving processes that are no more; those that somebody serves are left alone."""
    for directory in (data_dir.resolve() / "serving").glob("*"):
        if not (directory / LOCK).is_file():
            continue
        descriptor = open_shared(directory / LOCK)
        try:
            if try_lock(descriptor):
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(descriptor)


async def _until_end(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass
