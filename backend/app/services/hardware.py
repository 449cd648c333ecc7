"""What this machine has, seen without loading a tensor library."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Machine:
    """Sizes in bytes. `gpus` are names as the NVIDIA driver gives them."""

    system: str
    processor: str
    physical_cores: int
    logical_cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    cpu_bf16: bool
    """Whether the processor multiplies in bfloat16 by itself; without, it is 5 to 6 times slower than 32-bit floats."""


@cache
def machine() -> Machine:
    """Looked at once; the hardware does not change while the service runs."""
    name, flags = _cpu()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=name,
        physical_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        logical_cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=_gpus(),
        cpu_bf16=bool({"avx512_bf16", "amx_bf16"} & flags),
    )


def free_memory() -> int:
    """Bytes that a new process could take now: of the machine, and of its container's bound (cgroup v2)."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        bound, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or no bound ("max")
        return free
    return min(free, max(0, bound - taken))


def _cpu() -> tuple[str, frozenset[str]]:
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = frozenset(value.split())
                break
    except OSError:
        return name, flags
    return name, flags


def _gpus() -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (subprocess.SubprocessError, OSError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
