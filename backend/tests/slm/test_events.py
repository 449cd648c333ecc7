"""The log survives torn lines, full disks and killed writers; the lock tells truly who works on a directory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm import events
from slm.errors import REASONS, Cancelled, Interrupted, RunFailure
from slm.events import (
    BEAT_INTERVAL,
    CANCEL,
    EVENTS,
    LOCK,
    RESERVE,
    EventLog,
    RunLock,
    Stop,
    birth,
    cancel_requested,
    iter_events,
    last_seq,
    lock_holder,
    read_events,
    terminal_event,
    write_atomic,
)

BACKEND = Path(__file__).resolve().parents[2]
HOLD = "import sys; from pathlib import Path; from slm.events import RunLock; l = RunLock(Path(sys.argv[1])); "
HOLD += "print(l.acquire(), flush=True); l.note(attempt=3); print('noted', flush=True); sys.stdin.read()"


@pytest.fixture
def log(tmp_path: Path):
    opened = EventLog(tmp_path, attempt=1)
    yield opened
    os.close(opened._fd)


def holder_process(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        cwd=BACKEND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    assert process.stdout.readline() == "noted\n"
    return process


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_go_on_over_attempts_and_writers(tmp_path: Path) -> None:
    for attempt in (1, 2):
        log = EventLog(tmp_path, attempt=attempt)
        log.append("started")
        log.append("step", step=1)
        log.close()
    told = list(iter_events(tmp_path / EVENTS))
    assert [(event["seq"], event["attempt"]) for event in told] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert last_seq(tmp_path / EVENTS) == 4


def test_an_event_carries_time_type_and_payload(log: EventLog) -> None:
    log.append("step", payload={"loss": 1.5}, step=7)
    (event,) = iter_events(log.path)
    assert event["type"] == "step"
    assert event["loss"] == 1.5
    assert event["step"] == 7
    assert event["time"].endswith("Z")


def test_beats_have_no_number_and_come_seldom(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 100.0 + BEAT_INTERVAL / 2, 100.0 + BEAT_INTERVAL * 1.01))
    monkeypatch.setattr(events.time, "monotonic", lambda: next(clock))
    for step in range(3):
        log.beat("training", step=step)
    told = list(iter_events(log.path))
    assert [event["step"] for event in told] == [0, 2]
    assert all("seq" not in event for event in told)
    assert log.append("step")["seq"] == 1


def test_numbers_that_are_no_numbers_never_reach_the_log(log: EventLog) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        log.append("step", loss=float("nan"))
    assert log.append("step", loss=1.0)["seq"] == 1
    assert len(list(iter_events(log.path))) == 1


@given(st.text())
def test_any_text_becomes_one_line_that_reads_back(text: str) -> None:
    line = json.dumps({"message": text}, ensure_ascii=False).encode(errors="replace")
    assert b"\n" not in line
    assert json.loads(line)["message"] == text.encode(errors="replace").decode()


def test_half_characters_do_not_stop_a_run(log: EventLog) -> None:
    log.append("failed", message="a file called \udcff", durable=True)
    (event,) = iter_events(log.path)
    assert event["message"] == "a file called ?"


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("torn", [b'{"seq":3,"ty', b"\0\0\0\0", b'{"seq":3,"type":"step"}', b"x" * 200_000])
def test_a_torn_last_line_is_not_read_and_is_cut_by_the_next_writer(tmp_path: Path, torn: bytes) -> None:
    log = EventLog(tmp_path, attempt=1)
    log.append("started")
    log.append("step")
    log.close()
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(torn)
    assert [event["seq"] for event in iter_events(tmp_path / EVENTS)] == [1, 2]
    log = EventLog(tmp_path, attempt=2)
    assert log.append("started")["seq"] == 3
    log.close()
    assert [event["seq"] for event in iter_events(tmp_path / EVENTS)] == [1, 2, 3]
    assert torn not in (tmp_path / EVENTS).read_bytes() or torn == b'{"seq":3,"type":"step"}'


def test_a_log_that_is_nothing_but_a_torn_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(b'{"seq": 1')
    log = EventLog(tmp_path, attempt=1)
    assert log.append("started")["seq"] == 1
    log.close()
    assert (tmp_path / EVENTS).read_bytes().count(b"\n") == 1


def test_remains_in_the_middle_are_skipped(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(b'{"seq":1,"type":"a"}\n\0\0\n[1]\n\n{"seq":2,"type":"b"}\n')
    assert [event["type"] for event in iter_events(tmp_path / EVENTS)] == ["a", "b"]


def test_a_full_disk_leaves_whole_lines_and_the_number_is_used_again(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append("started")
    real = os.write

    def half(descriptor: int, line: bytes) -> int:
        return real(descriptor, line[: len(line) // 2])

    monkeypatch.setattr(events.os, "write", half)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        log.append("step")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert log.append("step")["seq"] == 2
    assert [event["seq"] for event in iter_events(log.path)] == [1, 2]


def test_a_beat_on_a_full_disk_is_dropped(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.os, "write", lambda *_: 0)
    log.beat("training")
    monkeypatch.undo()
    assert log.path.read_bytes() == b""


def test_the_last_word_fits_on_a_full_disk(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has no room until the reserve is given up, as a real full disk has."""
    real = os.write
    reserve = tmp_path / RESERVE
    assert reserve.stat().st_size > 4096
    monkeypatch.setattr(events.os, "write", lambda descriptor, line: 0 if reserve.exists() else real(descriptor, line))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        log.append("step")
    assert reserve.exists()
    log.append("failed", payload=RunFailure("disk_full", "The disk is full.").as_event())
    ended = terminal_event(log.path, attempt=1)
    assert ended is not None
    assert ended["code"] == "disk_full"


def test_closing_leaves_no_reserve_behind(tmp_path: Path) -> None:
    log = EventLog(tmp_path, attempt=1)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [EVENTS]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reader_goes_on_where_it_was(log: EventLog) -> None:
    log.append("started")
    first, offset = read_events(log.path)
    assert [event["type"] for event in first] == ["started"]
    assert read_events(log.path, offset=offset) == ([], offset)
    log.append("step")
    second, _ = read_events(log.path, offset=offset)
    assert [event["type"] for event in second] == ["step"]


def test_a_line_longer_than_the_limit_is_read_whole(log: EventLog) -> None:
    log.append("finished", blob="x" * 5000)
    told, offset = read_events(log.path, limit_bytes=64)
    assert told[0]["blob"] == "x" * 5000
    assert offset == log.path.stat().st_size


def test_small_blocks_read_every_event_once(log: EventLog) -> None:
    for step in range(50):
        log.append("step", step=step)
    offset, seen = 0, []
    while True:
        told, following = read_events(log.path, offset=offset, limit_bytes=300)
        if following == offset:
            break
        seen += [event["seq"] for event in told]
        offset = following
    assert seen == list(range(1, 51))


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert read_events(tmp_path / EVENTS) == ([], 0)
    assert last_seq(tmp_path / EVENTS) == 0
    assert terminal_event(tmp_path / EVENTS, attempt=1) is None


def test_the_end_of_one_attempt_is_not_that_of_another(log: EventLog) -> None:
    log.append("failed", code="interrupted")
    assert terminal_event(log.path, attempt=2) is None
    ended = terminal_event(log.path, attempt=1)
    assert ended is not None
    assert ended["code"] == "interrupted"


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_holds_a_lock_that_nobody_took(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    assert not (tmp_path / LOCK).exists()


def test_another_process_is_kept_out_and_named(tmp_path: Path) -> None:
    process = holder_process(tmp_path)
    try:
        assert not RunLock(tmp_path).acquire()
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert (holder["pid"], holder["attempt"]) == (process.pid, 3)
        assert holder["birth"] == birth(process.pid)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_holder_lets_go_and_its_name_is_not_believed(tmp_path: Path) -> None:
    process = holder_process(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert lock_holder(tmp_path) is None
    lock = RunLock(tmp_path)
    assert lock.acquire()
    holder = lock_holder(tmp_path)
    assert holder is not None
    assert holder["pid"] == os.getpid()
    lock.release()
    lock.release()
    assert lock_holder(tmp_path) is None


def test_a_holder_that_has_not_written_its_name_is_held_by_someone(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    os.truncate(tmp_path / LOCK, 0)
    assert lock_holder(tmp_path) == {}
    lock.release()


def test_whoever_asks_after_the_lock_never_keeps_a_run_out(tmp_path: Path) -> None:
    """A supervisor looks at the lock again and again while a run starts; the run must win every time."""
    asking = threading.Event()

    def ask() -> None:
        while not asking.is_set():
            lock_holder(tmp_path)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    (tmp_path / LOCK).touch()
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            lock = RunLock(tmp_path)
            assert lock.acquire()
            lock.release()
    finally:
        asking.set()
        for thread in threads:
            thread.join()


def test_a_lock_that_is_not_held_cannot_be_signed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not held"):
        RunLock(tmp_path).note(attempt=1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_birth_names_a_process_for_good() -> None:
    mine = birth(os.getpid())
    assert mine is not None
    assert mine == birth(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = birth(child.pid)
    child.communicate()
    assert theirs is not None
    assert theirs >= mine
    assert birth(child.pid) is None


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "save"), [(b'{"save": false}', False), (b"", None), (b"{broken", True), (b"[1]", True)]
)
def test_a_cancel_marker_counts_whatever_is_in_it(tmp_path: Path, content: bytes, save: bool | None) -> None:
    assert cancel_requested(tmp_path) is None
    (tmp_path / CANCEL).write_bytes(content)
    marker = cancel_requested(tmp_path)
    assert marker is not None
    assert marker.get("save") is save


def test_sigterm_is_an_interruption_and_with_a_marker_a_cancel(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = Stop(tmp_path)
        stop.listen()
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            stop.check()
        (tmp_path / CANCEL).write_text("{}")
        with pytest.raises(Cancelled):
            stop.check()
    finally:
        signal.signal(signal.SIGTERM, before)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_atomic_file_is_old_or_new_for_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    contents = {b"a" * 200_000, b"b" * 150_000}
    write_atomic(path, b"a" * 200_000)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        for content in contents:
            write_atomic(path, content)
    done.set()
    reader.join()
    assert seen <= contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(events.os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_every_reason_says_what_to_do() -> None:
    for code, reason in REASONS.items():
        assert code == reason.code
        assert reason.hint.endswith(".")
        failure = RunFailure(code, "Something happened.")
        assert failure.as_event()["fault"] == reason.fault
