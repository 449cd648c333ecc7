"""Evaluations and curves: what runs reported, in the form that readers want."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Artifact, Evaluation, Event
from app.services.listing import Page, newest_first

CURVES = {
    "train_loss": ("step", "loss"),
    "val_loss": ("evaluated", "val_loss"),
    "learning_rate": ("step", "learning_rate"),
    "grad_norm": ("step", "grad_norm"),
    "tokens_per_second": ("step", "tokens_per_second"),
}
"""Curve → (event type, field)."""
Points = list[tuple[int, float, datetime]]


def listing(
    session: Session, page: Page, *, experiment_id: str | None, model_id: str | None, dataset_id: str | None
) -> Sequence[Evaluation]:
    query = select(Evaluation)
    if experiment_id is not None:
        query = query.where(Evaluation.experiment_id == experiment_id)
    if model_id is not None:
        query = query.where(Evaluation.model_id == model_id)
    if dataset_id is not None:
        query = query.where(Evaluation.dataset_id == dataset_id)
    return newest_first(session, query, Evaluation, page)


def get(session: Session, evaluation_id: str) -> Evaluation:
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None:
        raise NotFound("Evaluation not found")
    return evaluation


def samples_file(session: Session, evaluation: Evaluation, data_dir: Path) -> Path | None:
    """The file of scored rows, if the run wrote one."""
    query = select(Artifact.path).where(Artifact.model_id == evaluation.model_id, Artifact.kind == "samples")
    path = session.scalars(query).first()
    return data_dir / path if path else None


def read_samples(path: Path | None, *, offset: int, limit: int) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, offset, offset + limit)]


def curves(
    session: Session, experiment_id: str, *, keys: Iterable[str], since: int, points: int | None
) -> dict[str, dict[str, list[Any]]]:
    """Columns (step, value, time) of each curve, from events after number `since`, at most `points` a curve.

    A later attempt starts again from its checkpoint: what earlier attempts reported beyond that step is superseded.
    """
    wanted = {key: CURVES[key] for key in keys}
    found: dict[str, Points] = {key: [] for key in wanted}
    types = {"started", *(kind for kind, _ in wanted.values())}
    query = (
        select(Event.type, Event.attempt, Event.step, Event.time, Event.payload)
        .where(Event.experiment_id == experiment_id, Event.type.in_(types), Event.number > since)
        .order_by(Event.number)
    )
    for kind, attempt, step, time, payload in session.execute(query):
        if kind == "started":
            if attempt > 1:
                start = int(str(payload.get("resumed_from_step") or 0))
                found = {key: [point for point in column if point[0] <= start] for key, column in found.items()}
            continue
        for key, (source, field) in wanted.items():
            value = payload.get(field)
            if source == kind and isinstance(value, int | float) and step is not None:
                found[key].append((step, float(value), time))
    return {key: _column(thin(column, points)) for key, column in found.items()}


def thin(column: Points, points: int | None) -> Points:
    """At most `points` of them, keeping the lowest and highest of each bucket, so that spikes stay visible."""
    if points is None or len(column) <= points:
        return column
    buckets = max(points // 2, 1)
    kept: Points = []
    for number in range(buckets):
        part = column[len(column) * number // buckets : len(column) * (number + 1) // buckets]
        if part:
            low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
            kept.extend(sorted({low, high}, key=lambda point: point[0]))
    return kept


def _column(column: Points) -> dict[str, list[Any]]:
    return {
        "step": [step for step, _, _ in column],
        "value": [value for _, value, _ in column],
        "time": [time for _, _, time in column],
    }
