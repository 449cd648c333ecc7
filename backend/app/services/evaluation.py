"""Evaluations and curves: what runs reported, in the form that readers want."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Artifact, Evaluation, Event, Experiment, Model
from app.services.listing import Page, newest_first

CURVES = {
    "train_loss": ("step", "loss"),
    "val_loss": ("evaluated", "val_loss"),
    "learning_rate": ("step", "learning_rate"),
    "grad_norm": ("step", "grad_norm"),
    "tokens_per_second": ("step", "tokens_per_second"),
}
"""Curve → (event type, field)."""
Points = list[tuple[int, float, int]]
"""(step, value, number of the event)."""
_AT_ONCE, _FEW_CHUNKS = 500, 8
"""Ids in one query, which databases limit; and how many such queries are cheaper than reading all rows."""


def listing(
    session: Session, page: Page, *, experiment_id: str | None, model_id: str | None, dataset_id: str | None
) -> Sequence[Evaluation]:
    """Those of experiments; those that were asked for by themselves only where model or dataset is named."""
    query = select(Evaluation)
    if experiment_id is not None:
        query = query.where(Evaluation.experiment_id == experiment_id)
    elif model_id is None and dataset_id is None:
        query = query.where(Evaluation.experiment_id.is_not(None))
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


def experiments_of(session: Session, rows: Iterable[Evaluation]) -> dict[str, str]:
    """For each evaluation its experiment: its own, or the one that made its model, as long as that is there."""
    rows = list(rows)
    alone = {row.model_id for row in rows if row.experiment_id is None}
    query = (
        select(Model.id, Experiment.id)
        .join(Experiment, Experiment.id == Model.experiment_id)
        .where(Model.id.in_(alone))
    )
    made_by: dict[str, str] = {}
    if alone:
        made_by.update((model_id, experiment_id) for model_id, experiment_id in session.execute(query))
    return {row.id: row.experiment_id or made_by.get(row.model_id, "") for row in rows}


def samples_file(session: Session, evaluation: Evaluation, data_dir: Path) -> Path | None:
    """The file of scored rows, if the run wrote one."""
    if evaluation.run_id is None:
        return None
    query = select(Artifact.path).where(Artifact.run_id == evaluation.run_id, Artifact.kind == "samples")
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
    The database takes the numbers out of the events, so that a run of 100,000 steps answers in a third of a second.
    """
    of_experiment = (Event.experiment_id == experiment_id, Event.number > since)
    restarts = _restarts(session, of_experiment)
    wanted = list(keys)
    columns: dict[str, dict[str, list[Any]]] = {}
    for kind in {CURVES[key][0] for key in wanted}:
        fields = {key: CURVES[key][1] for key in wanted if CURVES[key][0] == kind}
        query = (
            select(Event.number, Event.step, *(Event.payload[field].as_float() for field in fields.values()))
            .where(*of_experiment, Event.type == kind, Event.step.is_not(None))
            .order_by(Event.number)
        )
        rows = _not_superseded(session.execute(query), restarts)
        for place, key in enumerate(fields, start=2):
            told = [(row[1], row[place], row[0]) for row in rows if isinstance(row[place], int | float)]
            columns[key] = _column(session, of_experiment, kind, thin(told, points))
    return {key: columns[key] for key in wanted}


def _restarts(session: Session, of_experiment: tuple[ColumnElement[bool], ...]) -> list[tuple[int, int]]:
    """(number of the event, step from which it went on) of each later attempt."""
    query = select(Event.number, Event.payload).where(*of_experiment, Event.type == "started", Event.attempt > 1)
    found = session.execute(query.order_by(Event.number))
    return [(number, int(str(payload.get("resumed_from_step") or 0))) for number, payload in found]


def _not_superseded(rows: Iterable[Any], restarts: Sequence[tuple[int, int]]) -> list[Any]:
    """Rows (number, step, …) without those that a later attempt told again."""
    kept: list[Any] = []
    waiting = deque(restarts)
    for row in rows:
        while waiting and waiting[0][0] < row[0]:
            begin = waiting.popleft()[1]
            kept = [earlier for earlier in kept if earlier[1] <= begin]
        kept.append(row)
    for _, begin in waiting:
        kept = [earlier for earlier in kept if earlier[1] <= begin]
    return kept


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


def _column(
    session: Session, of_experiment: tuple[ColumnElement[bool], ...], kind: str, column: Points
) -> dict[str, list[Any]]:
    numbers = [number for _, _, number in column]
    query = select(Event.number, Event.time).where(*of_experiment, Event.type == kind)
    chunks = [numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE)]
    asked = [query.where(Event.number.in_(chunk)) for chunk in chunks] if len(chunks) <= _FEW_CHUNKS else [query]
    times = {number: time for part in asked for number, time in session.execute(part)}
    return {
        "step": [step for step, _, _ in column],
        "value": [float(value) for _, value, _ in column],
        "time": [times[number] for number in numbers],
    }
