"""What is known before anything is spent: previews of what would be learned, plans of what it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_client.answers import Answer


@dataclass(frozen=True, kw_only=True)
class Piece(Answer):
    """One token as a person reads it, and whether it is learned or only read."""

    text: str
    id: int
    learned: bool


@dataclass(frozen=True, kw_only=True)
class PreviewExample(Answer):
    """One sequence as training reads it. `cut` is the beginning of what `max_length` takes away, `dropped` why nothing
    is learned from the row."""

    line: int
    pieces: Sequence[Piece] = ()
    cut: Sequence[Piece] = ()
    cut_tokens: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    truncated: bool = False
    dropped: str | None = None
    label: str | None = None
    side: str | None = None


@dataclass(frozen=True, kw_only=True)
class Preview(Answer):
    """What would be learned of a dataset. `counts` and `lengths` are those of `rows_read` of `rows_total` rows."""

    method: str
    max_length: int
    base_model_id: str
    counts: Mapping[str, int] = field(default_factory=dict)
    lengths: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    examples: Sequence[PreviewExample] = ()
    rows_read: int = 0
    rows_total: int = 0


@dataclass(frozen=True, kw_only=True)
class Figure(Answer):
    """An expected figure, and the least and the most that it may come out at; `basis` is `formula` or `measured`."""

    value: float
    low: float | None = None
    """Null where the service does not tell."""
    high: float | None = None
    basis: str = "formula"


@dataclass(frozen=True, kw_only=True)
class Plan(Answer):
    """What a training would take: the resolved request with the reason of each default, figures, warnings."""

    executor: str
    method: str
    adapter: str
    steps: Figure
    tokens: Figure
    memory_bytes: Figure
    seconds: Figure
    checkpoint_bytes: Figure
    executor_reason: str = ""
    simulated: bool = False
    training_config: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: Figure | None = None
    warnings: Sequence[str] = ()
    overlap: Mapping[str, Any] | None = None
    train_examples: int = 0
    eval_examples: int = 0
    measured: bool = False
