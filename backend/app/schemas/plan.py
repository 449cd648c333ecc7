"""Wire shapes of a plan."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, JsonValue

from app.schemas.common import Wire

_EXAMPLE: dict[str, JsonValue] = {
    "executor": "local",
    "executor_reason": "Trains on this machine: the base model's weights are on this machine.",
    "simulated": False,
    "method": "sft",
    "adapter": "lora",
    "training_config": {"method": "sft", "adapter": "lora", "learning_rate": 0.0002, "epochs": 3, "batch_size": 8},
    "reasons": {"epochs": "three passes suit data sets of hundreds to thousands of rows."},
    "steps": {"value": 90, "low": 90, "high": 90, "basis": "formula"},
    "tokens": {"value": 75900, "low": 50600, "high": 113850, "basis": "formula"},
    "memory_bytes": {"value": 1700000000, "low": 1133333333, "high": 2550000000, "basis": "formula"},
    "seconds": {"value": 443.0, "low": 177.2, "high": 1107.5, "basis": "formula"},
    "cpu_seconds": {"value": 886.0, "low": 443.0, "high": 1772.0, "basis": "formula"},
    "checkpoint_bytes": {"value": 240000000, "low": 218181818, "high": 264000000, "basis": "formula"},
    "warnings": [],
    "overlap": None,
    "train_examples": 240,
    "eval_examples": 64,
    "measured": False,
}


class Figure(Wire):
    value: float
    low: float
    """The least that it may come out at, and `high` the most: of English text, on a machine that does little else."""
    high: float
    basis: Literal["formula", "measured"]


class Count(Wire):
    value: int
    low: int
    """The least that it may come out at, and `high` the most; equal where it is exact."""
    high: int
    basis: Literal["formula", "measured"]


class PlanAnswer(Wire):
    """What a training would take and what is to be known of it, before anything is created."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _EXAMPLE})

    executor: str
    executor_reason: str
    simulated: bool
    method: str
    adapter: str
    training_config: dict[str, Any]
    """As it would run: every hyperparameter, defaults included."""
    reasons: dict[str, str]
    """Of each default that was taken, a sentence."""
    steps: Count
    tokens: Count
    """Read in all steps together."""
    memory_bytes: Count
    """The most that the process holds."""
    seconds: Figure
    """Of the whole work: data, training, evaluation."""
    cpu_seconds: Figure | None = None
    """Of the whole work; null where a GPU does it."""
    checkpoint_bytes: Count
    """The most that checkpoints take on the disk at a time."""
    warnings: list[str]
    """What a creation would warn of, and what only a plan has the time to find out."""
    overlap: dict[str, Any] | None = None
    """Evaluation rows that are, or nearly are, training rows; null without an evaluation dataset."""
    train_examples: int
    eval_examples: int
    measured: bool
    """Whether a trial has replaced the formulas."""
