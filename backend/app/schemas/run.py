"""Wire shapes of runs, their events, checkpoints and curves."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, StrictBool

from app.schemas.common import Body, Instant, Wire


class Progress(Wire):
    """How far a run is; null where it is not known yet."""

    model_config = ConfigDict(from_attributes=True, extra="allow")

    phase: str | None = None
    """loading, preparing, training, evaluating, saving, downloading, converting."""
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    tokens_per_second: float | None = None
    loss: float | None = None


class RunError(Wire):
    """Why a run failed and what to do."""

    code: str
    message: str
    hint: str
    fault: str
    """`user` or `system`."""
    retryable: bool


class RunAnswer(Wire):
    """One attempt at long work."""

    id: str
    task: str
    """`train`, `simulate`, `pull`, `evaluate`, `predict`, `export`."""
    state: str
    """`queued`, `starting`, `running`, `completed`, `failed`, `cancelled`, `interrupted` (another attempt follows)."""
    attempt: int
    executor: str
    experiment_id: str | None
    model_id: str | None
    progress: Progress | None
    error: RunError | None
    result: dict[str, Any] | None
    """What it made, once it is completed: of an evaluation its `evaluation_id`."""
    resumed_from_step: int | None
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


class CancelBody(Body):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"save": True}})

    save: StrictBool = True
    """Keep a checkpoint of what was learned so far."""


class EventAnswer(Wire):
    """Something that a run reported."""

    id: int
    """Durable number within the experiment: `since` and `Last-Event-ID` go on from it."""
    run_id: str
    attempt: int
    seq: int
    type: str
    time: Instant
    payload: dict[str, Any]


class CheckpointAnswer(Wire):
    name: str
    step: int
    val_loss: float | None
    best: bool
    size_bytes: int
    created_at: str | None


class Column(Wire):
    step: list[int] = Field(examples=[[1, 2]])
    value: list[float] = Field(examples=[[2.31, 1.94]])
    time: list[Instant] = Field(examples=[["2026-11-24T02:07:15Z", "2026-11-24T02:07:19Z"]])


class LogAnswer(Wire):
    text: str
    """The end of the process's own output."""
    size_bytes: int
