"""What this machine offers a training: device, precision, threads, and how many examples fit at once."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import psutil
import torch

from slm.limits import cores
from slm.spec import Hyperparameters

_CPU_MICRO_BATCH = 4
"""Small micro-batches waste little padding; 4 × 2 was as fast as 2 × 4 and 8 × 1 on two cores."""
_GPU_TOKENS = 8192
"""Padded tokens in a micro-batch of a GPU with 16 GB; scaled by its memory."""
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors")


@dataclass(frozen=True)
class Machine:
    """How a run computes. Kept in each checkpoint, so that a resumed run rounds exactly as before."""

    device: str
    """cpu, cuda or mps."""
    precision: str
    """fp32, or what matrix products are computed in: bf16, fp16. Weights that learn are always 32-bit."""
    micro_batch: int
    accumulation: int
    threads: int

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)


def choose(config: Hyperparameters, *, threads: int | None, earlier: Mapping[str, Any] | None = None) -> Machine:
    """The best of this machine; as far as the device is the same, what an `earlier` attempt used."""
    device = detect_device()
    micro = config.per_device_train_batch_size or default_micro_batch(device, config)
    micro = min(micro, config.batch_size)
    chosen = Machine(device, detect_precision(device), micro, math.ceil(config.batch_size / micro), threads or cores())
    if earlier is not None and earlier.get("device") == device and earlier.get("precision") == chosen.precision:
        same = {key: int(earlier[key]) for key in ("micro_batch", "accumulation", "threads") if key in earlier}
        return Machine(**{**chosen.as_fields(), **same})
    return chosen


def detect_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def detect_precision(device: str) -> str:
    """bf16 where the hardware multiplies matrices in it. AVX512-BF16 alone is no faster than fp32 (measured)."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu" and platform.machine() in ("x86_64", "AMD64") and torch.cpu._is_amx_tile_supported():
        return "bf16"
    return "fp32"


def default_micro_batch(device: str, config: Hyperparameters) -> int:
    """Examples computed at once: few on a processor, on a GPU as many of the longest as are likely to fit."""
    if device != "cuda":
        return _CPU_MICRO_BATCH
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    return max(1, int(_GPU_TOKENS * gigabytes / 16) // config.max_length)


def peak_memory(device: str) -> int:
    """The most bytes that this process has held so far: of the GPU's memory, or of the machine's."""
    if device == "cuda":
        return int(torch.cuda.max_memory_reserved())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Of everything that can change a number."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
