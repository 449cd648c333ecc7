"""How fast and how small the inspection of a data file is, against bare readers of the standard library.

    python bench/validation.py [--megabytes 48] [--rounds 5] [--memory-megabytes 1024]

Each file is made here (deterministic, invented support tickets). In each round the bare reader and the whole
inspection read the same file one after the other; the ratio is of medians of seconds on the wall, as whoever uploads
waits for them, so it says something on an idle machine alone: the load is printed. Beside it stand the processor
seconds of all processes together, and the ratio that those of the busiest one would make on idle cores. The bare
reader is a strict `csv.reader` pass over an opened file, or `json.loads` on each line of it. The memory figure is the
peak of the processes that inspect a large file, their proportional memory summed, less the peak on a file of one row.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import proportional_memory, verdict

from slm.data.forks import width
from slm.data.inspection import inspect_file
from slm.spec import FileFormat

BACKEND = Path(__file__).parent.parent
SHAPES = [
    *("pairs.csv", "labels.csv", "text.csv", "preference.csv"),
    *("pairs.jsonl", "labels.jsonl", "text.jsonl", "preference.jsonl", "chat.jsonl"),
    *("pairs.json", "chat.json"),
]
TARGETS = {FileFormat.CSV: 0.4, FileFormat.JSONL: 2.0, FileFormat.JSON: None}
_WORDS = [
    "invoice",
    "printer",
    "screen",
    "charged",
    "twice",
    "monthly",
    "café",
    "router",
    "reboots",
    "naïve",
    "refund",
    "order",
    "delayed",
    "parcel",
    "broken",
    "hinge",
    "please",
    "advise",
    "thanks",
    "account",
    "locked",
    "password",
    "reset",
    "link",
    "expired",
    "warranty",
    "receipt",
    "battery",
    "swollen",
    "since",
    "Tuesday",
]


def _sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=words)).capitalize() + "."


def _pair(draw: random.Random, number: int) -> dict[str, Any]:
    prompt = f"Ticket {number}: {_sentence(draw, 24)}\n{_sentence(draw, 12)}"
    return {"prompt": prompt, "completion": f'{{"product": "{draw.choice(_WORDS)}", "urgent": {number % 2}}}'}


def _labelled(draw: random.Random, number: int) -> dict[str, Any]:
    return {"text": f"{_sentence(draw, 30)} ({number})", "label": draw.choice(("billing", "delivery", "repair"))}


def _chat(draw: random.Random, number: int) -> dict[str, Any]:
    turns = [{"role": "system", "content": "Answer politely."}]
    for _ in range(1 + number % 3):
        turns.append({"role": "user", "content": _sentence(draw, 18)})
        turns.append({"role": "assistant", "content": _sentence(draw, 30)})
    return {"messages": turns}


def _preference(draw: random.Random, _: int) -> dict[str, Any]:
    return {"prompt": _sentence(draw, 20), "chosen": _sentence(draw, 30), "rejected": _sentence(draw, 12)}


def _plain(draw: random.Random, number: int) -> dict[str, Any]:
    return {"text": f"{_sentence(draw, 60)} {number}"}


def write(path: Path, make: Callable[[random.Random, int], dict[str, Any]], size: int) -> None:
    """Fill `path` with rows until it has `size` bytes; the format is the name's extension."""
    draw = random.Random(7)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number in _numbers(file, size):
            row = make(draw, number)
            if path.suffix == ".csv":
                if number == 1:
                    writer.writerow(row)
                writer.writerow(row.values())
            elif path.suffix == ".jsonl":
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                file.write(("[" if number == 1 else ",\n ") + json.dumps(row, ensure_ascii=False))
        if path.suffix == ".json":
            file.write("]\n")


def _numbers(file: Any, size: int) -> Iterator[int]:
    number = 1
    while number == 1 or number % 64 or file.tell() < size:
        yield number
        number += 1


def bare(path: Path, file_format: FileFormat) -> None:
    """Read every record with the standard library and throw it away."""
    if file_format is FileFormat.CSV:
        with path.open(encoding="utf-8", newline="") as file:
            for _ in csv.reader(file, strict=True):
                pass
    elif file_format is FileFormat.JSONL:
        with path.open(encoding="utf-8") as file:
            for line in file:
                json.loads(line)
    else:
        json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class _Cost:
    """Seconds: on the wall; of all processors together; of the busiest of this process and those that it forked."""

    wall: float
    processors: float
    longest: float


def _cost(action: Callable[[], object]) -> _Cost:
    forked = [0.0]

    def noting(pid: int, options: int) -> tuple[int, int]:
        pid, status, usage = os.wait4(pid, options)
        forked.append(usage.ru_utime + usage.ru_stime)
        return pid, status

    waitpid, os.waitpid = os.waitpid, noting
    before, began = time.process_time(), time.perf_counter()
    try:
        action()
    finally:
        os.waitpid = waitpid
    wall, own = time.perf_counter() - began, time.process_time() - before
    return _Cost(wall, own + sum(forked), max(own, *forked))


def compare(path: Path, rounds: int) -> bool:
    """Speed of the inspection as a multiple of the bare reader's, by the wall; whether it is what it should be."""
    file_format = FileFormat(path.suffix[1:])
    plain: list[_Cost] = []
    whole: list[_Cost] = []
    for _ in range(rounds):
        plain.append(_cost(lambda: bare(path, file_format)))
        whole.append(_cost(lambda: inspect_file(path, file_format=file_format)))
    wall = statistics.median(cost.wall for cost in whole)
    ratio = statistics.median(cost.wall for cost in plain) / wall
    bare_cost, all_cost = (statistics.median(cost.processors for cost in costs) for costs in (plain, whole))
    idle = bare_cost / statistics.median(cost.longest for cost in whole)
    speed = path.stat().st_size / 1e6 / wall
    target = TARGETS[file_format]
    held = target is None or ratio >= target
    told = "" if target is None else f"  target {target:g} {'met' if held else 'MISSED'}"
    workers = width() if file_format is FileFormat.JSONL else 1
    print(
        f"{path.name:17} {ratio:5.2f} × bare {file_format.value:5} {speed:5.0f} MB/s  processes {workers}  "
        f"CPU {all_cost:5.2f} s, bare {bare_cost:5.2f} s, by the busiest {idle:4.2f} ×  "
        f"load {os.getloadavg()[0]:4.1f}{told}",
        flush=True,
    )
    return held


def peak_megabytes(path: Path) -> float:
    """Peak memory of the inspection as the service starts it, all its processes together, shared pages counted once."""
    command = [sys.executable, "-m", "slm.data.inspection", str(path), "--format", path.suffix[1:]]
    with subprocess.Popen(command, cwd=BACKEND, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(map(_memory, [child.pid, *_children(child.pid)])))
            time.sleep(0.005)
        if child.returncode != 0:
            raise SystemExit(f"The inspection of {path.name} failed.")
    return peak / 1e6


def _children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):  # just ended
        return []


def _memory(pid: int) -> int:
    try:
        return proportional_memory(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def memory(folder: Path, name: str, make: Callable[[random.Random, int], dict[str, Any]], megabytes: int) -> bool:
    small, large = folder / f"small{Path(name).suffix}", folder / name
    write(small, make, 1)
    write(large, make, megabytes * 1024 * 1024)
    grown = peak_megabytes(large) - peak_megabytes(small)
    told = "met" if grown <= 50 else "MISSED"
    print(f"{name:17} {grown:5.1f} MB grown at {megabytes} MiB  target 50 {told}", flush=True)
    large.unlink()
    return grown <= 50


def main() -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the process that inspects does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-megabytes", type=int, default=1024, help="0 leaves the memory figure out")
    arguments = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for made in SHAPES:
            write(folder / made, _MAKERS[made.partition(".")[0]], arguments.megabytes * 1_000_000)
            held.append(compare(folder / made, arguments.rounds))
            (folder / made).unlink()
        if arguments.memory_megabytes:
            held += [
                memory(folder, made, _MAKERS[made.partition(".")[0]], arguments.memory_megabytes)
                for made in ("pairs.csv", "chat.jsonl", "pairs.json")
            ]
    return verdict(held)


_MAKERS = {"pairs": _pair, "labels": _labelled, "text": _plain, "preference": _preference, "chat": _chat}

if __name__ == "__main__":
    sys.exit(main())
