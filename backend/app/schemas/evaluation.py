"""Wire shapes of evaluations."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from app.schemas.common import Body, Instant, Wire

_ID = "01a20b4e-acbc-7f03-9d20-ccef5efd5345"
_ID_PATTERN = r"^[^\x00]+$"


class NewEvaluation(Body):
    """Which model is to be scored on which data."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), json_schema_extra={"example": {"model_id": _ID, "dataset_id": _ID}}
    )

    model_id: str = Field(max_length=64, pattern=_ID_PATTERN)
    """A fine-tuned model or a base; its weights must be here."""
    dataset_id: str = Field(max_length=64, pattern=_ID_PATTERN)
    """Data that suit the method by which the model was trained."""


class EvaluationAnswer(Wire):
    """An evaluation in the list."""

    id: str
    experiment_id: str
    """Of an evaluation by itself: the experiment that made its model, or empty."""
    created_at: Instant
    simulated: bool


class Overlap(Wire):
    """Evaluation rows that were learned from. Each counts once, by its strictest kind."""

    exact: int
    """Equal to a training row."""
    normalised: int
    """Equal but for case, punctuation, white space and Unicode form."""
    near: int
    """Sharing 13 consecutive words that are not common among the training rows."""
    rows: int
    """Evaluation rows that were compared."""
    share: float
    """Of `rows`, how many overlap."""
    examples: list[dict[str, Any]]
    """`{row, training_row, kind}` for up to twenty, the strictest first; rows are lines of the files."""
    metrics_without: dict[str, float] | None = None
    """The tuned model's metrics again without the overlapping rows; null where there are none."""
    rows_without: int | None = None
    """Scored rows that do not overlap; null where none does."""
    base_metrics_without: dict[str, float] | None = None
    differences_without: dict[str, list[float]] | None = None
    """95 % intervals of (tuned − base) without the overlapping rows."""
    baselines_without: dict[str, Any] | None = None
    """The baselines' metrics without the overlapping rows, and the 95 % intervals of (tuned − it): name → metrics,
    differences."""
    rows_generated_without: int | None = None


class EvaluationDetail(EvaluationAnswer):
    """What a run proved, measured on rows it did not learn from; made up where `simulated`."""

    model_id: str
    dataset_id: str | None
    run_id: str | None
    method: str | None
    """The yardstick: `sft`, `pretrain`, `classify`, `mask`, `dpo`."""
    metrics: dict[str, float]
    """Of the tuned model."""
    base_metrics: dict[str, float]
    """Of the base model on the same rows; empty where a base was scored by itself."""
    metric_notes: dict[str, str] | None
    """What each metric means, in a sentence."""
    baselines: dict[str, Any]
    """What anyone should beat: name → note, metrics, intervals, differences (tuned − it). `few_shot`, `majority`,
    `tfidf_logreg`, `unigram`."""
    intervals: dict[str, Any]
    """95 % intervals: metric → base, tuned, difference (tuned − base), paired by row."""
    verdict: str | None
    """One sentence; "better" only where the interval of the difference excludes zero."""
    overlap: Overlap | None
    """Null where it is not known what the model learned from."""
    rows_scored: int | None
    rows_available: int | None
    rows_generated: int | None
    """Of those scored, how many were answered in words."""
    rows_chosen: str | None
    """How the scored rows were chosen among those available."""
    per_class: list[dict[str, Any]] | None
    """Of `classify`: label, support, and precision, recall and F1 of base and tuned."""
    confusion: dict[str, Any] | None
    """Of `classify`: labels, and counts of base and tuned by true label (rows) and given label (columns)."""
    planned: dict[str, float | None] | None
    """What was expected at creation: steps, tokens, seconds, memory_bytes, cpu_seconds."""
    actual: dict[str, float | None] | None
    """The same figures as they turned out."""
    loss_curve: dict[str, list[float | None]]
    """`epochs`, `train_loss`, `val_loss`, equally long; `val_loss` holds nulls where no row was held out."""
    training_statistics: dict[str, Any]


class SampleAnswer(Wire):
    """One scored row."""

    row: int
    """Its line in the data."""
    prompt: str | None
    expected: str | None
    """The true answer, or the true label."""
    base_output: str | None = None
    tuned_output: str | None
    scores: dict[str, Any]
    """Model → score → value."""
