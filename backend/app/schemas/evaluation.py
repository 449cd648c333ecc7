"""Wire shapes of evaluations."""

from __future__ import annotations

from typing import Any

from app.schemas.common import Instant, Wire


class EvaluationAnswer(Wire):
    """An evaluation in the list."""

    id: str
    experiment_id: str
    created_at: Instant
    simulated: bool


class EvaluationDetail(EvaluationAnswer):
    """What a run proved, measured on rows it did not learn from; made up where `simulated`."""

    model_id: str
    dataset_id: str | None
    metrics: dict[str, float]
    """Of the tuned model."""
    base_metrics: dict[str, float]
    """Of the base model on the same rows."""
    baselines: dict[str, Any]
    """What anyone should beat, e.g. `few_shot`: the base with examples in its prompt."""
    intervals: dict[str, Any]
    """95 % intervals: metric → base, tuned, difference."""
    rows_scored: int | None
    rows_available: int | None
    rows_generated: int | None
    verdict: str | None
    planned: dict[str, float | None] | None = None
    """What was expected at creation: steps, tokens, seconds, memory_bytes, cpu_seconds."""
    actual: dict[str, float | None] | None = None
    """The same figures as they turned out."""
    loss_curve: dict[str, list[float]]
    training_statistics: dict[str, Any]


class SampleAnswer(Wire):
    """One scored row."""

    row: int
    prompt: str | None
    expected: str | None
    base_output: str | None
    tuned_output: str | None
    scores: dict[str, Any]
