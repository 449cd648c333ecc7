"""`python -m slm.serve DIR`: load the base that `DIR/serve.json` names and answer questions, until nobody owns it.

One thread listens, one generates; questions are answered in the order in which they came. A question whose asker has
gone is dropped, also in the middle of an answer. Ends when the last owner's connection does, so that it never outlives
the service; a failure that nobody foresaw ends it too, and the next question finds a fresh process. Lines are described
in `slm.serve_client`. Exit codes: 0 nobody owns it any more, 1 a defect, 75 another process serves this directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import secrets
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from slm import limits
from slm.errors import RunFailure
from slm.files import open_shared, try_lock
from slm.serve_client import ADDRESS, LOCK, SPEC, Wish, parse_wish
from slm.spec import ModelRef
from slm.voice import Refused, Voice
from slm.warm_client import private_socket

UNOWNED_SECONDS = 30.0
"""Whoever started it died before it could say so."""
_LOCK_SECONDS = 10.0
_FIRST_LINE_SECONDS = 10.0
_LONGEST_LINE = 4 << 20
Line = dict[str, Any]


class Gone(Exception):
    """Whoever asked does not listen any more."""


@dataclass
class Question:
    """A wish, and how its asker is answered."""

    wish: Wish
    send: Callable[[Line], None]
    gone: threading.Event = field(default_factory=threading.Event)


class Server:
    """The listening side; `work` is the generating one."""

    def __init__(self, directory: Path) -> None:
        document = json.loads((directory / SPEC).read_bytes())
        self.directory = directory
        self.model = ModelRef.model_validate(document["model"])
        self.context = int(document["context"])
        self.threads = int(document["threads"] or limits.cores())
        self._wanted = self.threads
        self._questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._owners = 0
        self._socket: Path | None = None
        self._token = secrets.token_urlsafe(32)

    async def listen(self) -> None:
        """Answer until nobody owns it."""
        self._loop = asyncio.get_running_loop()
        self._owned, self._deserted = asyncio.Event(), asyncio.Event()
        threading.Thread(target=self.work, name="voice", daemon=True).start()
        listener = await self._open()
        try:
            await asyncio.wait_for(self._owned.wait(), UNOWNED_SECONDS)
            await self._deserted.wait()
        except TimeoutError:
            print("nobody came to own this process", file=sys.stderr)
        finally:
            listener.close()
            (self.directory / ADDRESS).unlink(missing_ok=True)
            if self._socket is not None:
                self._socket.unlink(missing_ok=True)

    async def _open(self) -> asyncio.Server:
        """Listen, then say where: whoever reads the address may connect."""
        if sys.platform == "win32":
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_LINE)
            address: Line = {"port": server.sockets[0].getsockname()[1]}
        else:
            for stale in self.directory.glob("*.sock"):
                stale.unlink(missing_ok=True)
            path = private_socket(self.directory / f"{os.getpid()}.sock")
            path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                server = await asyncio.start_unix_server(self._serve, path, limit=_LONGEST_LINE)
            finally:
                os.umask(before)
            self._socket, address = path, {"socket": str(path)}
        content = json.dumps({**address, "token": self._token, "pid": os.getpid()}).encode()
        hidden = self.directory / f".tmp-{ADDRESS}-{os.getpid()}"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        hidden.replace(self.directory / ADDRESS)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            first = json.loads(await asyncio.wait_for(reader.readline(), _FIRST_LINE_SECONDS))
            if not secrets.compare_digest(str(first["token"]), self._token):
                return
            if first["role"] == "owner":
                await self._be_owned(reader, writer)
            else:
                await self._take(parse_wish(first["wish"]), reader, writer)

    async def _be_owned(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owners += 1
        self._owned.set()
        try:
            writer.write(json.dumps({"pid": os.getpid()}).encode() + b"\n")
            while line := await reader.readline():
                self._wanted = max(1, int(json.loads(line)["threads"] or self.threads))
        finally:
            self._owners -= 1
            if self._owners == 0:
                self._deserted.set()

    async def _take(self, wish: Wish, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Put the question in line; it stays as long as its asker's connection does."""

        def send(line: Line) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(writer.write, json.dumps(line).encode() + b"\n")

        question = Question(wish, send)
        self._questions.put(question)
        try:
            while await reader.read(4096):
                pass
        finally:
            question.gone.set()

    def work(self) -> None:
        """The generating thread. What nobody foresaw ends the process: its weights cannot be trusted any more."""
        try:
            self._generate()
        except BaseException:  # noqa: BLE001 - a thread that died alone would leave every asker waiting
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _generate(self) -> None:
        torch.set_num_threads(self._wanted)
        try:
            voice = Voice(self.model, context=self.context)
        except RunFailure as failure:
            while True:
                self._questions.get().send(_failed(failure))
        while True:
            question = self._questions.get()
            try:
                if not question.gone.is_set():
                    self._answer(voice, question)
            except Gone:
                continue
            except Refused as refusal:
                question.send({"event": "refused", "code": refusal.code, "message": refusal.message})
            except RunFailure as failure:
                question.send(_failed(failure))

    def _answer(self, voice: Voice, question: Question) -> None:
        prompt = voice.prompt(question.wish)
        question.send({"event": "accepted", "prompt_tokens": len(prompt.ids)})

        def say(side: int, words: str) -> None:
            question.send({"event": "words", "side": side, "text": words})

        def check() -> None:
            if question.gone.is_set():
                raise Gone
            if torch.get_num_threads() != self._wanted:
                torch.set_num_threads(self._wanted)

        check()
        said = voice.answer(prompt, question.wish, say=say, check=check)
        question.send({"event": "done", "prompt_tokens": len(prompt.ids), "sides": list(map(asdict, said))})


def _failed(failure: RunFailure) -> Line:
    return {"event": "failed", **failure.as_event()}


def main(directory: Path) -> int:
    """Serve until nobody owns it; returns the exit code."""
    lock = open_shared(directory / LOCK)
    deadline = time.monotonic() + _LOCK_SECONDS
    while not try_lock(lock):
        if time.monotonic() > deadline:
            print("another process serves this directory", file=sys.stderr)
            return 75
        time.sleep(0.05)
    asyncio.run(_until_deserted(Server(directory)))
    return 0


async def _until_deserted(server: Server) -> None:
    await server.listen()
    # While the lock is held: nobody else begins here meanwhile. What a crash leaves is swept at the next start.
    shutil.rmtree(server.directory, ignore_errors=True)
    # An answer may be under way in the other thread; nobody waits for it, and nothing here is worth an orderly end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m slm.serve DIR")
    sys.exit(main(Path(sys.argv[1]).resolve()))
