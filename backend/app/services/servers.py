"""The serving processes of this service: one for each base that somebody talks to, started on demand.

Their memory is bounded: what would not fit makes the longest unused one go, and where none is idle it is refused. Who
asks waits in line, up to a bound. `tend` unloads what nobody talks to any more, and slows chats down while a training
runs. All of it happens on one event loop; the weights are in `slm.serve`'s processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from app.config import Settings
from app.errors import Conflict, Unavailable
from app.services import hardware
from slm import limits
from slm.files import readable
from slm.serve_client import ServeSpec, ServingFailed, ServingProcess, sweep
from slm.spec import ModelRef

TEND_SECONDS = 1.0


@dataclass
class Loaded:
    """A serving process and who uses it. `settled` once it has answered, so that its memory is really taken."""

    process: ServingProcess
    memory: int
    used: float
    talks: int = 0
    settled: bool = False
    limited: bool = False


class Servers:
    """`close` ends every process; they end by themselves where the service dies."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        free_memory: Callable[[], int] = limits.free_memory,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._free_memory = free_memory
        self._loaded: dict[str, Loaded] = {}
        self._admitting = asyncio.Lock()
        self._talks = 0
        self._training = False

    def open(self) -> None:
        """Remove what a crash left of earlier processes."""
        sweep(self._settings.data_dir)

    @property
    def loaded(self) -> list[ServingProcess]:
        """The processes that live, the longest unused first."""
        entries = sorted(self._loaded.values(), key=lambda entry: entry.used)
        return [entry.process for entry in entries if entry.process.alive]

    @contextmanager
    def in_line(self) -> Iterator[None]:
        """A place among those who are answered or wait. Raises `Unavailable` where the line is full."""
        if self._talks > self._settings.chat_queue:
            raise Unavailable(
                f"{self._talks} chats are being answered or wait already; try again in a few seconds.",
                code="chat_queue_full",
            )
        self._talks += 1
        try:
            yield
        finally:
            self._talks -= 1

    @asynccontextmanager
    async def use(self, model: ModelRef) -> AsyncIterator[ServingProcess]:
        """The process that serves these weights, started where none does; it is not unloaded meanwhile.

        Raises `Conflict` where it could never fit, `Unavailable` where it does not now.
        """
        spec = ServeSpec(model, context=self._settings.chat_context_tokens, threads=self._settings.threads)
        key = await asyncio.to_thread(lambda: spec.key)
        entry = self._taken(key) or await self._admitted(spec)
        try:
            yield entry.process
            entry.settled = True
        finally:
            entry.talks -= 1
            entry.used = self._clock()

    async def discard(self, process: ServingProcess) -> None:
        """Let go of a process that cannot do its work; the next question starts a fresh one."""
        self._loaded.pop(process.key, None)
        await process.stop()

    async def tend(self, *, training: bool) -> None:
        """Forget what died, unload what is idle, and follow the beginning and the end of trainings."""
        self._training = training
        for key, entry in list(self._loaded.items()):
            idle = entry.talks == 0 and self._clock() - entry.used > self._settings.chat_idle_seconds
            if not entry.process.alive or idle:
                await self._unload(key)
            elif entry.limited != training:
                await self._limit(entry)

    async def close(self) -> None:
        for key in list(self._loaded):
            await self._unload(key)

    def _taken(self, key: str) -> Loaded | None:
        """The living process of these weights, one more talk counted."""
        entry = self._loaded.get(key)
        if entry is None or not entry.process.alive:
            return None
        entry.talks += 1
        return entry

    async def _admitted(self, spec: ServeSpec) -> Loaded:
        """One start at a time, in the order of asking, so that two do not take the same memory."""
        async with self._admitting:
            process = ServingProcess(self._settings.data_dir, spec, warm=self._settings.warm_process)
            if (entry := self._taken(process.key)) is not None:
                return entry
            await self._unload(process.key)
            memory = await asyncio.to_thread(spec.memory_bytes)
            await self._make_room(memory, spec.model.name)
            try:
                await process.start()
            except ServingFailed as error:
                raise Unavailable(str(error), code="serving_failed") from None
            entry = self._loaded[process.key] = Loaded(process, memory, self._clock(), talks=1)
            if self._training:
                await self._limit(entry)
            return entry

    async def _make_room(self, needed: int, name: str) -> None:
        bound = self._settings.chat_memory_bytes or hardware.machine().memory_bytes // 2
        if needed > bound:
            raise Conflict(
                f"'{name}' takes about {readable(needed)} of memory to answer; all chats together may take "
                f"{readable(bound)} (CHAT_MEMORY_BYTES).",
                code="memory_bound",
            )
        while True:
            taken = sum(entry.memory for entry in self._loaded.values())
            promised = sum(entry.memory for entry in self._loaded.values() if not entry.settled)
            free = self._free_memory() - promised
            if taken + needed <= bound and needed <= free:
                return
            idle = [key for key, entry in self._loaded.items() if entry.talks == 0]
            if not idle:
                break
            await self._unload(min(idle, key=lambda key: self._loaded[key].used))
        if taken + needed > bound:
            raise Unavailable(
                f"Other models are answering, and '{name}' ({readable(needed)}) does not fit beside them into "
                f"{readable(bound)} (CHAT_MEMORY_BYTES); try again in a moment.",
                code="memory_taken",
            )
        raise Unavailable(
            f"'{name}' takes about {readable(needed)} of memory to answer; {readable(max(0, free))} are free on this "
            "machine. Try again when a training has ended or a program was closed.",
            code="memory_taken",
        )

    async def _unload(self, key: str) -> None:
        entry = self._loaded.pop(key, None)
        if entry is not None:
            await entry.process.stop()

    async def _limit(self, entry: Loaded) -> None:
        entry.limited = self._training
        threads = min(self._settings.chat_threads_while_training, self._settings.threads or 1 << 10)
        await entry.process.limit_threads(threads if self._training else None)
