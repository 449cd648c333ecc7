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
    gpu_memory_bytes: int | None
    """Of the first GPU; null without one, or where the driver does not tell."""
    cpu_bf16: bool
    """Whether the processor multiplies in bfloat16 by itself; without, it is 5 to 6 times slower than 32-bit floats."""
    cpu_avx512: bool = False
    """Whether its registers are 512 bits wide."""


@cache
def machine() -> Machine:
    """Looked at once; the hardware does not change while the service runs."""
    name, flags = _cpu()
    gpus = _gpus()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=name,
        physical_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        logical_cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(gpu for gpu, _ in gpus),
        gpu_memory_bytes=gpus[0][1] if gpus else None,
        cpu_bf16=bool({"avx512_bf16", "amx_bf16"} & flags),
        cpu_avx512="avx512f" in flags,
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


def _gpus() -> tuple[tuple[str, int | None], ...]:
    """Name and bytes of memory of each."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (subprocess.SubprocessError, OSError):
        return ()
    found = []
    for line in done.stdout.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if name.strip():
            found.append((name.strip(), int(mebibytes) << 20 if mebibytes.strip().isdigit() else None))
    return tuple(found)


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be made."""
    return shutil.disk_usage(folder if folder.is_dir() else Path()).free
