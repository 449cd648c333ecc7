"""Forked processes: answers in order, errors by name, nobody left behind."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slm.data import forks

BACKEND = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forking is for Linux"),
    # Other tests leave threads behind, which later versions of Python warn of.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


def ended(pid: int, seconds: float = 30.0) -> bool:
    """Whether the process is gone, or goes within this time."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


def wait_for_ever() -> None:
    signal.pause()


def asked(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    with forks.at_work(tasks) as answers:
        return list(answers)


def test_answers_come_in_the_order_of_the_tasks_whoever_is_first() -> None:
    reading, writing = os.pipe()

    def slow() -> tuple[int, bytes]:
        return os.getpid(), os.read(reading, 1)

    def fast() -> tuple[int, bytes]:
        os.write(writing, b"!")
        return os.getpid(), b"x" * 300_000  # more than a pipe holds

    with forks.at_work([slow, fast]) as answers:
        first, second = answers
    os.close(reading)
    os.close(writing)
    assert first[1] == b"!"
    assert len(second[1]) == 300_000
    assert len({first[0], second[0], os.getpid()}) == 3
    for pid, _ in (first, second):
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_equal_texts_hash_alike_in_every_process() -> None:
    assert set(asked([partial(hash, "the same")] * 3)) == {hash("the same")}


def test_an_error_of_the_system_is_told_by_its_number() -> None:
    with pytest.raises(FileNotFoundError):
        asked([partial(Path("/no/such/file").read_bytes)])


def test_a_crash_is_told_with_its_traceback_on_the_error_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(forks.Lost):
        asked([partial(int, "seven")])
    assert "invalid literal for int() with base 10: 'seven'" in capfd.readouterr().err


def test_each_number_is_claimed_by_one_process_and_none_is_left() -> None:
    claims = forks.Claims(200)
    with forks.at_work([partial(list, claims)] * 2) as answers:
        found = [*claims, *(number for claimed in answers for number in claimed)]
    claims.close()
    assert sorted(found) == list(range(200))


def test_an_answer_that_breaks_off_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, pipe: Any, **__: object) -> None:
        pipe.write(pickle.dumps(["half", "an", "answer"])[:-3])

    monkeypatch.setattr(forks.pickle, "dump", broken)
    with pytest.raises(forks.Lost):
        asked([os.getpid])


def test_whoever_stops_asking_ends_those_still_at_work() -> None:
    children: list[int] = []
    fork = os.fork

    def noted() -> int:
        pid = fork()
        if pid:
            children.append(pid)
        return pid

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fork", noted)
        with forks.at_work([os.getpid, wait_for_ever, wait_for_ever]) as answers:
            assert next(answers) == children[0]
    assert len(children) == 3
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_process_outlives_its_parent() -> None:
    code = (
        "import os, signal\n"
        "from slm.data.forks import at_work\n"
        "def task():\n"
        "    os.write(1, b'%d\\n' % os.getpid())\n"
        "    signal.pause()\n"
        "with at_work([task, task]) as answers:\n"
        "    list(answers)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=BACKEND, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            children = [int(parent.stdout.readline()) for _ in range(2)]
        finally:
            parent.kill()
    assert all(map(ended, children))


def test_where_another_thread_runs_nothing_is_forked() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert forks.width() == 1
    finally:
        stop.set()
        thread.join()


def test_as_wide_as_the_usable_cores_up_to_four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(forks, "_THREADS", tmp_path)
    for cores, width in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert forks.width() == width
    monkeypatch.setattr(sys, "platform", "darwin")
    assert forks.width() == 1
