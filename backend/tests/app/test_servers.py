"""Which models are loaded for chat and for how long: memory, idleness, lines, threads. No process is started here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.errors import Conflict, Unavailable
from app.services import servers as module
from app.services.servers import Servers
from slm.serve_client import ServeSpec, ServingFailed
from slm.spec import ModelRef

MB = 1 << 20
SIZE = 1000 * MB


class Process:
    """Stands for a serving process: it remembers what was wanted of it."""

    made: list[Process] = []
    refuses = False

    def __init__(self, data_dir: Path, spec: ServeSpec, *, warm: bool) -> None:
        self.spec, self.key, self.alive = spec, spec.model.path, False
        self.threads: list[int | None] = []

    async def start(self) -> None:
        await asyncio.sleep(0)
        if Process.refuses:
            raise ServingFailed("It did not start: for a test.")
        self.alive = True
        Process.made.append(self)

    async def stop(self) -> None:
        self.alive = False

    async def limit_threads(self, threads: int | None) -> None:
        self.threads.append(threads)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    Process.made, Process.refuses = [], False
    monkeypatch.setattr(module, "ServingProcess", Process)
    monkeypatch.setattr(ServeSpec, "key", property(lambda self: self.model.path))
    monkeypatch.setattr(ServeSpec, "memory_bytes", lambda self: SIZE)
    return Process.made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(settings: Settings, clock: Clock, *, free: int = 100 * SIZE, **changes: Any) -> Servers:
    return Servers(settings.model_copy(update=changes), clock=clock, free_memory=lambda: free)


def model(name: str) -> ModelRef:
    return ModelRef(model_id=name, name=name, path=name)


def names(servers: Servers) -> list[str]:
    return [process.spec.model.name for process in servers.loaded]


async def used(servers: Servers, name: str) -> None:
    async with servers.use(model(name)):
        pass


def carried_out(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_one_process_for_all_who_talk_to_the_same_weights(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock)

    async def work() -> None:
        await asyncio.gather(*(used(servers, "a") for _ in range(5)))
        assert len(Process.made) == 1
        await used(servers, "b")
        assert names(servers) == ["a", "b"]
        await servers.close()
        assert names(servers) == []
        assert not any(process.alive for process in Process.made)

    carried_out(work)


def test_the_longest_unused_goes_when_the_bound_is_reached(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, chat_memory_bytes=2 * SIZE)

    async def work() -> None:
        for clock.now, name in enumerate(("a", "b", "a", "c")):
            await used(servers, name)
        assert names(servers) == ["a", "c"]

    carried_out(work)


def test_what_is_being_talked_to_does_not_go(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, chat_memory_bytes=SIZE)

    async def work() -> None:
        async with servers.use(model("a")):
            with pytest.raises(Unavailable, match=r"Other models are answering, and 'b'.*CHAT_MEMORY_BYTES"):
                await used(servers, "b")
        await used(servers, "b")
        assert names(servers) == ["b"]

    carried_out(work)


def test_what_can_never_fit_is_refused_for_good(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, chat_memory_bytes=SIZE - 1)

    async def work() -> None:
        with pytest.raises(Conflict, match=r"'a' takes about 1.0 GB of memory.*CHAT_MEMORY_BYTES"):
            await used(servers, "a")

    carried_out(work)


def test_what_does_not_fit_the_free_memory_is_refused_for_now(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, free=SIZE - 1, chat_memory_bytes=9 * SIZE)

    async def work() -> None:
        with pytest.raises(Unavailable, match=r"'a' takes about 1.0 GB of memory to answer; 1.0 GB are free"):
            await used(servers, "a")
        assert Process.made == []

    carried_out(work)


def test_memory_that_a_loading_model_will_take_is_not_given_away_twice(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, free=SIZE + SIZE // 2, chat_memory_bytes=9 * SIZE)

    async def work() -> None:
        async with servers.use(model("a")):
            with pytest.raises(Unavailable, match=r"0.5 GB are free|524 MB are free"):
                await used(servers, "b")
        await used(servers, "b")  # `a` has answered: what is free now is really free

    carried_out(work)


def test_idle_models_are_unloaded_and_busy_ones_stay(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, chat_idle_seconds=60)

    async def work() -> None:
        await used(servers, "idle")
        async with servers.use(model("busy")):
            clock.now = 59
            await servers.tend(training=False)
            assert sorted(names(servers)) == ["busy", "idle"]
            clock.now = 61
            await servers.tend(training=False)
            assert names(servers) == ["busy"]
        clock.now = 122
        await servers.tend(training=False)
        assert names(servers) == []

    carried_out(work)


def test_a_dead_process_is_replaced(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock)

    async def work() -> None:
        await used(servers, "a")
        Process.made[0].alive = False
        await used(servers, "a")
        assert len(Process.made) == 2
        await servers.discard(Process.made[1])  # type: ignore[arg-type]
        await used(servers, "a")
        assert len(Process.made) == 3

    carried_out(work)


def test_what_does_not_start_is_told(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock)
    Process.refuses = True

    async def work() -> None:
        with pytest.raises(Unavailable, match="did not start"):
            await used(servers, "a")
        Process.refuses = False
        await used(servers, "a")

    carried_out(work)


def test_chats_take_fewer_threads_while_a_training_runs(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, threads=4, chat_threads_while_training=2)

    async def work() -> None:
        await used(servers, "before")
        await servers.tend(training=True)
        await servers.tend(training=True)
        await used(servers, "during")
        assert [process.threads for process in Process.made] == [[2], [2]]
        await servers.tend(training=False)
        assert [process.threads for process in Process.made] == [[2, None], [2, None]]

    carried_out(work)


def test_no_more_threads_during_a_training_than_at_other_times(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, threads=1, chat_threads_while_training=8)

    async def work() -> None:
        await servers.tend(training=True)
        await used(servers, "a")
        assert Process.made[0].threads == [1]

    carried_out(work)


def test_the_line_is_bounded_and_a_place_is_given_back(settings: Settings, clock: Clock) -> None:
    servers = made(settings, clock, chat_queue=1)
    with servers.in_line():
        with servers.in_line():
            with pytest.raises(Unavailable, match="2 chats are being answered or wait already") as caught:
                servers.in_line().__enter__()
            assert caught.value.code == "chat_queue_full"
        with servers.in_line():
            pass


def test_memory_is_counted_from_the_weights_own_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1000, 1000], "data_offsets": [0, 2_000_000]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 2_000_000)
    sizes = {"num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "max_position_embeddings": 1024}))
    spec = ServeSpec(ModelRef(model_id="a", name="a", path=str(tmp_path)), context=2048, threads=1)
    weights, cache = round(1.1 * 4 * 1_000_000), 2 * (2 * 4 * 10 * 128 * 1024)
    assert spec.memory_bytes() == weights + cache + 600 * MB
