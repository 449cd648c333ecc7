"""What this machine has, seen without loading a tensor library."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from slm import limits


@dataclass(frozen=True)
class Machine:
    """Sizes in bytes. `gpus` are names as the NVIDIA driver gives them."""

    system: str
    processor: str
    physical_cores: int
    logical_cores: int
    usable_cores: int
    """Physical ones that the service's processes may use; fewer in a container."""
    memory_bytes: int
    """What they may hold; less than the machine has, in a container."""
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
        usable_cores=limits.cores(),
        memory_bytes=limits.memory(),
        gpus=tuple(gpu for gpu, _ in gpus),
        gpu_memory_bytes=gpus[0][1] if gpus else None,
        cpu_bf16=bool({"avx512_bf16", "amx_bf16"} & flags),
        cpu_avx512="avx512f" in flags,
    )


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
