"""Questions answered by a process of their own: time limits, crowds, askers who leave, what a crash leaves behind."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest

from app.errors import Conflict, Invalid, PlatformError, Unavailable
from app.executors.base import Handle, SubmitFailed
from app.executors.local import LocalExecutor
from app.models.columns import new_id
from app.services.asks import Asks, Gone, sweep
from slm.spec import DatasetKind, DatasetRef, FileFormat, Method, ModelRef, PreviewSpec

ANSWERS = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[-1])
(folder / "result.json").write_text('{"here": 1}')
(folder / "events.jsonl").write_text(json.dumps({"seq": 1, "attempt": 1, "type": "finished"}) + "\\n")
"""
HOLDS = """
import pathlib, sys, time
from slm.events import RunLock
lock = RunLock(pathlib.Path(sys.argv[-1]))
lock.acquire()
lock.note(attempt=1)
time.sleep(600)
"""
DIES = "import sys; print('as it was'); sys.exit(9)"


def fails(code: str, fault: str) -> str:
    event = {"seq": 1, "attempt": 1, "type": "failed", "code": code, "message": "It failed.", "hint": "Mend it.",
             "fault": fault, "retryable": False}  # fmt: skip
    return (
        f"import pathlib, sys; (pathlib.Path(sys.argv[-1]) / 'events.jsonl').write_text({json.dumps(event)!r} + '\\n')"
    )


class Scripted(LocalExecutor):
    """The local executor with another program in the place of `python -m slm.run`."""

    def __init__(self, folder: Path, program: str) -> None:
        script = folder / "interpreter"
        script.write_text(f"#!{sys.executable}\n{program}")
        script.chmod(0o755)
        super().__init__(folder, warm=False, python=str(script))
        self.started: list[int] = []

    def submit(self, directory: Path, *, attempt: int) -> Handle:
        handle = super().submit(directory, attempt=attempt)
        self.started.append(handle["pid"])
        return handle


def question() -> PreviewSpec:
    dataset = DatasetRef(
        dataset_id="d", name="d", path="d", file_format=FileFormat.CSV, sha256="0", row_count=1, kind=DatasetKind.TEXT
    )
    model = ModelRef(model_id="m", name="m", path="m")
    return PreviewSpec(run_id=new_id(), model=model, method=Method.SFT, dataset=dataset, max_length=64)


def opened(executor: Scripted, tmp_path: Path, **limits: int) -> Asks:
    asks = Asks(tmp_path, executor, **limits)
    asks.open()
    return asks


def ask(executor: Scripted, tmp_path: Path, seconds: float = 30, gone: Gone | None = None) -> bytes:
    async def once() -> bytes:
        asks = opened(executor, tmp_path)
        try:
            return await asks.ask(question(), seconds=seconds, gone=gone)
        finally:
            assert left(tmp_path) == []
            asks.close()

    return asyncio.run(once())


def left(tmp_path: Path) -> list[Path]:
    """The directories of questions that are still there."""
    return [path for folder in (tmp_path / "asks").iterdir() if folder.is_dir() for path in folder.iterdir()]


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_the_answer_is_what_the_process_wrote_and_nothing_stays(tmp_path: Path) -> None:
    assert json.loads(ask(Scripted(tmp_path, ANSWERS), tmp_path)) == {"here": 1}
    assert list((tmp_path / "asks").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "fault", "refusal"),
    [
        ("weights_missing", "user", Conflict),
        ("data_changed", "user", Conflict),
        ("nothing_to_learn", "user", Invalid),
        ("out_of_memory", "system", Unavailable),
    ],
)
def test_a_failure_becomes_a_refusal_with_its_sentence(
    tmp_path: Path, code: str, fault: str, refusal: type[PlatformError]
) -> None:
    with pytest.raises(refusal) as caught:
        ask(Scripted(tmp_path, fails(code, fault)), tmp_path)
    assert (caught.value.code, caught.value.message) == (code, "It failed. Mend it.")


def test_a_process_that_dies_in_silence_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unavailable) as caught:
        ask(Scripted(tmp_path, DIES), tmp_path)
    assert caught.value.code == "process_died"
    assert "as it was" in caplog.text


def test_who_takes_too_long_is_killed(tmp_path: Path) -> None:
    executor = Scripted(tmp_path, HOLDS)
    with pytest.raises(Unavailable) as caught:
        ask(executor, tmp_path, seconds=0.3)
    assert caught.value.code == "took_too_long"
    assert "0.3 s" in caught.value.message
    assert living(executor.started) == []


def test_nobody_works_for_an_asker_who_left(tmp_path: Path) -> None:
    executor = Scripted(tmp_path, HOLDS)

    async def gone() -> bool:
        return bool(executor.started)

    with pytest.raises(Unavailable) as caught:
        ask(executor, tmp_path, gone=gone)
    assert caught.value.code == "asker_gone"
    assert living(executor.started) == []


def test_an_asking_task_that_is_cancelled_takes_its_process_along(tmp_path: Path) -> None:
    executor = Scripted(tmp_path, HOLDS)

    async def cancelled() -> None:
        asks = opened(executor, tmp_path)
        task = asyncio.create_task(asks.ask(question(), seconds=30))
        while not executor.started:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        asks.close()

    asyncio.run(cancelled())
    assert living(executor.started) == []
    assert list((tmp_path / "asks").iterdir()) == []


def test_a_crowd_waits_in_turn_and_beyond_that_is_refused(tmp_path: Path) -> None:
    executor = Scripted(tmp_path, HOLDS)

    async def crowd() -> tuple[int, list[str]]:
        asks = opened(executor, tmp_path, at_once=1, waiting=1)
        asked = [asyncio.create_task(asks.ask(question(), seconds=1)) for _ in range(3)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.exception() for task in done]
        working = len(executor.started)
        codes = [error.code for error in refused if isinstance(error, Unavailable)]
        await asyncio.wait(asked)
        asks.close()
        return working, codes

    working, codes = asyncio.run(crowd())
    assert codes == ["too_busy"]
    assert working <= 1
    assert len(executor.started) == 2


def test_a_start_that_fails_is_told(tmp_path: Path) -> None:
    class Unwilling(Scripted):
        def submit(self, directory: Path, *, attempt: int) -> Handle:
            raise SubmitFailed("The training process could not be started: no room.")

    with pytest.raises(Unavailable, match="no room"):
        ask(Unwilling(tmp_path, ""), tmp_path)


def test_without_the_training_libraries_it_says_so(tmp_path: Path) -> None:
    class Bare(Scripted):
        def unavailable(self) -> str | None:
            return "The training libraries are not all installed in this environment (torch missing)."

    with pytest.raises(Unavailable, match="torch missing"):
        ask(Bare(tmp_path, ANSWERS), tmp_path)


def test_what_a_crash_leaves_is_ended_and_swept_and_the_living_are_left_alone(tmp_path: Path) -> None:
    executor = Scripted(tmp_path, HOLDS)
    alive = opened(executor, tmp_path)
    abandoned = tmp_path / "asks" / "of-a-dead-process" / "question"
    abandoned.mkdir(parents=True)
    handle = executor.submit(abandoned, attempt=1)
    while not executor.poll(abandoned, {}):
        assert psutil.pid_exists(handle["pid"])
    assert sweep(tmp_path / "asks", executor) == ["of-a-dead-process"]
    assert living(executor.started) == []
    assert len([path for path in (tmp_path / "asks").iterdir() if path.is_dir()]) == 1
    alive.close()
    assert list((tmp_path / "asks").iterdir()) == []
