"""What the benchmarks share: a child's true cost, memory as the kernel shares it out, and how a result is printed."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BACKEND = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cost:
    """Of one process and the children it waited for. Seconds and bytes."""

    cpu: float
    peak_memory: int


def run(command: Sequence[str], *, log: Path, **environment: str) -> Cost:
    """Run to the end; what it printed goes to `log`. Raises `SystemExit` with the end of the log where it fails."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, cwd=BACKEND, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def proportional_memory(pid: int) -> int:
    """Bytes of a process, shared pages divided among their users (Linux, `smaps_rollup`)."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("This kernel does not tell proportional memory.")
    return int(found[1]) * 1024


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def show(
    name: str, *, ours: float, peer: float, unit: str, at_least: float | None = None, at_most: float | None = None
) -> bool:
    """One line of the result; with `at_least` the ratio is peer / ours, with `at_most` ours / peer."""
    ratio = peer / ours if at_least is not None else ours / peer
    held = ratio >= at_least if at_least is not None else at_most is None or ratio <= at_most
    wanted = f"≥ {at_least}" if at_least is not None else f"≤ {at_most}"
    print(f"{name}: ours {ours:.4g} {unit}, peer {peer:.4g} {unit}, ratio {ratio:.2f} (wanted {wanted}) {_word(held)}")
    return held


def show_limit(name: str, *, value: float, limit: float, unit: str) -> bool:
    """One line of a figure that has an absolute limit."""
    print(f"{name}: {value:.4g} {unit} (wanted ≤ {limit:g} {unit}) {_word(value <= limit)}")
    return value <= limit


def _word(held: bool) -> str:
    return "holds" if held else "MISSED"


def verdict(results: Mapping[str, bool] | Sequence[bool]) -> int:
    """The exit code: 0 where everything holds."""
    values = list(results.values()) if isinstance(results, Mapping) else list(results)
    return 0 if all(values) else 1
