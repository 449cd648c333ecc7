"""What a training knows about itself: kept with every checkpoint, so that a resumed run tells the same story."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slm.checkpoints import PROGRESS
from slm.train.machine import peak_memory

_RECENT = 20
"""Steps whose median time gives the speed."""
_FIRST_ETA = 3
"""Steps before an ETA is dared: the first ones warm up caches and hold the longest example."""


@dataclass
class Progress:
    """The course of a training up to `step`, over all its attempts."""

    step: int = 0
    machine: dict[str, Any] = field(default_factory=dict)
    """How it computes (`Machine.as_fields`)."""
    tokens: int = 0
    """Input tokens read so far, without padding."""
    seconds: float = 0.0
    """Spent training and validating."""
    cpu_seconds: float = 0.0
    """Processor time of all attempts, each from its start to the last checkpoint that counts (`Usage`)."""
    training_cpu_seconds: float = 0.0
    """The part of it that went into steps and validation."""
    peak_memory_bytes: int = 0
    """The most that any attempt held."""
    epoch_loss: float = 0.0
    epoch_tokens: int = 0
    """Summed loss and learned tokens since the last entry of the curve."""
    epochs: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float | None] = field(default_factory=list)
    """The curve: one entry for each epoch's end, and one for the last step."""
    best_step: int | None = None
    best_loss: float | None = None
    worse_in_a_row: int = 0
    """Evaluations since the best one."""
    unevaluated: bool = False
    """Stopped after a step but before the evaluation that belongs to it."""
    stopped_early: bool = False

    def save(self, folder: Path) -> None:
        (folder / PROGRESS).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Progress:
        return cls(**json.loads((folder / PROGRESS).read_bytes()))

    def learned(
        self, *, loss: float, learned_tokens: int, tokens: int, seconds: float, cpu_seconds: float = 0.0
    ) -> None:
        """Account for one optimizer step of mean loss `loss`."""
        self.step += 1
        self.epoch_loss += loss * learned_tokens
        self.epoch_tokens += learned_tokens
        self.tokens += tokens
        self.seconds += seconds
        self.training_cpu_seconds += cpu_seconds

    def evaluated(self, epoch: float, val_loss: float | None) -> bool:
        """Add an entry to the curve; whether it is the best so far."""
        self.epochs.append(epoch)
        self.train_loss.append(self.epoch_loss / max(self.epoch_tokens, 1))
        self.val_loss.append(val_loss)
        self.epoch_loss, self.epoch_tokens, self.unevaluated = 0.0, 0, False
        if val_loss is None:
            return False
        if self.best_loss is None or val_loss < self.best_loss:
            self.best_loss, self.best_step, self.worse_in_a_row = val_loss, self.step, 0
            return True
        self.worse_in_a_row += 1
        return False


class Usage:
    """What this attempt takes of the machine, added to what earlier ones took up to the checkpoint it went on from.

    Processor time is counted from here on, so that imports are left out; memory is the process's own peak, or that of
    the GPU where the model lives there.
    """

    def __init__(self, progress: Progress) -> None:
        self._earlier = progress.cpu_seconds - time.process_time()

    def note(self, progress: Progress) -> None:
        """Bring the progress up to date."""
        progress.cpu_seconds = round(self._earlier + time.process_time(), 3)
        peak = peak_memory(progress.machine.get("device", "cpu"))
        progress.peak_memory_bytes = max(progress.peak_memory_bytes, peak)


class Speed:
    """Seconds and tokens of recent steps of this attempt. Times are medians: one slow step does not frighten."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._count = 0
        self.start()

    def start(self) -> None:
        """Begin to time a step, or begin again after something else took time."""
        self._since, self._cpu_since = time.monotonic(), time.process_time()

    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._since

    def cpu(self) -> float:
        """Processor seconds since `start`, over all threads."""
        return time.process_time() - self._cpu_since

    def stop(self, tokens: int) -> float:
        """End a step of so many tokens; its seconds."""
        seconds = self.elapsed()
        self._steps.append((seconds, tokens))
        self._count += 1
        return seconds

    @property
    def tokens_per_second(self) -> float:
        seconds = sum(seconds for seconds, _ in self._steps)
        return round(sum(tokens for _, tokens in self._steps) / seconds, 2) if seconds > 0 else 0.0

    def eta(self, steps_left: int) -> float | None:
        """Seconds until the last step, or None while too little is known."""
        if self._count < _FIRST_ETA:
            return None
        return round(statistics.median(seconds for seconds, _ in self._steps) * steps_left, 1)


def tidy_epoch(step: int, steps_per_epoch: int) -> float:
    """Epochs done after `step`; whole numbers are exact."""
    whole, rest = divmod(step, steps_per_epoch)
    return float(whole) if rest == 0 else round(step / steps_per_epoch, 4)
