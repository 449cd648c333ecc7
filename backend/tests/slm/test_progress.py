"""What a training knows about itself: the machine's time and memory over several attempts."""

from __future__ import annotations

import time
from pathlib import Path

from tiny_models import base_folder, events_of, make_run, make_spec, task_rows, write_rows

from slm import run
from slm.train.machine import peak_memory
from slm.train.progress import Progress, Speed, Usage


def burn(seconds: float) -> None:
    """Use so much processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))


def test_processor_time_is_summed_over_attempts_and_memory_is_the_highest_of_any(tmp_path: Path) -> None:
    progress = Progress(machine={"device": "cpu"}, peak_memory_bytes=1 << 60)
    first = Usage(progress)
    burn(0.03)
    first.note(progress)
    assert 0.03 <= progress.cpu_seconds < 0.1
    progress.save(tmp_path)
    burn(0.05)  # lost: no checkpoint was made of it
    again = Progress.load(tmp_path)
    second = Usage(again)
    burn(0.02)
    second.note(again)
    assert progress.cpu_seconds + 0.02 <= again.cpu_seconds < progress.cpu_seconds + 0.06
    assert again.peak_memory_bytes == 1 << 60


def test_noting_twice_counts_once() -> None:
    progress = Progress()
    usage = Usage(progress)
    burn(0.02)
    usage.note(progress)
    usage.note(progress)
    assert progress.cpu_seconds < 0.06


def test_a_step_is_timed_in_processor_seconds_from_its_start() -> None:
    speed = Speed()
    burn(0.02)
    speed.start()
    burn(0.01)
    assert 0.01 <= speed.cpu() < 0.03


def test_the_peak_is_at_least_what_the_process_holds() -> None:
    held = bytearray(8 << 20)
    assert peak_memory("cpu") > len(held)


def test_a_training_says_what_it_took(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", task_rows(32))
    directory = make_run(tmp_path / "run", make_spec(base_folder(tmp_path), data, epochs=1))
    before = time.process_time()
    assert run.main(directory) == run.FINISHED
    took = time.process_time() - before
    statistics = events_of(directory, "finished")[0]["evaluation"]["training_statistics"]
    assert 0 < statistics["training_cpu_seconds"] <= statistics["cpu_seconds"] <= took
    assert statistics["peak_memory_bytes"] > 50e6
