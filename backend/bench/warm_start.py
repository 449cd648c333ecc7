"""How soon a run begins: from its launch to the first forward and backward pass done.

    python bench/warm_start.py [--rounds 3]

Ours asks the warm process for a fork, as the service does; beside it, in turn, the cold start `python -m slm.run`.
The run is real (SmolLM2-135M-Instruct, LoRA, two rows) and its first step is what counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import training
from measure import BACKEND, median, show, show_limit, verdict

from slm.events import read_events
from slm.warm_client import QUIET, WarmProcess

LIMIT_SECONDS = 3.0
DEADLINE = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-warm-") as name:
        folder = Path(name)
        training.write_rows(folder / "train.jsonl", training.EXAMPLES / "tickets-train.csv", 2)
        training.write_rows(folder / "held-out.jsonl", training.EXAMPLES / "tickets-eval.csv", 1)
        os.environ["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
        process = WarmProcess(folder)
        process.start()
        try:
            wait(process.ready, "the warm process")
            warm, cold = [], []
            for turn in range(rounds):
                warm.append(first_step(folder, f"warm-{turn}", process))
                cold.append(first_step(folder, f"cold-{turn}", None))
        finally:
            process.stop()
    print(f"launch to first step, seconds: warm {shown(warm)}, cold {shown(cold)}")
    ours, peer = median(warm), median(cold)
    return verdict([
        show_limit("launch to first step, warm", value=ours, limit=LIMIT_SECONDS, unit="s"),
        show("launch to first step against cold", ours=ours, peer=peer, unit="s", at_least=3.0),
    ])  # fmt: skip


def first_step(folder: Path, name: str, process: WarmProcess | None) -> float:
    """Seconds until the log says that the first step is done; the run is then ended."""
    directory = folder / name
    training.write_run(directory, folder, 2, 1)
    child = None
    started = time.monotonic()
    if process is None:
        command = [sys.executable, "-m", "slm.run", str(directory)]
        with (directory / "stdout.log").open("wb") as log:
            child = subprocess.Popen(command, cwd=BACKEND, env={**os.environ, **QUIET}, stdout=log, stderr=log)
        pid = child.pid
    else:
        forked = process.fork_run(directory)
        if forked is None:
            raise SystemExit(f"The warm process did not fork: {(folder / 'warm.log').read_text()}")
        pid = forked
    wait(lambda: stepped(directory), f"the first step of {name}")
    seconds = time.monotonic() - started
    os.kill(pid, 9)
    if child is not None:
        child.wait()
    return seconds


def stepped(directory: Path) -> bool:
    events, _ = read_events(directory / "events.jsonl")
    return any(event["type"] == "step" for event in events)


def wait(done: object, what: str) -> None:
    assert callable(done)
    deadline = time.monotonic() + DEADLINE
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {DEADLINE:g} s")
        time.sleep(0.02)


def shown(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
