"""Repeated rows: exact in memory and on disk, an honest estimate beyond."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.data.duplicates import Duplicates

BACKEND = Path(__file__).parents[3]
LOWEST, HIGHEST = -(2**63), 2**63 - 1
hashes = st.one_of(st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, -1, 0, 1, HIGHEST, 2**62]))


@settings(deadline=None)
@given(rows=st.lists(hashes, max_size=60), in_memory=st.integers(1, 20), batch=st.integers(1, 9))
def test_the_count_is_exact_however_often_it_is_written_to_disk(rows: list[int], in_memory: int, batch: int) -> None:
    counted = Duplicates(in_memory=in_memory)
    for start in range(0, len(rows), batch):
        counted.add(rows[start : start + batch])
    assert counted.count() == sum(count - 1 for count in Counter(rows).values())
    assert counted.exact


@settings(deadline=None)
@given(
    parts=st.lists(st.lists(hashes, max_size=40), min_size=1, max_size=4),
    in_memory=st.integers(1, 20),
    joined=st.integers(1, 20),
)
def test_what_several_collected_is_counted_exactly(parts: list[list[int]], in_memory: int, joined: int) -> None:
    counted = Duplicates(in_memory=joined)
    with ExitStack() as stack:
        for part in parts:
            file = stack.enter_context(tempfile.TemporaryFile())
            alone = Duplicates(file=file, in_memory=in_memory)
            for row in part:
                alone.add([row])
            counted.join(pickle.loads(pickle.dumps(alone.collected())), file)
        assert counted.count() == sum(count - 1 for count in Counter(chain(*parts)).values())
    assert counted.exact


def test_where_one_of_several_keeps_a_share_all_are_estimated() -> None:
    draw = random.Random(5)
    rows = [draw.randrange(LOWEST, HIGHEST) for _ in range(20_000)]
    counted = Duplicates(in_memory=1000)
    with ExitStack() as stack:
        for limit in (5000, 100_000):
            file = stack.enter_context(tempfile.TemporaryFile())
            alone = Duplicates(file=file, in_memory=1000, limit=limit)
            for start in range(0, 20_000, 1000):
                alone.add(rows[start : start + 1000])
            counted.join(alone.collected(), file)
        assert counted.count() == pytest.approx(20_000, rel=0.1)
    assert not counted.exact


def test_rows_on_disk_and_in_memory_are_counted_together() -> None:
    counted = Duplicates(in_memory=4)
    counted.add([1, 2, 3, 4])
    counted.add([1])
    assert counted.count() == 1


def test_beyond_the_limit_it_is_an_estimate_and_says_so() -> None:
    draw = random.Random(3)
    rows = [draw.randrange(LOWEST, HIGHEST) for _ in range(20_000)]
    counted = Duplicates(in_memory=1000, limit=5000)
    for start in range(0, 40_000, 1000):
        counted.add((rows + rows)[start : start + 1000])
    assert counted.count() == pytest.approx(20_000, rel=0.1)
    assert not counted.exact


def test_many_rows_in_memory_are_counted_as_few_are() -> None:
    draw = random.Random(4)
    rows = [draw.randrange(LOWEST, HIGHEST) for _ in range(210_000)]
    counted = Duplicates()
    counted.add(rows)
    counted.add(rows[:777])
    assert counted.count() == 777


def test_a_few_rows_need_no_numpy() -> None:
    code = (
        "import sys\n"
        "from slm.data.duplicates import Duplicates\n"
        "counted = Duplicates()\n"
        "counted.add([1, 2, 2])\n"
        "print(counted.count(), 'numpy' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BACKEND)
    assert told.stdout == "1 False\n"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
def test_sorting_starts_no_threads_where_a_file_is_inspected(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_bytes(b"".join(b'{"text": "%d"}\n' % number for number in range(201_000)))
    code = (
        "import os, sys\n"
        "from slm.data import forks, inspection, ranges\n"
        "forks.width = lambda: 1\n"
        f"inspection.main([{str(path)!r}, '--format', 'jsonl'])\n"
        "print('numpy' in sys.modules, len(os.listdir('/proc/self/task')))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BACKEND, env=environment
    )
    assert told.stdout.splitlines()[-1] == "True 1"


def test_the_file_lies_where_it_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    counted = Duplicates(tmp_path, in_memory=2)
    counted.add([1, 1, 2])
    assert counted.count() == 1
    assert list(tmp_path.iterdir()) == []
    elsewhere = Duplicates(tmp_path / "absent", in_memory=2)
    with pytest.raises(FileNotFoundError):
        elsewhere.add([1, 2])
